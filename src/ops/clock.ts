import type { Clock, Stop } from '../ports/clock.ts';

/** Node clamps longer timers to 1 ms: they are waited for in pieces. */
const LONGEST_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  after,
  every(ms, run) {
    const timer = setInterval(run, ms);
    return () => clearInterval(timer);
  },
};

function after(ms: number, run: () => void): Stop {
  let timer: NodeJS.Timeout;
  const wait = (left: number): void => {
    timer = setTimeout(() => (left > LONGEST_MS ? wait(left - LONGEST_MS) : run()), Math.min(left, LONGEST_MS));
  };
  wait(Math.max(0, ms));
  return () => clearTimeout(timer);
}
