/**
 * Places for what stays open: at most so many an address. Where several processes share a Redis, what an address has at the
 * others counts too. Each tells the others of an address that has a fiftieth or more of what it may; those are few, and all
 * others cost nothing. The telling takes about a tenth of a second in which the others go by what they know: nobody waits
 * for Redis, and the limit is soft by that much.
 */

import type { Stop } from '../ports/clock.ts';
import type { SharedCounts as Everywhere } from '../ports/presence.ts';

const WORTH_TELLING = 1 / 50;

export interface ConnectionLimits {
  /** Whether there was one left. */
  acquire(address: string): boolean;
  /** MUST be called once for each that was taken. */
  release(address: string): void;
}

/** `most` of a `kind` for an address, 0: any number. `everywhere`: null where this process is alone. */
export function makeConnectionLimits(kind: string, most: number, everywhere: Everywhere | null): ConnectionLimits {
  if (most === 0) return { acquire: () => true, release: () => {} };
  const taken = new Map<string, number>();
  /** The addresses that the others are told of, and how to stop listening for what they have. */
  const shared = new Map<string, Stop>();
  const notable = Math.ceil(most * WORTH_TELLING);
  const nameOf = (address: string): string => `${kind}:${address}`;

  return {
    acquire(address) {
      const count = taken.get(address) ?? 0;
      if (count >= most) return false;
      if (shared.has(address) && (everywhere?.total(nameOf(address)) ?? 0) >= most) return false;
      set(address, count + 1);
      return true;
    },
    release: (address) => set(address, (taken.get(address) ?? 1) - 1),
  };

  function set(address: string, count: number): void {
    if (count === 0) taken.delete(address);
    else taken.set(address, count);
    if (everywhere === null) return;
    const stop = shared.get(address);
    if (stop === undefined && count < notable) return;
    const name = nameOf(address);
    // It comes and goes around the mark: not each time is a reason to begin anew.
    if (count > 0 && count >= notable / 2) {
      if (stop === undefined) shared.set(address, everywhere.follow(name));
      everywhere.report(name, count);
    } else {
      everywhere.report(name, 0);
      shared.delete(address);
      stop?.();
    }
  }
}
