import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** A figure's result as Markdown: { columns, rows, verdicts, notes } under its title. */
export function section(figure, result, { runs, when, problems }) {
  const lines = [
    `## ${figure.name}: ${figure.title}`,
    '',
    `Target: ${figure.target}.`,
    '',
    ...table(result.columns, result.rows),
  ];
  if (result.verdicts?.length > 0) {
    lines.push(
      '',
      ...table(
        ['ratio', 'median of runs', 'from … to', 'target', ''],
        result.verdicts.map(({ what, value, spread, target, met }) => [
          what,
          show(value),
          spread,
          target,
          met ? 'met' : '**missed**',
        ]),
      ),
    );
  }
  for (const note of result.notes ?? []) lines.push('', note);
  for (const problem of problems) lines.push('', `Problem: ${problem}.`);
  lines.push('', `${runs} ${runs === 1 ? 'run' : 'runs'}, ${when}.${runs < 5 ? ' Too few runs to quote.' : ''}`);
  return lines.join('\n');
}

const table = (columns, rows) =>
  [columns, columns.map((_, i) => (i === 0 ? '---' : '---:')), ...rows].map((row) => `| ${row.join(' | ')} |`);

const show = (value) => (value === null ? '-' : value.toFixed(2));

/** Puts the sections into the file, each over its predecessor of the same name; the others stay as they were measured. */
export function write(file, head, sections, order) {
  const kept = new Map();
  if (existsSync(file)) {
    for (const text of readFileSync(file, 'utf8')
      .split(/^(?=## )/m)
      .slice(1))
      kept.set(nameOf(text), text.trim());
  }
  for (const text of sections) kept.set(nameOf(text), text);
  const sorted = [...kept].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b)).map(([, text]) => text);
  writeFileSync(file, `${[head, ...sorted].join('\n\n')}\n`);
}

const nameOf = (text) => /^## ([\w-]+):/.exec(text)[1];
