/**
 * What looks unlike people voting, for those who manage a poll: it is shown and counted, and stops nobody. Seen by this process
 * alone, since its start, and bounded: what was quiet for longest is forgotten first. Of an address only a hash is kept, in
 * memory, with a number that no other process knows.
 */
import { randomInt } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Poll } from '../../core/poll.ts';
import { requireManager } from '../../identity/permissions.ts';
import type { Viewer } from '../../identity/viewer.ts';
import type { Clock } from '../../ports/clock.ts';
import type { AnomalyKind } from '../../ports/metrics.ts';

export interface Anomaly {
  readonly kind: AnomalyKind;
  /** Votes or codes that were part of it. */
  readonly count: number;
  /** Milliseconds since 1970. */
  readonly firstAt: number;
  readonly lastAt: number;
}

export interface Anomalies {
  /** A new voter's ballot was counted, which arrived at that time; `address` is empty where it is not known. */
  recorded(poll: Poll, address: string, arrivedAt: number): void;
  /** A code was tried that is not valid. */
  codeFailed(pollId: string): void;
  /** A DRAFT was opened here now. */
  opened(pollId: string): void;
  /** Throws `NotAllowedError` where the viewer does not manage the poll. */
  list(viewer: Viewer, poll: Poll): readonly Anomaly[];
}

/** More than `most` within `windowMs`. */
interface Limit {
  readonly most: number;
  readonly windowMs: number;
}

const VOTES: Limit = { most: 100, windowMs: 10_000 };
const CODES: Limit = { most: 20, windowMs: 60_000 };
/** Nobody sees a poll open and chooses as fast. */
const EARLY_MS = 200;

const MOST_POLLS = 2_000;
const MOST_ADDRESSES = 10_000;
/** What GraphQL's `Int` holds. */
const MOST_COUNT = 2 ** 31 - 1;

/** The last events of one kind at one place, never more than make a burst. */
class Recent {
  private readonly times: number[] = [];
  private oldest = 0;
  /** Events that are not part of an anomaly yet. */
  private uncounted = 0;

  /** What the event makes part of a burst: how many events, and since when; null: nothing. */
  add(at: number, { most, windowMs }: Limit): { readonly count: number; readonly since: number } | null {
    const size = most + 1;
    this.uncounted = Math.min(this.uncounted + 1, size);
    if (this.times.length < size) this.times.push(at);
    else {
      this.times[this.oldest] = at;
      this.oldest = (this.oldest + 1) % size;
    }
    const since = this.times[this.oldest] ?? at;
    if (this.times.length < size || at - since > windowMs) return null;
    const count = this.uncounted;
    this.uncounted = 0;
    return { count, since };
  }
}

interface Seen {
  readonly codes: Recent;
  readonly anomalies: Map<AnomalyKind, Anomaly>;
}

export function makeAnomalies(options: {
  readonly clock: Clock;
  readonly onAnomaly?: (kind: AnomalyKind, count: number) => void;
}): Anomalies {
  const { clock } = options;
  const polls = new LRUCache<string, Seen>({ max: MOST_POLLS });
  const addresses = new LRUCache<number, Recent>({ max: MOST_ADDRESSES });
  /** When polls were opened here. */
  const openings = new LRUCache<string, number>({ max: MOST_POLLS });
  const seed = randomInt(2 ** 32);

  return {
    recorded(poll, address, arrivedAt) {
      // One that another instance has opened by hand before its time is not known; then nothing is said of it, or too much.
      const opened = openings.get(poll.id) ?? poll.opensAt?.getTime();
      if (opened !== undefined && arrivedAt >= opened && arrivedAt - opened <= EARLY_MS) {
        note(poll.id, 'EARLY_VOTES', 1, arrivedAt, arrivedAt);
      }
      if (address === '') return;
      const key = hash(`${poll.id} ${address}`, seed);
      let recent = addresses.get(key);
      if (recent === undefined) addresses.set(key, (recent = new Recent()));
      const burst = recent.add(arrivedAt, VOTES);
      if (burst !== null) note(poll.id, 'VOTE_BURST', burst.count, burst.since, arrivedAt);
    },

    codeFailed(pollId) {
      const now = clock.now();
      const burst = seenOf(pollId).codes.add(now, CODES);
      if (burst !== null) note(pollId, 'CODE_BURST', burst.count, burst.since, now);
    },

    opened: (pollId) => void openings.set(pollId, clock.now()),

    list(viewer, poll) {
      requireManager(viewer, poll);
      return [...(polls.get(poll.id)?.anomalies.values() ?? [])];
    },
  };

  function seenOf(pollId: string): Seen {
    let seen = polls.get(pollId);
    if (seen === undefined) polls.set(pollId, (seen = { codes: new Recent(), anomalies: new Map() }));
    return seen;
  }

  function note(pollId: string, kind: AnomalyKind, count: number, firstAt: number, lastAt: number): void {
    const { anomalies } = seenOf(pollId);
    const before = anomalies.get(kind);
    anomalies.set(kind, {
      kind,
      count: Math.min(MOST_COUNT, (before?.count ?? 0) + count),
      firstAt: Math.min(before?.firstAt ?? firstAt, firstAt),
      lastAt: Math.max(before?.lastAt ?? lastAt, lastAt),
    });
    options.onAnomaly?.(kind, count);
  }
}

/** 53 bits that nobody foresees without the seed (cyrb53): two addresses in one place would be a vote burst of neither. */
function hash(text: string, seed: number): number {
  let one = 0xdeadbeef ^ seed;
  let two = 0x41c6ce57 ^ seed;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 2_654_435_761);
    two = Math.imul(two ^ code, 1_597_334_677);
  }
  one = Math.imul(one ^ (one >>> 16), 2_246_822_507) ^ Math.imul(two ^ (two >>> 13), 3_266_489_909);
  two = Math.imul(two ^ (two >>> 16), 2_246_822_507) ^ Math.imul(one ^ (one >>> 13), 3_266_489_909);
  return 4_294_967_296 * (two & 0x1fffff) + (one >>> 0);
}
