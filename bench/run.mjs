// The driver: `node run.mjs [figure …] [options]`. Without names it measures all figures. README.md explains the options.
import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeBench } from './lib/bench.mjs';
import { machine } from './lib/machine.mjs';
import { section, write } from './lib/report.mjs';

const NAMES = [
  'fanout-ws',
  'fanout-sse',
  'fanout-busy',
  'last-of-10000',
  'memory',
  'votes-http',
  'votes-ws',
  'votes-ranked',
  'votes-pglite',
  'ack-p99',
  'many-polls',
  'reconcile',
  'transports',
];
const here = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    warmup: { type: 'string', default: '2' },
    only: { type: 'string' },
    watchers: { type: 'string' },
    connections: { type: 'string', default: '256' },
    ahead: { type: 'string', default: '0' },
    ranks: { type: 'string', default: '3' },
    store: { type: 'string', default: 'postgres' },
    'pg-core': { type: 'string', default: 'any' },
    profile: { type: 'boolean', default: false },
    'no-write': { type: 'boolean', default: false },
  },
});

const chosen = positionals.length > 0 ? positionals : NAMES;
if (!existsSync(here('./node_modules'))) {
  console.error('The peers are not installed: npm ci --prefix bench');
  process.exit(2);
}
const unknown = chosen.filter((name) => !NAMES.includes(name));
if (unknown.length > 0) {
  console.error(`No such figure: ${unknown.join(', ')}. There are: ${NAMES.join(', ')}.`);
  process.exit(2);
}

const profile = values.profile ? here('./profiles') : undefined;
if (profile !== undefined) mkdirSync(profile, { recursive: true });

const bench = makeBench({
  runs: Number(values.runs),
  seconds: Number(values.seconds),
  warmup: Number(values.warmup),
  only: values.only?.split(','),
  watchers: values.watchers === undefined ? undefined : Number(values.watchers),
  connections: Number(values.connections),
  ahead: Number(values.ahead),
  ranks: Number(values.ranks),
  store: values.store,
  pgCore: values['pg-core'],
  profile,
});

const sections = [];
try {
  for (const name of chosen) {
    const figure = await import(`./figures/${name}.mjs`);
    bench.problems.length = 0;
    console.log(`\n${figure.name}: ${figure.title}`);
    const result = await figure.run(bench);
    const text = section(figure, result, {
      runs: bench.runs,
      when: new Date().toISOString().slice(0, 16).replace('T', ' '),
      problems: bench.problems,
    });
    console.log(`\n${text}\n`);
    if (result.rows.length > 0) sections.push(text);
  }
} finally {
  // A profiled server is a slowed server: its figures are not kept.
  if (!values['no-write'] && profile === undefined && sections.length > 0) {
    write(here('./RESULTS.md'), machine(bench.postgres()), sections, NAMES);
    console.log('written: bench/RESULTS.md');
  }
  await bench.stop();
}
