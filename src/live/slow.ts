/** The readers that do not keep up: looked at together, so that nobody else pays for them. */
import type { Clock, Metrics, Stop } from '../core/ports.ts';
import type { Mailbox } from './mailbox.ts';

const LOOK_MS = 25;

export interface SlowReaders {
  add(mailbox: Mailbox): void;
  remove(mailbox: Mailbox): void;
  readonly size: number;
  stop: Stop;
}

type Stats = Pick<Metrics, 'delivered' | 'conflated' | 'cut'>;

/** `stallMs`: how long a reader may make no progress before it is cut off (L5). */
export function makeSlowReaders(clock: Clock, stallMs: number, stats?: Stats): SlowReaders {
  const slow = new Set<Mailbox>();
  let looking: Stop | null = null;

  function look(): void {
    const now = clock.now();
    for (const mailbox of slow) {
      const backlog = mailbox.outlet.backlog();
      if (backlog === 0) {
        slow.delete(mailbox);
        if (mailbox.pending === null) continue;
        mailbox.deliver(mailbox.pending);
        stats?.delivered(1);
      } else if (backlog !== mailbox.backlog) {
        mailbox.backlog = backlog;
        mailbox.stuckSince = now;
      } else if (now - mailbox.stuckSince >= stallMs) {
        slow.delete(mailbox);
        stats?.cut();
        mailbox.outlet.drop();
      }
    }
    if (slow.size === 0) stop();
  }

  function stop(): void {
    looking?.();
    looking = null;
  }

  return {
    add(mailbox) {
      if (slow.has(mailbox)) {
        stats?.conflated();
        return;
      }
      mailbox.backlog = mailbox.outlet.backlog();
      mailbox.stuckSince = clock.now();
      slow.add(mailbox);
      looking ??= clock.every(LOOK_MS, look);
    },
    remove: (mailbox) => void slow.delete(mailbox),
    get size() {
      return slow.size;
    },
    stop,
  };
}
