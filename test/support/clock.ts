/** Time that stands still until a test moves it. */
import type { Clock, Stop } from '../../src/ports/clock.ts';

export interface ManualClock extends Clock {
  /** Advances the time and runs the due timers in order. A repeating timer runs once, as after a sleep. */
  advance(ms: number): void;
}

export function manualClock(startMs = Date.UTC(2026, 10, 22, 18)): ManualClock {
  const timers = new Map<number, { at: number; readonly every: number | null; readonly run: () => void }>();
  let now = startMs;
  let count = 0;

  const add = (ms: number, every: number | null, run: () => void): Stop => {
    const id = ++count;
    timers.set(id, { at: now + Math.max(0, ms), every, run });
    return () => timers.delete(id);
  };

  return {
    now: () => now,
    after(ms, run) {
      // Like a real timer: a timer of 0 ms runs after the current turn.
      if (ms <= 0) {
        const soon = setImmediate(run);
        return () => clearImmediate(soon);
      }
      return add(ms, null, run);
    },
    every: (ms, run) => add(ms, ms, run),
    advance(ms) {
      const end = now + ms;
      const repeated = new Set<number>();
      for (;;) {
        const due = [...timers]
          .filter(([id, { at }]) => at <= end && !repeated.has(id))
          .sort(([, a], [, b]) => a.at - b.at)[0];
        if (due === undefined) break;
        const [id, timer] = due;
        now = timer.at;
        if (timer.every === null) timers.delete(id);
        else {
          repeated.add(id);
          timer.at = end + timer.every - ((end - timer.at) % timer.every);
        }
        timer.run();
      }
      now = end;
    },
  };
}
