/** Begins a CSV file that Excel reads as UTF-8. */
export const BYTE_ORDER_MARK = '\uFEFF';

/**
 * One line of CSV (RFC 4180). A text that a spreadsheet would run as a formula gets an apostrophe in front. A text
 * with a separator of any spreadsheet is quoted, so that it stays one cell there.
 */
export function csvLine(cells: readonly (string | number | null)[]): string {
  return `${cells.map(cell).join(',')}\r\n`;
}

function cell(value: string | number | null): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const safe = safeText(value);
  return /[",;|\t\r\n]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Some programs trim before they look for a formula, and full-width signs count too. */
function safeText(value: string): string {
  return /^[\s\0]*[=+\-@＝＋－＠]|^[\t\r\n]/.test(value) ? `'${value}` : value;
}

/** Column names that stay different as cells: a name that is taken gets a number behind it. */
export function columnNames(fixed: readonly string[], names: readonly string[]): string[] {
  const taken = new Set(fixed);
  const unique = names.map((name) => {
    let column = name;
    for (let count = 2; taken.has(safeText(column)); count++) column = `${name} (${count})`;
    taken.add(safeText(column));
    return column;
  });
  return [...fixed, ...unique];
}
