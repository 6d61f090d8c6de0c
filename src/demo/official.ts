/** What the count must come to, and what it was officially (https://en.wikipedia.org/wiki/2009_Burlington_mayoral_election). */
import type { Results } from './results.ts';

/** The official first preferences; the labels are those of the file. */
const FIRST_PREFERENCES: Readonly<Record<string, number>> = {
  'Kurt Wright': 2951,
  'Bob Kiss': 2585,
  'Andy Montroll': 2063,
  'Dan Smith': 1306,
  'Write-In': 36,
  'James Simpson': 35,
};

const BALLOTS = 8976;
const ROUNDS = 5;
const EXHAUSTED = 603;
const WINNER = 'Bob Kiss';

/** Of the last round. Officially Wright had one more: his was on one of the ballots that are cut before their tie. */
const FINAL_ROUND: Readonly<Record<string, { readonly expected: number; readonly official: number }>> = {
  'Bob Kiss': { expected: 4313, official: 4313 },
  'Kurt Wright': { expected: 4060, official: 4061 },
};

export interface Comparison {
  readonly matches: boolean;
  readonly lines: readonly string[];
}

/** Compares final results of all ballots. Every figure must be the expected one, and nothing may be missing or added. */
export function compareWithOfficial(results: Results): Comparison {
  const lines: string[] = [];
  let matches = true;
  const compare = (what: string, counted: number | string, expected: number | string, official = expected): void => {
    const isExpected = counted === expected;
    matches &&= isExpected;
    const verdict = !isExpected ? `WRONG, must be ${expected}` : expected === official ? '' : '1 on a cut ballot';
    lines.push(`  ${what.padEnd(36)}${String(counted).padStart(9)}${String(official).padStart(10)}   ${verdict}`.trimEnd());
  };
  const compareTallies = (
    what: string,
    tallies: Results['tallies'],
    figures: Readonly<Record<string, { readonly expected: number; readonly official: number }>>,
  ): void => {
    const counted = new Map(tallies.map(({ label, votes }) => [label, votes]));
    for (const [label, { expected, official }] of Object.entries(figures)) {
      compare(`${what}, ${label}`, counted.get(label) ?? 'none', expected, official);
    }
    for (const { label, votes } of tallies) if (!Object.hasOwn(figures, label)) compare(`${what}, ${label}`, votes, 'none');
  };

  const last = results.rounds.at(-1);
  lines.push(`  ${''.padEnd(36)}${'counted'.padStart(9)}${'official'.padStart(10)}`);
  compare('ballots', results.ballotCount, BALLOTS);
  const first = Object.entries(FIRST_PREFERENCES).map(
    ([label, votes]) => [label, { expected: votes, official: votes }] as const,
  );
  compareTallies('first preferences', results.tallies, Object.fromEntries(first));
  compare('rounds', results.rounds.length, ROUNDS, 'other');
  compareTallies('last round', last?.tallies ?? [], FINAL_ROUND);
  compare('last round, exhausted', last?.exhausted ?? 'none', EXHAUSTED);
  compare('winner', results.winner ?? 'none', WINNER);
  return { matches, lines };
}
