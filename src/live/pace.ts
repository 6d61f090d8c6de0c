/**
 * The broadcasts of all polls take turns, slice by slice. While votes wait, they take about half of the loop and no more:
 * after what they took, they rest as long. A pass that rests is a pass that ends later, and who is reached by it gets what is
 * newest then, so the interval between two updates stretches by itself, and shrinks again.
 */
import type { Clock, Stop } from '../core/ports.ts';

/** So much may be taken at once before there is a rest, milliseconds: resting for less is not worth a timer. */
const ALLOWANCE_MS = 2;

export interface Pace {
  /** Calls `slice` until it says that it is done: at once where nothing is to be waited for. */
  run(slice: () => 'done' | 'more'): void;
  stop: Stop;
}

/** `now`: milliseconds with fractions. */
export function makePace(clock: Clock, votesWait: () => boolean, now = () => performance.now()): Pace {
  const queue: (() => 'done' | 'more')[] = [];
  let active = false;
  let resting: Stop | null = null;
  /** What was taken and not yet rested for. */
  let debt = 0;
  let ended = 0;

  function turn(): void {
    resting = null;
    const slice = queue.shift();
    if (slice !== undefined) {
      const started = now();
      debt = Math.max(0, debt - (started - ended));
      if (slice() === 'more') queue.push(slice);
      ended = now();
      debt += ended - started;
    }
    if (queue.length === 0) active = false;
    else if (!rest()) setImmediate(turn);
  }

  function rest(): boolean {
    const left = debt - (now() - ended);
    if (debt < ALLOWANCE_MS || left <= 0 || !votesWait()) return false;
    resting = clock.after(left, turn);
    return true;
  }

  return {
    run(slice) {
      queue.push(slice);
      if (active) return;
      active = true;
      if (!rest()) turn();
    },
    stop() {
      resting?.();
      resting = null;
      queue.length = 0;
      active = false;
    },
  };
}
