/** Time, as the rooms below app.ts get it. */

export type Stop = () => void;

/** Time is an argument: nothing below `app.ts` reads a clock of its own. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls once after `ms` milliseconds. Any length: it MUST NOT fire early past 2^31 ms. */
  after(ms: number, run: () => void): Stop;
  every(ms: number, run: () => void): Stop;
}
