/** One instance alone: there is nobody to tell, and who watches here is all who watch. */
import type { Bus } from '../ports/bus.ts';
import type { Presence } from '../ports/presence.ts';

export function makeLocalBus(): Bus {
  return {
    alone: true,
    connected: true,
    stats: { published: 0, dropped: 0, received: 0, malformed: 0, lagMs: null },
    publish: () => {},
    subscribe(_pollId, _onNews, onStanding) {
      let over = false;
      // Later, as it is with a bus that has a way to go.
      queueMicrotask(() => {
        if (!over) onStanding();
      });
      return () => {
        over = true;
      };
    },
    close: async () => {},
  };
}

export function makeLocalPresence(): Presence {
  const watching = new Map<string, number>();
  return {
    report(pollId, count) {
      if (count === 0) watching.delete(pollId);
      else watching.set(pollId, count);
    },
    total: (pollId) => watching.get(pollId) ?? 0,
    follow: () => () => {},
    listen: () => () => {},
    close: async () => {},
  };
}
