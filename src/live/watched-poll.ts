/** A poll that somebody watches in this process: its groups, how often they are told, and how many they are. */
import type { PollcastError } from '../core/errors.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Presence } from '../ports/presence.ts';
import type { Store } from '../ports/store.ts';
import { makeAudience } from './audience.ts';
import type { BroadcastQueue } from './broadcast-queue.ts';
import { type Group, makeGroup, type TopicState } from './group.ts';
import { type CachedPoll, isStale, type PollCache } from './poll-cache.ts';
import type { SlowReaders } from './slow-readers.ts';
import type { Subscriber } from './subscriber.ts';
import type { PollView, Subscription, Topic } from './subscription.ts';
import { makeThrottle } from './throttle.ts';
import { makeVoterGroups } from './voter-groups.ts';

export type HubStats = Pick<Metrics, 'delivered' | 'conflated' | 'cut'>;

export interface WatchedPoll {
  readonly known: CachedPoll;
  /** How many subscribers there are. */
  readonly size: number;
  join(subscription: Subscription, subscriber: Subscriber): Promise<Stop>;
  /** Something is new: it goes out as soon as the interval allows. */
  poke(): void;
  /** The same, after a change of the poll itself; final results go out at once (L6). */
  announce(): void;
  /**
   * A vote of this voter is on its way, or a retraction: its subscriptions wait, so that none gets the version that it makes as
   * the one it no longer is. The returned function ends that: whether the voter has a ballot now; null: that is not known.
   */
  pauseVoter(voterKey: string): (voted: boolean | null) => void;
  /** Elsewhere the number of those who watch has changed. */
  showAudience(): void;
  /** Ends all subscriptions; there is no such poll any more. */
  fail(error: PollcastError): void;
  stop: Stop;
}

export interface WatchedPollOptions {
  readonly store: Store;
  readonly cache: PollCache;
  readonly presence: Presence;
  readonly clock: Clock;
  readonly log: Log;
  readonly slow: SlowReaders;
  readonly broadcasts: BroadcastQueue;
  readonly intervalMs: number;
  readonly stats?: HubStats | undefined;
  readonly viewOf: (known: CachedPoll) => PollView;
  /** Nobody watches it any more. */
  readonly onEmpty: (watched: WatchedPoll) => void;
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

export function makeWatchedPoll(known: CachedPoll, options: WatchedPollOptions): WatchedPoll {
  const { store, cache, presence, clock, log, viewOf } = options;
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
  const voterGroups = makeVoterGroups({
    store,
    pollId: known.id,
    log,
    async enter(subscription, subscriber, fits) {
      const group = await enter(subscription, subscriber, fits);
      return group === null ? null : () => group.leave(subscriber);
    },
  });

  const watched: WatchedPoll = {
    known,
    get size() {
      let size = 0;
      for (const { group } of groups.values()) size += group.size;
      return size;
    },
    async join(subscription, subscriber) {
      joining++;
      const { presence } = subscription;
      let group: Group<PollView> | null = null;
      let leave: Stop | null = null;
      try {
        const isClaimed = subscription.claim != null && known.state?.poll.resultsVisibility === 'AFTER_VOTE';
        if (isClaimed) {
          leave = await voterGroups.join(subscription, subscriber);
        } else {
          group = await enter(subscription, subscriber);
        }
        if (presence !== 'none') audience.enter(presence === 'returning');
        let inside = true;
        // The one function that is kept for each subscriber, so it does all at once.
        return () => {
          if (!inside) return;
          inside = false;
          leave?.();
          group?.leave(subscriber);
          if (presence !== 'none') audience.leave(presence === 'returning');
        };
      } finally {
        joining--;
        leaveIfEmpty();
      }
    },
    pauseVoter: voterGroups.pause,
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
  async function enter(
    subscription: Subscription,
    subscriber: Subscriber,
    fits?: () => boolean,
  ): Promise<Group<PollView> | null> {
    const standing = await standingOf(subscription.topic);
    // Nothing is waited for in between: a group that is not joined yet may be given up.
    const group = groupOf(subscription);
    const isIn = await group.join(subscriber, standing, subscription.after, fits);
    // Who was let in after the others were told would never hear of it.
    if (gone !== null) {
      group.leave(subscriber);
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

  async function standingOf(topic: Topic): Promise<TopicState<PollView>> {
    if (topic === 'results') await cache.results(known);
    return standing(topic);
  }

  function standing(topic: Topic): TopicState<PollView> {
    const view = viewOf(known);
    if (topic === 'audience') return { cursor: audienceChanges, final: false, state: view };
    if (topic === 'poll') return { cursor: view.poll.revision, final: view.poll.status === 'CLOSED', state: view };
    const results = cache.countedResults(known);
    return { cursor: results.version, final: results.status === 'CLOSED', state: { ...view, results: () => results } };
  }

  function groupOf(subscription: Subscription): Group<PollView> {
    const key = `${subscription.topic} ${subscription.everyMs} ${subscription.groupKey}`;
    const found = groups.get(key);
    if (found !== undefined) return found.group;
    const group = makeGroup<PollView>({
      clock,
      slow: options.slow,
      broadcasts: options.broadcasts,
      everyMs: subscription.everyMs,
      encode: subscription.encode,
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
    const item: Item = { topic: subscription.topic, group, linger: null };
    groups.set(key, item);
    return group;
  }

  async function emit(): Promise<void> {
    try {
      if (isStale(known)) await cache.refresh(known);
      if (known.state !== null) await voterGroups.recheck(known.state.poll.revision);
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
