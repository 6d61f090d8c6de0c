/** One instance alone: who watches here is all who watch. */
import type { Presence } from '../core/ports.ts';

export function makeLocalPresence(): Presence {
  const watching = new Map<string, number>();
  return {
    report(pollId, count) {
      if (count === 0) watching.delete(pollId);
      else watching.set(pollId, count);
    },
    total: (pollId) => watching.get(pollId) ?? 0,
    listen: () => () => {},
  };
}
