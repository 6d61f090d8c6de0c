/**
 * Tells other instances what this one committed, also of polls that nobody watches here: at most one message a poll an
 * interval, the first at once, as it is with the watchers here (L4). What another instance has said meanwhile, and newer,
 * needs not be said again.
 */
import type { Bus } from '../ports/bus.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import { isStale, type Known, type Memory } from './poll-cache.ts';

export interface Teller {
  /** After a commit at this version. */
  committed(known: Known, version: number): void;
  /** After a change of the poll itself: it is told at once. */
  changed(known: Known): void;
  gone(pollId: string): void;
  /** What others said. */
  heard(pollId: string, version: number): void;
  stop: Stop;
}

export function makeTeller(options: {
  readonly bus: Bus;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly intervalMs: number;
}): Teller {
  const { bus, memory, clock, intervalMs } = options;
  /** Polls of which something was said within the interval. `untold`: the version that waits for its end, or 0. */
  const lines = new Map<string, { readonly known: Known; untold: number; stop: Stop }>();
  if (bus.alone) return { committed: () => {}, changed: () => {}, gone: () => {}, heard: () => {}, stop: () => {} };

  return {
    committed(known, version) {
      const line = lines.get(known.id);
      if (line !== undefined) line.untold = version;
      else say(known);
    },
    changed: say,
    gone(pollId) {
      lines.get(pollId)?.stop();
      lines.delete(pollId);
      bus.publish({ kind: 'gone', pollId });
    },
    heard(pollId, version) {
      const line = lines.get(pollId);
      if (line !== undefined && line.untold <= version) line.untold = 0;
    },
    stop() {
      for (const line of lines.values()) {
        line.stop();
        if (line.untold > 0) publish(line.known, !isStale(line.known));
      }
      lines.clear();
    },
  };

  function say(known: Known): void {
    lines.get(known.id)?.stop();
    lines.delete(known.id);
    if (intervalMs > 0) {
      const stop = clock.after(intervalMs, () => {
        const line = lines.get(known.id);
        lines.delete(known.id);
        if (line !== undefined && line.untold > 0) say(known);
      });
      lines.set(known.id, { known, untold: 0, stop });
    }
    // Watchers here need the whole state anyway; where there are none, those who have some look for themselves.
    if (known.holds > 0 && isStale(known)) {
      memory.fresh(known).then(
        // What was committed since is said when the interval is over.
        () => publish(known, known.state !== null),
        () => publish(known, false),
      );
    } else publish(known, !isStale(known));
  }

  function publish(known: Known, whole: boolean): void {
    const { id: pollId, state } = known;
    if (state === null || !whole) {
      bus.publish({
        kind: 'look',
        pollId,
        version: Math.max(known.version, state?.version ?? 0),
        revision: Math.max(known.revision, state?.poll.revision ?? 0),
      });
      return;
    }
    const { poll, version, ballotCount, updatedAt, counts } = state;
    bus.publish({ kind: 'counts', pollId, version, revision: poll.revision, ballotCount, updatedAt, counts });
  }
}
