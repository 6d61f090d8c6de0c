/**
 * Watched polls are compared with the database, a thousand in one query: every few seconds, and whenever something may have
 * been missed. What other instances did is seen here, whatever was announced and whatever was lost (M2). Never two at once.
 */
import type { Clock, Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Store } from '../ports/store.ts';
import type { CachedPoll, PollCache } from './poll-cache.ts';

/** Instances that lost the bus together do not ask together. */
const JITTER_MS = 100;
/** 10 000 in one query keep the event loop for 17 ms, in ten queries for 3 ms each, and cost half as much. */
const AT_ONCE = 1_000;
/** Looks at polls that are behind, side by side. */
const LOOKS = 8;

export interface Reconciler {
  /** Compares this one soon, together with all others that are asked for by then. */
  soon(known: CachedPoll): void;
  stop: Stop;
}

export function makeReconciler(options: {
  readonly store: Store;
  readonly cache: PollCache;
  readonly clock: Clock;
  readonly log: Log;
  readonly everyMs: number;
  readonly watched: () => readonly CachedPoll[];
}): Reconciler {
  const { store, cache, clock, log } = options;
  let wanted = new Set<CachedPoll>();
  let waiting: Stop | null = null;
  let running = false;
  let stopped = false;
  // Nobody else writes there.
  const stopRounds = store.exclusive
    ? () => {}
    : clock.every(options.everyMs, () => {
        if (!running) void run(options.watched());
      });

  return {
    soon(known) {
      wanted.add(known);
      wait();
    },
    stop() {
      stopped = true;
      stopRounds();
      waiting?.();
    },
  };

  function wait(): void {
    if (waiting !== null || running || stopped || wanted.size === 0) return;
    waiting = clock.after(Math.random() * JITTER_MS, () => {
      waiting = null;
      const polls = [...wanted];
      wanted = new Set();
      void run(polls);
    });
  }

  async function run(polls: readonly CachedPoll[]): Promise<void> {
    if (polls.length === 0) return;
    if (running) {
      for (const known of polls) wanted.add(known);
      return;
    }
    running = true;
    try {
      const behind: CachedPoll[] = [];
      for (let from = 0; from < polls.length && !stopped; from += AT_ONCE) {
        behind.push(...(await compare(polls.slice(from, from + AT_ONCE))));
      }
      const look = async (): Promise<void> => {
        for (let known = behind.pop(); known !== undefined; known = behind.pop()) await cache.refresh(known);
      };
      await Promise.all(Array.from({ length: LOOKS }, look));
    } catch (error) {
      log.warn({ err: error }, 'watched polls could not be compared with the database; the next look comes');
    } finally {
      running = false;
      wait();
    }
  }

  /** Those that the database has otherwise. */
  async function compare(polls: readonly CachedPoll[]): Promise<CachedPoll[]> {
    const before = polls.map(({ state }) => state);
    const cursors = await store.cursors(polls.map(({ id }) => id));
    return polls.filter((known, index) => {
      const now = cursors.get(known.id);
      if (known.state === null) return false;
      // Gone, or gone back, unless it moved while we looked.
      const odd = now === undefined || (known.state === before[index] && now.version < known.state.version);
      if (odd) cache.invalidate(known);
      return (now !== undefined && cache.noteVersion(known, now.version, now.revision)) || odd;
    });
  }
}
