/** From counts (tally key to votes) to results. Pure; the same counts give the same results everywhere. */
import type { Poll, PollStatus, ResultsVisibility } from './poll.ts';
import { choiceId } from './poll.ts';
import { countRunoff, type RankedOrder } from './runoff.ts';

/** How often each tally key stands on a ballot; see `ballot.ts` for what a key is. */
export type Counts = Map<string, number>;

export interface Tally {
  readonly choiceId: string;
  readonly label: string;
  readonly votes: number;
  /** Of the ballot count, 0 to 1; 0 where there is no ballot. */
  readonly share: number;
}

export interface ChoiceView {
  readonly id: string;
  readonly label: string;
  /** Place in the poll's order, from 0. */
  readonly position: number;
}

export interface RunoffRound {
  readonly number: number;
  readonly tallies: readonly Tally[];
  readonly eliminated: readonly ChoiceView[];
  readonly exhausted: number;
}

export interface RatingSummary {
  readonly mean: number | null;
  readonly median: number | null;
  readonly histogram: readonly { readonly value: number; readonly votes: number }[];
}

/** The whole counted state of a poll at one version, as plain data: it replaces all that came before. */
export interface Results {
  readonly pollId: string;
  readonly version: number;
  readonly status: PollStatus;
  /** Who may see what follows: of the same moment as the counts, so that neither is judged by another's. */
  readonly visibility: ResultsVisibility;
  readonly ballotCount: number;
  readonly tallies: readonly Tally[];
  readonly runoff: { readonly rounds: readonly RunoffRound[]; readonly winner: ChoiceView | null } | null;
  readonly rating: RatingSummary | null;
  /** Milliseconds since 1970. */
  readonly updatedAt: number;
}

/** Adds (or with -1 takes away) one ballot's content. Keys that fall to zero are dropped. */
export function addContent(counts: Counts, content: string, delta: 1 | -1): void {
  for (const key of content.split(' ')) {
    const votes = (counts.get(key) ?? 0) + delta;
    if (votes === 0) counts.delete(key);
    else counts.set(key, votes);
  }
}

export function countResults(
  poll: Poll,
  at: { readonly version: number; readonly ballotCount: number; readonly updatedAt: number },
  counts: Counts,
): Results {
  const { id: pollId, status, resultsVisibility: visibility } = poll;
  const head = { pollId, version: at.version, status, visibility, ballotCount: at.ballotCount };
  if (poll.kind === 'RATING') {
    return { ...head, tallies: [], runoff: null, rating: summarize(poll, counts), updatedAt: at.updatedAt };
  }
  const view = new Map(
    poll.choices.map(({ n, label }, position) => [n, { id: choiceId(poll.id, n), label, position }] as const),
  );
  const tallies = (votes: ReadonlyMap<number, number>): Tally[] => {
    const list: Tally[] = [];
    for (const [n, choice] of view) {
      const count = votes.get(n);
      if (count !== undefined) {
        list.push({
          choiceId: choice.id,
          label: choice.label,
          votes: count,
          share: at.ballotCount === 0 ? 0 : count / at.ballotCount,
        });
      }
    }
    return list;
  };
  if (poll.kind !== 'RANKED') {
    const votes = new Map(poll.choices.map(({ n }) => [n, counts.get(String(n)) ?? 0]));
    return { ...head, tallies: tallies(votes), runoff: null, rating: null, updatedAt: at.updatedAt };
  }
  const count = countRunoff(
    poll.choices.map(({ n }) => n),
    orders(counts),
  );
  const seen = (n: number): ChoiceView => view.get(n) ?? { id: choiceId(poll.id, n), label: '', position: -1 };
  const rounds = count.rounds.map((round, index) => ({
    number: index + 1,
    tallies: tallies(round.votes),
    eliminated: round.eliminated.map(seen),
    exhausted: round.exhausted,
  }));
  const winner = count.winner === null ? null : seen(count.winner);
  return {
    ...head,
    tallies: rounds[0]?.tallies ?? [],
    runoff: { rounds, winner },
    rating: null,
    updatedAt: at.updatedAt,
  };
}

// A RANKED poll is counted again with every update, and its orders hardly change: their parsed form stays beside the counts.
const parsed = new WeakMap<Counts, Map<string, readonly number[]>>();

function* orders(counts: Counts): Generator<RankedOrder> {
  let known = parsed.get(counts);
  if (known === undefined) parsed.set(counts, (known = new Map()));
  for (const [key, votes] of counts) {
    let order = known.get(key);
    if (order === undefined) known.set(key, (order = key.split(',').map(Number)));
    yield { order, votes };
  }
}

function summarize(poll: Poll, counts: Counts): RatingSummary {
  const { min, max } = poll.ratingScale ?? { min: 0, max: 0 };
  const histogram: { value: number; votes: number }[] = [];
  let total = 0;
  let sum = 0;
  for (let value = min; value <= max; value++) {
    const votes = counts.get(String(value)) ?? 0;
    histogram.push({ value, votes });
    total += votes;
    sum += value * votes;
  }
  if (total === 0) return { mean: null, median: null, histogram };
  const at = (rank: number): number => {
    let passed = 0;
    for (const bucket of histogram) {
      passed += bucket.votes;
      if (passed > rank) return bucket.value;
    }
    return max;
  };
  return { mean: sum / total, median: (at(Math.floor((total - 1) / 2)) + at(Math.floor(total / 2))) / 2, histogram };
}
