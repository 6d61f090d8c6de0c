/** What the count must come to, and what it was officially (https://en.wikipedia.org/wiki/2009_Burlington_mayoral_election). */
import type { Results, Tally } from './count-results.ts';

type Figure = number | string;

interface Row {
  readonly what: string;
  readonly counted: Figure;
  /** What these ballots must come to. */
  readonly expected: Figure;
  /** Null: not comparable, the official count had three rounds: Smith, Simpson and the write-ins went at once. */
  readonly official: Figure | null;
}

/** The official ones; the labels are those of the file. */
const FIRST_PREFERENCES = [
  ['Kurt Wright', 2951],
  ['Bob Kiss', 2585],
  ['Andy Montroll', 2063],
  ['Dan Smith', 1306],
  ['Write-In', 36],
  ['James Simpson', 35],
] as const;

export interface Comparison {
  readonly matches: boolean;
  readonly lines: readonly string[];
}

/** Compares the final results of all ballots: every figure must be as expected, and nobody may be missing or added. */
export function compareWithOfficial(results: Results): Comparison {
  const last = results.rounds.at(-1);
  const first = tableOf(results.tallies);
  const final = tableOf(last?.tallies ?? []);
  const same = (what: string, counted: Figure, official: Figure): Row => ({
    what,
    counted,
    expected: official,
    official,
  });
  const rows: Row[] = [
    same('ballots counted', results.ballotCount, 8976),
    ...FIRST_PREFERENCES.map(([label, votes]) =>
      same(`first preferences: ${label}`, first.get(label) ?? 'none', votes),
    ),
    { what: 'rounds', counted: results.rounds.length, expected: 5, official: null },
    same('final round: Bob Kiss', final.get('Bob Kiss') ?? 'none', 4313),
    // One of his was on a ballot that is cut before its tie.
    { what: 'final round: Kurt Wright', counted: final.get('Kurt Wright') ?? 'none', expected: 4060, official: 4061 },
    { what: 'final round: exhausted', counted: last?.exhausted ?? 'none', expected: 603, official: null },
    same('winner', results.winner ?? 'none', 'Bob Kiss'),
  ];
  const isComplete = first.size === FIRST_PREFERENCES.length && final.size === 2;
  return {
    matches: isComplete && rows.every(({ counted, expected }) => counted === expected),
    lines: [line('', 'counted', 'official', ''), ...rows.map(describe)],
  };
}

function tableOf(tallies: readonly Tally[]): Map<string, number> {
  return new Map(tallies.map(({ label, votes }) => [label, votes]));
}

function describe({ what, counted, expected, official }: Row): string {
  let verdict = 'same';
  if (counted !== expected) verdict = `WRONG: must be ${expected}`;
  else if (official === null) verdict = 'as it must be';
  else if (official !== expected) verdict = 'as it must be: one of the cut ballots';
  return line(what, counted, official ?? '', verdict);
}

function line(what: string, counted: Figure, official: Figure, verdict: string): string {
  const columns = [what.padEnd(34), String(counted).padStart(8), String(official).padStart(9), ` ${verdict}`];
  return `  ${columns.join(' ')}`.trimEnd();
}
