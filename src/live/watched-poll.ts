/** A poll that somebody watches in this process: its groups, how often they are told, and how many they are. */
import type { PollcastError } from '../core/errors.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Presence } from '../ports/presence.ts';
import type { Store } from '../ports/store.ts';
import { makeAudience } from './audience.ts';
import type { Pace } from './broadcast-queue.ts';
import { type Group, makeGroup, type Standing } from './group.ts';
import { isStale, type Known, type Memory } from './poll-cache.ts';
import type { SlowReaders } from './slow-readers.ts';
import type { Outlet } from './subscriber.ts';
import type { PollView, Topic, Watch } from './subscription.ts';
import { makeThrottle } from './throttle.ts';
import { makeClaims } from './voter-groups.ts';

export type HubStats = Pick<Metrics, 'delivered' | 'conflated' | 'cut'>;

export interface Watched {
  readonly known: Known;
  /** How many subscribers there are. */
  readonly size: number;
  join(wish: Watch, outlet: Outlet): Promise<Stop>;
  /** Something is new: it goes out as soon as the interval allows. */
  poke(): void;
  /** The same, after a change of the poll itself; final results go out at once (L6). */
  announce(): void;
  /**
   * A vote of this voter is on its way, or a retraction: its subscriptions wait, so that none gets the version that it makes as
   * the one it no longer is. The returned function ends that: whether the voter has a ballot now; null: that is not known.
   */
  hold(voterKey: string): (voted: boolean | null) => void;
  /** Elsewhere the number of those who watch has changed. */
  showAudience(): void;
  /** Ends all subscriptions; there is no such poll any more. */
  fail(error: PollcastError): void;
  stop: Stop;
}

export interface WatchedOptions {
  readonly store: Store;
  readonly memory: Memory;
  readonly presence: Presence;
  readonly clock: Clock;
  readonly log: Log;
  readonly slow: SlowReaders;
  readonly pace: Pace;
  readonly intervalMs: number;
  readonly stats?: HubStats | undefined;
  readonly viewOf: (known: Known) => PollView;
  /** Nobody watches it any more. */
  readonly onEmpty: (watched: Watched) => void;
}

/** When what could not be sent is tried again. */
const RETRY_MS = 1_000;

/** How long a group that everybody left is kept: those who poll come back, and find their bytes encoded. */
const LINGER_MS = 5_000;

interface Item {
  readonly topic: Topic;
  readonly group: Group<PollView>;
  linger: Stop | null;
}

export function makeWatched(known: Known, options: WatchedOptions): Watched {
  const { store, memory, presence, clock, log, viewOf } = options;
  const groups = new Map<string, Item>();
  const throttle = makeThrottle(
    clock,
    () => options.intervalMs,
    () => void emit(),
  );
  const audience = makeAudience(clock, audienceChanged);
  /** Changes of the audience so far: the cursor of its topic. */
  let audienceChanges = 0;
  /** Subscribers that are being let in. */
  let joining = 0;
  /** What was sent last. */
  let shown = known.state;
  let over = false;
  let retrying: Stop | null = null;
  /** Why all subscriptions have ended, once they have. */
  let gone: PollcastError | null = null;
  const claims = makeClaims({
    store,
    pollId: known.id,
    log,
    async enter(wish, outlet, fits) {
      const group = await enter(wish, outlet, fits);
      return group === null ? null : () => group.leave(outlet);
    },
  });

  const watched: Watched = {
    known,
    get size() {
      let size = 0;
      for (const { group } of groups.values()) size += group.size;
      return size;
    },
    async join(wish, outlet) {
      joining++;
      const { presence } = wish;
      let group: Group<PollView> | null = null;
      let leave: Stop | null = null;
      try {
        const isClaimed = wish.claim != null && known.state?.poll.resultsVisibility === 'AFTER_VOTE';
        if (isClaimed) {
          leave = await claims.join(wish, outlet);
        } else {
          group = await enter(wish, outlet);
        }
        if (presence !== 'none') audience.enter(presence === 'returning');
        let inside = true;
        // The one function that is kept for each subscriber, so it does all at once.
        return () => {
          if (!inside) return;
          inside = false;
          leave?.();
          group?.leave(outlet);
          if (presence !== 'none') audience.leave(presence === 'returning');
        };
      } finally {
        joining--;
        leaveIfEmpty();
      }
    },
    hold: claims.hold,
    poke: throttle.poke,
    announce() {
      if (known.state?.poll.status === 'CLOSED') void emit();
      else throttle.poke();
    },
    showAudience,
    fail(error) {
      gone = error;
      for (const { group } of [...groups.values()]) group.fail(error);
    },
    stop() {
      over = true;
      throttle.stop();
      retrying?.();
      audience.stop();
      for (const item of groups.values()) item.linger?.();
      presence.report(known.id, 0);
    },
  };
  return watched;

  /** Null: `fits` said no; see `Group.join`. */
  async function enter(wish: Watch, outlet: Outlet, fits?: () => boolean): Promise<Group<PollView> | null> {
    const standing = await standingOf(wish.topic);
    // Nothing is waited for in between: a group that is not joined yet may be given up.
    const group = groupOf(wish);
    const isIn = await group.join(outlet, standing, wish.after, fits);
    // Who was let in after the others were told would never hear of it.
    if (gone !== null) {
      group.leave(outlet);
      throw gone;
    }
    return isIn ? group : null;
  }

  function leaveIfEmpty(): void {
    if (!over && groups.size === 0 && joining === 0 && audience.size === 0) options.onEmpty(watched);
  }

  function audienceChanged(): void {
    if (over) return;
    presence.report(known.id, audience.size);
    showAudience();
    leaveIfEmpty();
  }

  /** Goes to those who look at the audience; their groups see to it that it is once a second at most. */
  function showAudience(): void {
    if (known.state === null) return;
    audienceChanges++;
    const standing = { cursor: audienceChanges, final: false, state: viewOf(known) };
    for (const { topic, group } of groups.values()) if (topic === 'audience') group.offer(standing);
  }

  async function standingOf(topic: Topic): Promise<Standing<PollView>> {
    if (topic === 'results') await memory.results(known);
    return standing(topic);
  }

  function standing(topic: Topic): Standing<PollView> {
    const view = viewOf(known);
    if (topic === 'audience') return { cursor: audienceChanges, final: false, state: view };
    if (topic === 'poll') return { cursor: view.poll.revision, final: view.poll.status === 'CLOSED', state: view };
    const results = memory.counted(known);
    return { cursor: results.version, final: results.status === 'CLOSED', state: { ...view, results: () => results } };
  }

  function groupOf(wish: Watch): Group<PollView> {
    const key = `${wish.topic} ${wish.everyMs} ${wish.groupKey}`;
    const found = groups.get(key);
    if (found !== undefined) return found.group;
    const group = makeGroup<PollView>({
      clock,
      slow: options.slow,
      pace: options.pace,
      everyMs: wish.everyMs,
      encode: wish.encode,
      onFault: (error) => log.error({ err: error, pollId: known.id }, 'an update could not be encoded'),
      onDelivered: (count) => options.stats?.delivered(count),
      onEmpty: () => {
        item.linger?.();
        item.linger = clock.after(LINGER_MS, () => {
          if (!group.isEmpty) return;
          if (groups.get(key) === item) groups.delete(key);
          leaveIfEmpty();
        });
      },
    });
    const item: Item = { topic: wish.topic, group, linger: null };
    groups.set(key, item);
    return group;
  }

  async function emit(): Promise<void> {
    try {
      if (isStale(known)) await memory.fresh(known);
      if (known.state !== null) await claims.settle(known.state.poll.revision);
      // Whoever looked may have sent it already.
      if (over || known.state === null || known.state === shown) return;
      shown = known.state;
      for (const topic of new Set([...groups.values()].map((item) => item.topic))) {
        if (topic === 'audience') continue;
        const now = standing(topic);
        for (const item of groups.values()) if (item.topic === topic) item.group.offer(now);
      }
    } catch (error) {
      log.warn({ err: error, pollId: known.id }, 'results could not be read; watchers wait until they can be');
      // What is known already no look at the database would bring again.
      if (over) return;
      retrying ??= clock.after(RETRY_MS, () => {
        retrying = null;
        throttle.poke();
      });
    }
  }
}
