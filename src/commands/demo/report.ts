/** The runoff, round by round, as a table. */
import type { Results } from './count-results.ts';

const COLUMN = 10;
const LABEL = 15;

/** One column a round; a choice that is gone has no figure. */
export function runoffTable({ rounds, tallies, winner }: Results): string[] {
  const row = (label: string, cells: readonly (string | number)[]): string =>
    `  ${label.padEnd(LABEL)}${cells.map((cell) => String(cell).padStart(COLUMN)).join('')}`.trimEnd();
  const byStrength = [...tallies].sort((a, b) => survived(b.label) - survived(a.label) || b.votes - a.votes);

  function survived(label: string): number {
    return (
      rounds.filter((round) => round.tallies.some((tally) => tally.label === label)).length + (label === winner ? 1 : 0)
    );
  }

  return [
    row(
      '',
      rounds.map(({ number }) => `round ${number}`),
    ),
    ...byStrength.map(({ label }) =>
      row(
        label,
        rounds.map((round) => round.tallies.find((tally) => tally.label === label)?.votes ?? ''),
      ),
    ),
    row(
      'exhausted',
      rounds.map(({ exhausted }) => exhausted),
    ),
    row(
      'eliminated',
      rounds.map(({ eliminated }) => eliminated.map(surname).join(', ') || '-'),
    ),
    `  ${winner === null ? 'Nobody wins.' : `${winner} wins.`}`,
  ];
}

export function surname(label: string): string {
  return label.split(' ').at(-1) ?? label;
}
