/** The readers that do not keep up: looked at together, so that nobody else pays for them. */
import type { Clock, Stop } from '../ports/clock.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Outlet } from './subscriber.ts';

const LOOK_MS = 25;

export interface SlowReaders {
  add(outlet: Outlet): void;
  remove(outlet: Outlet): void;
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
  const slow = new Map<Outlet, Standstill>();
  /** Of those who left a group: where they go on in another one, they have not made any progress by that. */
  const earlier = new WeakMap<Outlet, Standstill>();
  let looking: Stop | null = null;

  function look(): void {
    const now = clock.now();
    for (const [outlet, standstill] of slow) {
      const backlog = outlet.backlog();
      if (backlog === 0) {
        outlet.isSlow = false;
        if (outlet.pending !== null) stats?.delivered(1);
        if (outlet.deliverPending()) slow.delete(outlet);
        else begin(outlet, standstill);
      } else if (backlog !== standstill.backlog) {
        standstill.backlog = backlog;
        standstill.since = now;
      } else if (now - standstill.since >= stallMs) {
        remove(outlet);
        stats?.cut();
        outlet.cut();
      }
    }
    if (slow.size === 0) stop();
  }

  function begin(outlet: Outlet, standstill: Standstill): void {
    outlet.isSlow = true;
    standstill.backlog = outlet.backlog();
    standstill.since = clock.now();
  }

  function remove(outlet: Outlet): void {
    if (!outlet.isSlow) return;
    outlet.isSlow = false;
    const standstill = slow.get(outlet);
    if (standstill !== undefined) earlier.set(outlet, standstill);
    slow.delete(outlet);
  }

  function stop(): void {
    looking?.();
    looking = null;
  }

  return {
    add(outlet) {
      if (outlet.isSlow) {
        stats?.conflated();
        return;
      }
      const standstill = { backlog: 0, since: 0 };
      begin(outlet, standstill);
      const before = earlier.get(outlet);
      if (before?.backlog === standstill.backlog) standstill.since = before.since;
      earlier.delete(outlet);
      slow.set(outlet, standstill);
      looking ??= clock.every(LOOK_MS, look);
    },
    remove,
    get size() {
      return slow.size;
    },
    stop,
  };
}
