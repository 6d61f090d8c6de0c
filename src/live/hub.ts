/**
 * Per process: what is known of each poll, and who waits for the next. A poll that somebody watches is kept current by
 * the commits of this process, by what other instances say, and by looks at the database; a poll that nobody watches is
 * remembered as long as there is room.
 */
import { NotFoundError, pollNotFound } from '../core/errors.ts';
import type { Poll } from '../core/poll.ts';
import type { Bus, PollNews } from '../ports/bus.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Presence } from '../ports/presence.ts';
import type { PollChange, PollState, Store } from '../ports/store.ts';
import { makeAnnouncer } from './announcer.ts';
import { makeBroadcastQueue } from './broadcast-queue.ts';
import { type CachedPoll, makePollCache } from './poll-cache.ts';
import { makeReconciler } from './reconciler.ts';
import { makeSlowReaders } from './slow-readers.ts';
import { Subscriber } from './subscriber.ts';
import type { PollView, Subscription } from './subscription.ts';
import { type HubStats, makeWatchedPoll, type WatchedPoll } from './watched-poll.ts';

export type { PollView, Subscription, Topic } from './subscription.ts';
export type { HubStats } from './watched-poll.ts';

export interface Hub {
  /** The poll's settings, perhaps a moment old: good for checking a ballot, whose revision is checked again at the commit. */
  poll(id: string): Poll | null | Promise<Poll | null>;
  /** The poll as this process knows it, which holds at least its own commits. Null: not known. */
  known(id: string): PollView | null;
  /** A poll that was read elsewhere; its results are looked up when they are asked for. */
  viewOf(poll: Poll): PollView;
  /** The poll as the database has it now. */
  read(id: string): Promise<PollView | null>;
  /** After a commit of this process. */
  committed(change: PollChange): void;
  /** After a management change of this process. */
  changed(state: PollState): PollView;
  removed(pollId: string): void;
  /** Subscribes. Rejects with `NotFoundError` where there is no such poll (L7). Resolves once the first update is on its way. */
  watch(watch: Subscription, subscriber: Subscriber): Promise<Stop>;
  /**
   * Before a vote of this voter is cast, or taken back: its subscriptions wait until the returned function says whether the voter
   * has a ballot now (null: unknown). See `Watched.hold`.
   */
  pauseVoter(pollId: string, voterKey: string): (voted: boolean | null) => void;
  /** Resolves when the results are newer than `afterVersion` or `waitMs` have passed, or the poll is not there. */
  newer(pollId: string, afterVersion: number, waitMs: number): Promise<void>;
  readonly watching: number;
  stop(): void;
}

export interface HubOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervalMs: number;
  readonly stats?: HubStats;
  readonly bus: Bus;
  /** How many watch a poll, over all instances. */
  readonly presence: Presence;
  /** How often watched polls are compared with the database, where others write to it too. Milliseconds. */
  readonly reconcileMs?: number;
  /** How many unwatched polls are remembered. */
  readonly remember?: number;
  readonly stallMs?: number;
  /** While votes wait, broadcasts take no more than about half of the loop. */
  readonly votesWait?: () => boolean;
}

const NOTHING = Buffer.alloc(0);
const nothing = (): void => {};

/** Rings once whatever comes. */
class OneShotSubscriber extends Subscriber {
  private readonly ring: () => void;

  constructor(ring: () => void) {
    super();
    this.ring = ring;
  }

  send(): boolean {
    this.ring();
    return true;
  }
  backlog = () => 0;
  end = () => this.ring();
  fail = () => this.ring();
  cut = () => this.ring();
}

export function makeHub(options: HubOptions): Hub {
  const { store, clock, log, bus, presence, intervalMs } = options;
  /** `leave` ends what was begun with other instances. */
  const polls = new Map<string, { readonly watched: WatchedPoll; readonly leave: Stop }>();
  const slow = makeSlowReaders(clock, options.stallMs ?? 30_000, options.stats);
  const broadcasts = makeBroadcastQueue(options.votesWait ?? (() => false));
  const cache = makePollCache({
    store,
    remember: options.remember ?? 10_000,
    onNews: (known) => polls.get(known.id)?.watched.announce(),
    onGone: remove,
  });
  const announcer = makeAnnouncer({ bus, cache, clock, intervalMs });
  const reconciler = makeReconciler({
    store,
    cache,
    clock,
    log,
    everyMs: options.reconcileMs ?? 2_000,
    watched: () => [...polls.values()].map(({ watched }) => watched.known),
  });
  const unlisten = presence.listen((pollId) => polls.get(pollId)?.watched.showAudience());
  const parts = {
    store,
    cache,
    presence,
    clock,
    log,
    slow,
    broadcasts,
    intervalMs,
    stats: options.stats,
    viewOf,
    onEmpty,
  };

  return {
    poll(id) {
      const known = cache.open(id);
      return known.state?.poll ?? cache.current(known).then((state) => state?.poll ?? null);
    },
    known(id) {
      const known = cache.get(id);
      return known?.state == null ? null : viewOf(known);
    },
    viewOf: (poll) => ({
      poll,
      watching: () => presence.total(poll.id),
      results: async () => {
        const view = await read(poll.id);
        if (view === null) throw pollNotFound(poll.id);
        return view.results();
      },
    }),
    read,
    committed(change) {
      // Where there are others, they are told even of what is not known here any more.
      const known = bus.alone ? cache.get(change.pollId) : cache.open(change.pollId);
      if (known === null || !cache.commit(known, change)) return;
      polls.get(known.id)?.watched.poke();
      announcer.committed(known, change.version);
    },
    changed(state) {
      const known = cache.open(state.poll.id);
      cache.accept(known, state);
      polls.get(known.id)?.watched.announce();
      announcer.changed(known);
      return viewOf(known);
    },
    removed(pollId) {
      const known = cache.get(pollId);
      if (known !== null) remove(known);
      announcer.deleted(pollId);
    },
    watch,
    pauseVoter: (pollId, voterKey) => polls.get(pollId)?.watched.pauseVoter(voterKey) ?? nothing,
    newer,
    get watching() {
      let count = 0;
      for (const { watched } of polls.values()) count += watched.size;
      return count;
    },
    stop() {
      slow.stop();
      broadcasts.stop();
      unlisten();
      reconciler.stop();
      announcer.stop();
      for (const { watched, leave } of polls.values()) {
        watched.stop();
        leave();
      }
      polls.clear();
    },
  };

  async function read(id: string): Promise<PollView | null> {
    const known = cache.open(id);
    return (await cache.current(known)) === null ? null : viewOf(known);
  }

  function viewOf(known: CachedPoll): PollView {
    const { state } = known;
    if (state === null) throw new Error('A view is taken of a poll that is known.');
    return { poll: state.poll, results: () => cache.results(known), watching: () => presence.total(known.id) };
  }

  async function watch(subscription: Subscription, subscriber: Subscriber): Promise<Stop> {
    const known = cache.open(subscription.pollId);
    cache.hold(known);
    try {
      if ((await cache.current(known)) === null) throw pollNotFound(subscription.pollId);
      return await watchedOf(known).join(subscription, subscriber);
    } finally {
      cache.release(known);
    }
  }

  function watchedOf(known: CachedPoll): WatchedPoll {
    const found = polls.get(known.id)?.watched;
    if (found !== undefined) return found;
    const watched = makeWatchedPoll(known, parts);
    cache.hold(known);
    const stops: Stop[] = [() => cache.release(known)];
    if (!bus.alone) {
      // It is compared once the subscription stands: what came between the look before and that moment is found then.
      stops.push(
        bus.subscribe(
          known.id,
          (news) => hear(watched, news),
          () => reconciler.soon(known),
        ),
        presence.follow(known.id),
      );
    }
    polls.set(known.id, {
      watched,
      leave: () => {
        for (const stop of stops) stop();
      },
    });
    return watched;
  }

  function onEmpty(watched: WatchedPoll): void {
    const entry = polls.get(watched.known.id);
    if (entry?.watched !== watched) return;
    polls.delete(watched.known.id);
    watched.stop();
    entry.leave();
  }

  function remove(known: CachedPoll): void {
    cache.drop(known);
    const entry = polls.get(known.id);
    if (entry === undefined) return;
    polls.delete(known.id);
    entry.watched.fail(pollNotFound(known.id));
    entry.watched.stop();
    entry.leave();
  }

  /** What another instance said. The same again, or something older, does nothing; a deletion is never believed unseen. */
  function hear(watched: WatchedPoll, news: PollNews): void {
    const { known } = watched;
    const { state } = known;
    if (state === null) return;
    if (news.kind === 'gone') {
      cache.invalidate(known);
      watched.poke();
      return;
    }
    announcer.onRemote(known.id, news.version);
    if (news.kind === 'counts' && news.revision <= state.poll.revision) {
      const { version, ballotCount, updatedAt, counts } = news;
      if (cache.accept(known, { poll: state.poll, version, ballotCount, updatedAt, counts })) watched.announce();
    } else if (cache.noteVersion(known, news.version, news.revision)) {
      if (news.revision <= state.poll.revision) watched.poke();
      // It may have been closed: that is not kept waiting.
      else
        cache.refresh(known).catch((error) => log.warn({ err: error, pollId: known.id }, 'a change could not be read'));
    }
  }

  /** A subscriber that wants no bytes. */
  function newer(pollId: string, afterVersion: number, waitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let over = false;
      let leave: Stop | null = null;
      const stopTimer = clock.after(waitMs, finish);
      function finish(): void {
        if (over) return;
        over = true;
        stopTimer();
        leave?.();
        resolve();
      }
      const subscription: Subscription = {
        pollId,
        topic: 'results',
        groupKey: '',
        after: afterVersion,
        everyMs: 0,
        encode: () => NOTHING,
        presence: 'returning',
      };
      watch(subscription, new OneShotSubscriber(finish)).then(
        (stop) => {
          if (over) stop();
          else leave = stop;
        },
        (error: unknown) => {
          if (error instanceof NotFoundError) finish();
          else {
            over = true;
            stopTimer();
            reject(error);
          }
        },
      );
    });
  }
}
