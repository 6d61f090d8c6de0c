/** Real time plus an offset that a test can raise: `pass()` runs the timers that fall due. */

import { systemClock } from '../../src/ops/clock.ts';
import type { Clock } from '../../src/ports/clock.ts';

export interface MovableClock {
  readonly clock: Clock;
  /** Milliseconds. */
  pass(ms: number): void;
}

export function movableClock(): MovableClock {
  interface Timer {
    at: number;
    readonly run: () => void;
    stop: () => void;
  }
  let ahead = 0;
  const timers = new Set<Timer>();
  const now = (): number => systemClock.now() + ahead;
  const arm = (timer: Timer): void => {
    timer.stop = systemClock.after(timer.at - now(), () => {
      timers.delete(timer);
      timer.run();
    });
  };
  const after = (ms: number, run: () => void): (() => void) => {
    const timer: Timer = { at: now() + ms, run, stop: () => {} };
    timers.add(timer);
    arm(timer);
    return () => {
      timers.delete(timer);
      timer.stop();
    };
  };
  return {
    clock: { now, after, every: systemClock.every },
    pass(ms) {
      ahead += ms;
      for (const timer of [...timers].sort((a, b) => a.at - b.at)) {
        timer.stop();
        if (timer.at > now()) arm(timer);
        else if (timers.delete(timer)) timer.run();
      }
    },
  };
}
