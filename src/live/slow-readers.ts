/** The readers that do not keep up: looked at together, so that nobody else pays for them. */
import type { Clock, Stop } from '../ports/clock.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Subscriber } from './subscriber.ts';

const LOOK_MS = 25;

export interface SlowReaders {
  add(subscriber: Subscriber): void;
  remove(subscriber: Subscriber): void;
  readonly size: number;
  stop: Stop;
}

type Stats = Pick<Metrics, 'delivered' | 'conflated' | 'cut'>;

interface Standstill {
  backlog: number;
  /** Since when the backlog has not moved. */
  since: number;
}

/** `stallMs`: how long a reader may make no progress before it is cut off (L5). */
export function makeSlowReaders(clock: Clock, stallMs: number, stats?: Stats): SlowReaders {
  const slow = new Map<Subscriber, Standstill>();
  /** Of those who left a group: where they go on in another one, they have not made any progress by that. */
  const earlier = new WeakMap<Subscriber, Standstill>();
  let looking: Stop | null = null;

  function look(): void {
    const now = clock.now();
    for (const [subscriber, standstill] of slow) {
      const backlog = subscriber.backlog();
      if (backlog === 0) {
        subscriber.isSlow = false;
        if (subscriber.pending !== null) stats?.delivered(1);
        if (subscriber.deliverPending()) slow.delete(subscriber);
        else begin(subscriber, standstill);
      } else if (backlog !== standstill.backlog) {
        standstill.backlog = backlog;
        standstill.since = now;
      } else if (now - standstill.since >= stallMs) {
        remove(subscriber);
        stats?.cut();
        subscriber.cut();
      }
    }
    if (slow.size === 0) stop();
  }

  function begin(subscriber: Subscriber, standstill: Standstill): void {
    subscriber.isSlow = true;
    standstill.backlog = subscriber.backlog();
    standstill.since = clock.now();
  }

  function remove(subscriber: Subscriber): void {
    if (!subscriber.isSlow) return;
    subscriber.isSlow = false;
    const standstill = slow.get(subscriber);
    if (standstill !== undefined) earlier.set(subscriber, standstill);
    slow.delete(subscriber);
  }

  function stop(): void {
    looking?.();
    looking = null;
  }

  return {
    add(subscriber) {
      if (subscriber.isSlow) {
        stats?.conflated();
        return;
      }
      const standstill = { backlog: 0, since: 0 };
      begin(subscriber, standstill);
      const before = earlier.get(subscriber);
      if (before?.backlog === standstill.backlog) standstill.since = before.since;
      earlier.delete(subscriber);
      slow.set(subscriber, standstill);
      looking ??= clock.every(LOOK_MS, look);
    },
    remove,
    get size() {
      return slow.size;
    },
    stop,
  };
}
