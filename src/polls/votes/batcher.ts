/**
 * Ballots into batches: all that arrive while a batch is being committed form the next one. There is no timer: a lone
 * vote waits only for the end of the loop's turn. Each vote is answered after the commit that holds it (V1).
 *
 * Voters who wait for their answers and come back come in step with their batch: with one batch much larger than the one
 * before it, this process would idle while the large one is committed, and the database while it is answered, for ever.
 * So such a batch is shared with the next one, and from then on one is committed while another is answered and made.
 *
 * A voter stands at most once in a batch: the same ballot again shares the first one's outcome (V3), another one waits
 * for the next batch, and what comes behind it as well: the ballot that was cast last is the one that stands. The number
 * of waiting ballots is bounded (V9).
 */
import { PollcastError, RateLimitedError, UnavailableError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { BallotEntry, CastOutcome, PollChange, Store } from '../../ports/store.ts';

export interface Batcher {
  /** Rejects with `RateLimitedError` at once when the intake is full, with `UnavailableError` when the store does not answer. */
  cast(entry: BallotEntry): Promise<CastOutcome>;
  readonly waiting: number;
  /** Takes nothing more and resolves when all that was taken is answered. */
  drain(): Promise<void>;
}

export interface BatcherOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Called after each commit, before its votes are answered. */
  readonly onCommitted: (changes: readonly PollChange[]) => void;
  readonly onBatch?: (size: number, milliseconds: number) => void;
  readonly maxWaiting: number;
}

/** Fewer ballots are committed so fast that nothing is gained by sharing them. */
const WORTH_SHARING = 16;

interface Waiting {
  readonly entry: BallotEntry;
  readonly resolve: (outcome: CastOutcome) => void;
  readonly reject: (error: unknown) => void;
  /** The same ballot of the same voter, sent again meanwhile. */
  repeats: Waiting[] | null;
}

export function makeBatcher(options: BatcherOptions): Batcher {
  const { store, clock } = options;
  let queue: Waiting[] = [];
  let running = false;
  let draining = false;
  let count = 0;
  let lastRate = 1_000;
  const idle: (() => void)[] = [];

  return {
    cast(entry) {
      if (draining) return Promise.reject(new UnavailableError('The server is shutting down; try again.'));
      if (count >= options.maxWaiting) {
        const retryAfterMs = Math.ceil((count / lastRate) * 1_000);
        return Promise.reject(
          new RateLimitedError(`Too many votes are waiting; try again in ${retryAfterMs} ms.`, retryAfterMs),
        );
      }
      return new Promise((resolve, reject) => {
        count++;
        queue.push({ entry, resolve, reject, repeats: null });
        if (!running) {
          running = true;
          setImmediate(run);
        }
      });
    },
    get waiting() {
      return count;
    },
    async drain() {
      draining = true;
      if (running) await new Promise<void>((resolve) => idle.push(resolve));
    },
  };

  async function run(): Promise<void> {
    let before = 0;
    while (queue.length > 0) {
      const batch = nextBatch(mostOf(queue.length, before));
      before = batch.length;
      const started = performance.now();
      await commit(batch);
      const took = performance.now() - started;
      lastRate = Math.max(1, (batch.length / Math.max(took, 0.1)) * 1_000);
      options.onBatch?.(batch.length, took);
    }
    running = false;
    for (const resolve of idle.splice(0)) resolve();
  }

  function mostOf(waiting: number, before: number): number {
    const isMuchMore = before > 0 && waiting >= WORTH_SHARING && waiting > 2 * before;
    return isMuchMore ? Math.min(store.maxBatch, Math.ceil((waiting + before) / 2)) : store.maxBatch;
  }

  function nextBatch(most: number): Waiting[] {
    const batch: Waiting[] = [];
    const later: Waiting[] = [];
    /** The last of each voter. */
    const voters = new Map<string, Waiting>();
    let taken = 0;
    for (const item of queue) {
      if (batch.length >= most) break;
      taken++;
      const voter = `${item.entry.pollId} ${item.entry.voterKey}`;
      const last = voters.get(voter);
      if (
        last !== undefined &&
        last.entry.content === item.entry.content &&
        last.entry.revision === item.entry.revision
      ) {
        last.repeats ??= [];
        last.repeats.push(item);
        continue;
      }
      voters.set(voter, item);
      if (last === undefined) batch.push(item);
      else later.push(item);
    }
    queue = later.concat(queue.slice(taken));
    return batch;
  }

  async function commit(batch: readonly Waiting[]): Promise<void> {
    try {
      const result = await store.castBallots(
        batch.map((item) => item.entry),
        clock.now(),
      );
      options.onCommitted(result.changes);
      for (const [index, item] of batch.entries()) {
        answer(item, result.outcomes[index] ?? { kind: 'STALE' });
      }
    } catch (error) {
      // Not the database's absence: one entry may be at fault, and it must cost no other anything (V8).
      if (batch.length > 1 && !(error instanceof PollcastError)) {
        const middle = batch.length >> 1;
        await commit(batch.slice(0, middle));
        await commit(batch.slice(middle));
        return;
      }
      for (const item of batch) {
        for (const each of [item, ...(item.repeats ?? [])]) {
          count--;
          each.reject(error);
        }
      }
    }
  }

  function answer(item: Waiting, outcome: CastOutcome): void {
    count--;
    item.resolve(outcome);
    if (item.repeats === null) return;
    const again: CastOutcome =
      outcome.kind === 'RECORDED' || outcome.kind === 'REPLACED'
        ? { kind: 'UNCHANGED', receipt: outcome.receipt }
        : outcome;
    for (const repeat of item.repeats) {
      count--;
      repeat.resolve(again);
    }
  }
}
