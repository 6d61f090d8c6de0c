/** What the live results look like; pure. */

import type { Results } from './count-results.ts';
import { surname } from './report.ts';

export interface Scene {
  /** The newest that arrived; null until the first. */
  readonly results: Results | null;
  /** Ballots counted a second, as the results say. */
  readonly pace: number;
  /** Ballots that the server has acknowledged. */
  readonly cast: number;
  readonly total: number;
}

export interface Style {
  readonly columns: number;
  readonly isUnicode: boolean;
  readonly isColored: boolean;
}

/** A full bar is at least this share, so that bars move from the first ballot on and do not jump. */
const FULL_SHARE = 0.5;
const COLORS = [32, 34, 35, 33, 31, 36];
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** The lines of a terminal's picture, none longer than `columns`. */
export function drawScene({ results, pace, cast, total }: Scene, style: Style): string[] {
  const tallies = results?.tallies ?? [];
  const names = Math.max(0, ...tallies.map(({ label }) => label.length));
  const figures = `${'0'.repeat(6)}  100.0 %`.length;
  const space = Math.max(4, Math.min(60, style.columns - names - figures - 8));
  const full = Math.max(FULL_SHARE, ...tallies.map(({ share }) => share));
  const lines = tallies.map(({ label, votes, share }, index) => {
    const bar = drawBar((share / full) * space, space, style);
    const percent = (share * 100).toFixed(1).padStart(5);
    return `  ${label.padEnd(names)}  ${paint(bar, index, style)}  ${String(votes).padStart(6)}  ${percent} %`;
  });
  const width = Math.max(4, Math.min(60, style.columns - 34));
  const done = drawBar((cast / total) * width, width, style);
  return [
    '',
    ...lines,
    '',
    cut(`  counted ${results?.ballotCount ?? 0} ballots, ${pace} votes/s, version ${results?.version ?? 0}`, style),
    cut(`  ${standing(results)}`, style),
    `  cast [${done}] ${cast} of ${total}`,
  ];
}

/** The same in one line, for logs. */
export function describeScene({ results, pace, cast, total }: Scene): string {
  const tallies = (results?.tallies ?? []).map(({ label, votes }) => `${surname(label)} ${votes}`);
  const percent = String(Math.floor((cast / total) * 100)).padStart(3);
  const counted = `${cast} cast, ${results?.ballotCount ?? 0} counted, ${pace} votes/s, version ${results?.version ?? 0}`;
  return `${percent} %  ${counted}: ${tallies.join(', ')}`;
}

function standing(results: Results | null): string {
  const last = results?.rounds.at(-1);
  if (results === null || results.winner === null || last === undefined) return 'waiting for the first ballots';
  const tallies = [...last.tallies].sort((a, b) => b.votes - a.votes).slice(0, 2);
  const count = tallies.map(({ label, votes }) => `${surname(label)} ${votes}`).join(', ');
  const verdict = results.isFinal ? `runoff: ${results.winner} wins` : `runoff so far: ${results.winner} leads`;
  return `${verdict} in round ${last.number} (${count})`;
}

function drawBar(filled: number, space: number, { isUnicode }: Style): string {
  const eighths = Math.round(Math.min(filled, space) * 8);
  const bar = isUnicode ? '█'.repeat(eighths >> 3) + (EIGHTHS[eighths & 7] ?? '') : '#'.repeat(Math.round(eighths / 8));
  return bar.padEnd(space);
}

function paint(text: string, index: number, { isColored }: Style): string {
  return isColored ? `\x1b[${COLORS[index % COLORS.length]}m${text}\x1b[0m` : text;
}

function cut(line: string, { columns }: Style): string {
  return line.slice(0, columns);
}
