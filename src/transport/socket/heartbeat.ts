/**
 * One timing wheel for all connections: each is looked at once a round. Who was not heard from since the last look is
 * gone and is cut; the others are asked for a sign of life. A dead peer is found within two rounds.
 */
import type { Clock, Stop } from '../../ports/clock.ts';

export interface Peer {
  /** Where it stands on the wheel; the wheel's alone to set. */
  slot: number;
  /** Whether there was a sign of life since the last look; asks for the next one. False: it is cut. */
  isAlive(): boolean;
  cut(): void;
}

export interface Heartbeat {
  add(peer: Peer): void;
  remove(peer: Peer): void;
  readonly size: number;
  stop: Stop;
}

/** `roundMs`: how long a round takes; the wheel turns in `slots` steps, so that thousands are not asked at once. */
export function makeHeartbeat(clock: Clock, roundMs: number, slots = 20): Heartbeat {
  const wheel = Array.from({ length: slots }, () => new Set<Peer>());
  let turn = 0;
  let next = 0;
  const stop = clock.every(roundMs / slots, () => {
    turn = (turn + 1) % slots;
    for (const peer of wheel[turn] ?? []) if (!peer.isAlive()) peer.cut();
  });
  return {
    add(peer) {
      // Spread evenly, whenever they come.
      next = (next + 1) % slots;
      peer.slot = next;
      wheel[next]?.add(peer);
    },
    remove: (peer) => void wheel[peer.slot]?.delete(peer),
    get size() {
      return wheel.reduce((sum, slot) => sum + slot.size, 0);
    },
    stop,
  };
}
