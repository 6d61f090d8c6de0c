/**
 * Tells other instances what this one committed, also of polls that nobody watches here: at most one message a poll an
 * interval, the first at once, as it is with the watchers here (L4). What another instance has said meanwhile, and newer,
 * needs not be said again.
 */
import type { Bus } from '../ports/bus.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import { type CachedPoll, isStale, type PollCache } from './poll-cache.ts';

export interface Announcer {
  /** After a commit at this version. */
  committed(known: CachedPoll, version: number): void;
  /** After a change of the poll itself: it is told at once. */
  changed(known: CachedPoll): void;
  deleted(pollId: string): void;
  /** What others said. */
  onRemote(pollId: string, version: number): void;
  stop: Stop;
}

export function makeAnnouncer(options: {
  readonly bus: Bus;
  readonly cache: PollCache;
  readonly clock: Clock;
  readonly intervalMs: number;
}): Announcer {
  const { bus, cache, clock, intervalMs } = options;
  /** Polls of which something was said within the interval. `untold`: the version that waits for its end, or 0. */
  const recent = new Map<string, { readonly known: CachedPoll; untold: number; stop: Stop }>();
  if (bus.alone)
    return { committed: () => {}, changed: () => {}, deleted: () => {}, onRemote: () => {}, stop: () => {} };

  return {
    committed(known, version) {
      const line = recent.get(known.id);
      if (line !== undefined) line.untold = version;
      else say(known);
    },
    changed: say,
    deleted(pollId) {
      recent.get(pollId)?.stop();
      recent.delete(pollId);
      bus.publish({ kind: 'gone', pollId });
    },
    onRemote(pollId, version) {
      const line = recent.get(pollId);
      if (line !== undefined && line.untold <= version) line.untold = 0;
    },
    stop() {
      for (const line of recent.values()) {
        line.stop();
        if (line.untold > 0) publish(line.known, !isStale(line.known));
      }
      recent.clear();
    },
  };

  function say(known: CachedPoll): void {
    recent.get(known.id)?.stop();
    recent.delete(known.id);
    if (intervalMs > 0) {
      const stop = clock.after(intervalMs, () => {
        const line = recent.get(known.id);
        recent.delete(known.id);
        if (line !== undefined && line.untold > 0) say(known);
      });
      recent.set(known.id, { known, untold: 0, stop });
    }
    // Watchers here need the whole state anyway; where there are none, those who have some look for themselves.
    if (known.holds > 0 && isStale(known)) {
      cache.refresh(known).then(
        // What was committed since is said when the interval is over.
        () => publish(known, known.state !== null),
        () => publish(known, false),
      );
    } else publish(known, !isStale(known));
  }

  function publish(known: CachedPoll, whole: boolean): void {
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
