import type { Clock, Stop } from '../ports/clock.ts';

export interface Throttle {
  /** Runs at once if the interval has passed, else once when it has. */
  poke(): void;
  stop: Stop;
}

/** At most one run an interval; the first goes at once and the last poke is never lost (L4). */
export function makeThrottle(clock: Clock, intervalMs: () => number, run: () => void): Throttle {
  let last = Number.NEGATIVE_INFINITY;
  let waiting: Stop | null = null;
  const go = (): void => {
    waiting = null;
    last = clock.now();
    run();
  };
  return {
    poke() {
      if (waiting !== null) return;
      const left = last + intervalMs() - clock.now();
      if (left <= 0) go();
      else waiting = clock.after(left, go);
    },
    stop() {
      waiting?.();
      waiting = null;
    },
  };
}
