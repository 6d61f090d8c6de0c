/** What ends the demo with one line for people, in place of a stack. */
export class Failure extends Error {
  /** Nothing was changed or repeating it is safe, and the next attempt may go through. */
  readonly passes: boolean;
  /** When the server says to try again, in milliseconds from now. */
  readonly retryAfterMs: number;

  constructor(message: string, { passes = false, retryAfterMs = 0 } = {}) {
    super(message);
    this.passes = passes;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Somebody asked the demo to stop. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super('Interrupted.');
    this.exitCode = exitCode;
  }
}
