/** How many watch one poll in this process. Long polls count while they wait and for a while in between. */
import type { Clock, Stop } from '../ports/clock.ts';

/** How long who polls counts as watching after an answer: longer than any sensible client takes to ask again. */
const RETURN_MS = 5_000;

export interface Audience {
  readonly size: number;
  /** Counts one more, until it leaves: once. `returning`: it leaves with each answer and comes back. */
  enter(returning: boolean): void;
  leave(returning: boolean): void;
  stop: Stop;
}

export function makeAudience(clock: Clock, onChange: () => void): Audience {
  let size = 0;
  // Those expected back, the oldest first. Who comes back takes any of these places: one is as good as another.
  const expected: Stop[] = [];

  const change = (by: 1 | -1): void => {
    size += by;
    onChange();
  };

  function expectBack(): void {
    const forget = clock.after(RETURN_MS, () => {
      expected.splice(expected.indexOf(forget), 1);
      change(-1);
    });
    expected.push(forget);
  }

  return {
    get size() {
      return size;
    },
    enter(returning) {
      const place = returning ? expected.shift() : undefined;
      if (place === undefined) change(1);
      else place();
    },
    leave(returning) {
      if (returning) expectBack();
      else change(-1);
    },
    stop() {
      for (const forget of expected.splice(0)) forget();
    },
  };
}
