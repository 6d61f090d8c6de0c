/**
 * The broadcasts of all polls take turns, slice by slice. While votes keep the loop busy, broadcasts take about half of it
 * and no more: after what they took, the loop is left to the votes for as long, or until it has nothing else to do. A pass
 * that rests is a pass that ends later, and who is reached by it gets what is newest then, so the interval between two
 * updates stretches by itself, and shrinks again. A vote that waits for the database alone is nothing to rest for.
 */
import type { Stop } from '../ports/clock.ts';

/** So much may be taken before there is a rest, milliseconds. */
const ALLOWANCE_MS = 2;
/** A turn of the loop that takes less, milliseconds, had nothing to do. */
const NOTHING_MS = 0.05;

export interface BroadcastQueue {
  /** Calls `slice` until it says that it is done, from the loop's next turn on: the votes that it tells of are answered first. */
  run(slice: () => 'done' | 'more'): void;
  stop: Stop;
}

/** The event loop, as a pace sees it. */
export interface EventLoop {
  /** Milliseconds with fractions. */
  now(): number;
  /** Runs once the loop has seen to everything else that is ready. */
  next(run: () => void): void;
}

const eventLoop: EventLoop = { now: () => performance.now(), next: (run) => void setImmediate(run) };

export function makeBroadcastQueue(votesWait: () => boolean, loop = eventLoop): BroadcastQueue {
  const queue: (() => 'done' | 'more')[] = [];
  let active = false;
  /** What was taken and not yet rested for. */
  let debt = 0;
  let resting = false;
  /** When broadcasts last had the loop, or looked at it. */
  let left = 0;

  function turn(): void {
    const slice = queue.shift();
    if (slice !== undefined) {
      const started = loop.now();
      if (slice() === 'more') queue.push(slice);
      left = loop.now();
      debt += left - started;
      resting = debt >= ALLOWANCE_MS;
    }
    next();
  }

  function next(): void {
    if (queue.length > 0) loop.next(look);
    else active = false;
  }

  function look(): void {
    const now = loop.now();
    const others = now - left;
    left = now;
    debt = others < NOTHING_MS ? 0 : Math.max(0, debt - others);
    resting = resting && debt > 0 && votesWait();
    if (resting) next();
    else turn();
  }

  return {
    run(slice) {
      queue.push(slice);
      if (active) return;
      active = true;
      next();
    },
    stop() {
      queue.length = 0;
    },
  };
}
