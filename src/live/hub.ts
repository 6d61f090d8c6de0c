/**
 * Per process: what is known of each poll, and who waits for the next. A poll that somebody watches is kept current by
 * the commits of this process; a poll that nobody watches is remembered as long as there is room.
 *
 * Results are computed when somebody needs them, at most once a version: a commit costs a few additions.
 */
import { NotFoundError, type PollcastError, pollNotFound } from '../core/errors.ts';
import { isPollId, type Poll } from '../core/poll.ts';
import type { Clock, Log, PollChange, PollState, Presence, Stop, Store } from '../core/ports.ts';
import { addContent, type Counts, countResults, type Results } from '../core/tally.ts';
import { type Audience, makeAudience } from './audience.ts';
import { type Group, makeGroup, type Standing } from './group.ts';
import type { Outlet } from './mailbox.ts';
import { makeSlowReaders } from './slow.ts';
import { makeThrottle, type Throttle } from './throttle.ts';

/** A poll as it stands. `results` are those of now, never older than the poll. */
export interface PollView {
  readonly poll: Poll;
  results(): Results | Promise<Results>;
  /** How many watch it now, over all transports. */
  watching(): number;
}

/** `results` moves with every vote, `poll` with changes of the poll itself, `audience` with those who come and go. */
export type Topic = 'results' | 'poll' | 'audience';

export interface Watch {
  readonly pollId: string;
  readonly topic: Topic;
  /** What must be equal for two subscribers to share bytes. */
  readonly groupKey: string;
  /** The cursor that the subscriber has: a version, or null for none. */
  readonly after: number | null;
  readonly everyMs: number;
  readonly encode: (view: PollView) => Promise<Buffer> | Buffer;
  /** Whether it counts as watching. `returning`: it leaves with the first update and is expected back for the next. */
  readonly presence: 'staying' | 'returning' | 'none';
}

export interface HubStats {
  delivered(count: number): void;
  conflated(): void;
}

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
  /** What is known may be outdated: look again before it is used. */
  distrust(pollId: string): void;
  /** Subscribes. Rejects with `NotFoundError` where there is no such poll (L7). Resolves once the first update is on its way. */
  watch(watch: Watch, outlet: Outlet): Promise<Stop>;
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
  /** How many watch a poll, over all instances. */
  readonly presence: Presence;
  /** How often watched polls are compared with the database, where others write to it too. Milliseconds. */
  readonly reconcileMs?: number;
  /** How many unwatched polls are remembered. */
  readonly remember?: number;
  readonly stallMs?: number;
}

interface Entry {
  readonly id: string;
  state: PollState | null;
  /** The newest version that is known to be committed. */
  newest: number;
  /** `state` is behind `newest`, or distrusted: look again before its counts are used. */
  stale: boolean;
  results: Results | null;
  loading: Promise<PollState | null> | null;
  readonly groups: Map<string, { readonly topic: Topic; readonly group: Group<PollView>; linger: Stop | null }>;
  /** Subscribers that are being let in. */
  joining: number;
  readonly audience: Audience;
  /** Changes of the audience so far: the cursor of its topic. */
  audienceChanges: number;
  throttle: Throttle | null;
  gone: boolean;
}

const NOTHING = Buffer.alloc(0);
/** How long a group that everybody left is kept: those who poll come back, and find their bytes encoded. */
const LINGER_MS = 5_000;

export function makeHub(options: HubOptions): Hub {
  const { store, clock, log } = options;
  const remember = options.remember ?? 10_000;
  const entries = new Map<string, Entry>();
  const unlisten = options.presence.listen(showAudience);
  const stopReconciling = store.exclusive
    ? () => {}
    : clock.every(options.reconcileMs ?? 2_000, () => void reconcile());
  let reconciling = false;
  const slow = makeSlowReaders(clock, options.stallMs ?? 30_000, () => options.stats?.conflated());

  return {
    poll(id) {
      const known = entries.get(id)?.state;
      if (known) return known.poll;
      return load(entryOf(id)).then((state) => state?.poll ?? null);
    },
    known(id) {
      const entry = entries.get(id);
      return entry?.state ? viewOf(entry) : null;
    },
    viewOf: (poll) => ({
      poll,
      watching: () => options.presence.total(poll.id),
      results: async () => {
        const view = await read(poll.id);
        if (view === null) throw pollNotFound(poll.id);
        return view.results();
      },
    }),
    read,
    committed(change) {
      const entry = entries.get(change.pollId);
      if (entry === undefined) return;
      // Also while a load is under way: it may have looked before this commit.
      entry.newest = Math.max(entry.newest, change.version);
      if (entry.state !== null && change.version <= entry.state.version) return;
      if (change.version === (entry.state?.version ?? 0) + 1 && entry.state !== null && !entry.stale) {
        advance(entry, entry.state, change);
      } else {
        entry.stale = true;
      }
      entry.throttle?.poke();
    },
    changed(state) {
      const entry = entryOf(state.poll.id);
      accept(entry, state);
      announce(entry);
      return viewOf(entry);
    },
    removed(pollId) {
      const entry = entries.get(pollId);
      if (entry) remove(entry);
    },
    distrust(pollId) {
      const entry = entries.get(pollId);
      if (entry) entry.stale = true;
    },
    watch,
    newer,
    get watching() {
      let count = 0;
      for (const entry of entries.values()) for (const { group } of entry.groups.values()) count += group.size;
      return count;
    },
    stop() {
      slow.stop();
      unlisten();
      stopReconciling();
      for (const entry of entries.values()) release(entry);
      entries.clear();
    },
  };

  function release(entry: Entry): void {
    entry.throttle?.stop();
    entry.audience.stop();
    for (const item of entry.groups.values()) item.linger?.();
  }

  /** Goes to those who look at the audience; their groups see to it that it is once a second at most. */
  function audienceChanged(pollId: string): void {
    const entry = entries.get(pollId);
    if (entry === undefined) return;
    options.presence.report(pollId, entry.audience.size);
    showAudience(pollId);
  }

  function showAudience(pollId: string): void {
    const entry = entries.get(pollId);
    if (entry?.state == null) return;
    entry.audienceChanges++;
    const standing = { cursor: entry.audienceChanges, final: false, state: viewOf(entry) };
    for (const { topic, group } of entry.groups.values()) if (topic === 'audience') group.offer(standing);
  }

  /** One query for all watched polls: what other instances did is seen here, whatever was not announced (M2). */
  async function reconcile(): Promise<void> {
    const watched = [...entries.values()].filter((entry) => entry.groups.size > 0 && entry.state !== null);
    if (reconciling || watched.length === 0) return;
    reconciling = true;
    try {
      const cursors = await store.cursors(watched.map(({ id }) => id));
      for (const entry of watched) {
        const now = cursors.get(entry.id);
        const { state } = entry;
        if (now === undefined) remove(entry);
        else if (state !== null && (now.version > state.version || now.revision > state.poll.revision))
          await load(entry);
      }
    } catch (error) {
      log.warn({ err: error }, 'watched polls could not be compared with the database; the next look comes');
    } finally {
      reconciling = false;
    }
  }

  async function read(id: string): Promise<PollView | null> {
    const entry = entryOf(id);
    return (await current(entry)) === null ? null : viewOf(entry);
  }

  async function watch(wish: Watch, outlet: Outlet): Promise<Stop> {
    const entry = entryOf(wish.pollId);
    entry.joining++;
    entry.throttle ??= makeThrottle(
      clock,
      () => options.intervalMs,
      () => void emit(entry),
    );
    try {
      if ((await current(entry)) === null) throw pollNotFound(wish.pollId);
      const group = groupOf(entry, wish);
      const leave = await group.join(outlet, await standingOf(entry, wish.topic), wish.after);
      if (wish.presence === 'none') return leave;
      const gone = entry.audience.enter(wish.presence === 'returning');
      return () => {
        leave();
        gone();
      };
    } finally {
      entry.joining--;
      forget(entry);
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
      const wish: Watch = {
        pollId,
        topic: 'results',
        groupKey: '',
        after: afterVersion,
        everyMs: 0,
        encode: () => NOTHING,
        presence: 'returning',
      };
      watch(wish, { backlog: () => 0, send: finish, end: finish, fail: finish, drop: finish }).then(
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

  function entryOf(id: string): Entry {
    let entry = entries.get(id);
    if (entry === undefined) {
      entry = {
        id,
        state: null,
        newest: 0,
        stale: false,
        results: null,
        loading: null,
        groups: new Map(),
        joining: 0,
        audience: makeAudience(clock, () => audienceChanged(id)),
        audienceChanges: 0,
        throttle: null,
        gone: false,
      };
      entries.set(id, entry);
      if (entries.size > remember) evict();
    }
    return entry;
  }

  /** The oldest that nobody watches or waits for. */
  function evict(): void {
    for (const entry of entries.values()) {
      if (entry.groups.size > 0 || entry.joining > 0 || entry.audience.size > 0 || entry.loading !== null) continue;
      entries.delete(entry.id);
      return;
    }
  }

  function forget(entry: Entry): void {
    if (entry.groups.size > 0 || entry.joining > 0 || entry.audience.size > 0) return;
    entry.throttle?.stop();
    entry.throttle = null;
    if (entry.state === null) entries.delete(entry.id);
  }

  /** The state as the database has it; from memory where nobody else can have changed it. */
  async function current(entry: Entry): Promise<PollState | null> {
    if (store.exclusive && entry.state !== null && !entry.stale) return entry.state;
    return load(entry);
  }

  function load(entry: Entry): Promise<PollState | null> {
    entry.loading ??= fetch(entry).finally(() => {
      entry.loading = null;
      forget(entry);
    });
    return entry.loading;
  }

  async function fetch(entry: Entry): Promise<PollState | null> {
    const before = entry.state;
    const wasStale = entry.stale;
    const known = wasStale ? undefined : before?.version;
    const loaded = isPollId(entry.id) ? await store.loadPoll(entry.id, known) : null;
    if (loaded === null) {
      if (before !== null) remove(entry);
      return null;
    }
    // Counts are left out only where the version is the one we had then.
    const counts = loaded.counts ?? before?.counts;
    // Whoever looked, and for whatever reason: what is new goes to those who watch.
    if (counts !== undefined && accept(entry, { ...loaded, counts })) announce(entry);
    return entry.state;
  }

  /** Takes a whole state over, unless what we have is newer. Whether anything changed. */
  function accept(entry: Entry, state: PollState): boolean {
    const old = entry.state;
    if (old === null || state.version > old.version || (state.version === old.version && entry.stale)) {
      entry.state = state;
      entry.results = null;
      entry.stale = state.version < entry.newest;
      return true;
    }
    if (state.poll.revision <= old.poll.revision) return false;
    entry.state = { ...old, poll: state.poll };
    return true;
  }

  function advance(entry: Entry, state: PollState, change: PollChange): void {
    const counts: Counts = state.counts;
    for (const content of change.removed) addContent(counts, content, -1);
    for (const content of change.added) addContent(counts, content, 1);
    const { version, ballotCount, updatedAt } = change;
    entry.state = { poll: state.poll, counts, version, ballotCount, updatedAt };
    entry.results = null;
  }

  function viewOf(entry: Entry): PollView {
    const state = entry.state;
    if (state === null) throw new Error('A view is taken of a poll that is loaded.');
    return { poll: state.poll, results: () => resultsOf(entry), watching: () => options.presence.total(entry.id) };
  }

  function resultsOf(entry: Entry): Results | Promise<Results> {
    if (entry.stale) {
      return load(entry).then((state) => {
        if (state === null) throw pollNotFound(entry.id);
        return resultsOf(entry);
      });
    }
    if (entry.state === null) throw pollNotFound(entry.id);
    entry.results ??= countResults(entry.state.poll, entry.state, entry.state.counts);
    return entry.results;
  }

  async function standingOf(entry: Entry, topic: Topic): Promise<Standing<PollView>> {
    if (topic === 'audience') return { cursor: entry.audienceChanges, final: false, state: viewOf(entry) };
    const results = topic === 'results' ? await resultsOf(entry) : null;
    const view = viewOf(entry);
    const final = view.poll.status === 'CLOSED';
    if (results === null) return { cursor: view.poll.revision, final, state: view };
    return { cursor: results.version, final: results.status === 'CLOSED', state: { ...view, results: () => results } };
  }

  function groupOf(entry: Entry, wish: Watch): Group<PollView> {
    const key = `${wish.topic} ${wish.everyMs} ${wish.groupKey}`;
    const known = entry.groups.get(key);
    if (known !== undefined) return known.group;
    const group = makeGroup<PollView>({
      clock,
      slow,
      everyMs: wish.everyMs,
      encode: wish.encode,
      onFault: (error) => log.error({ err: error, pollId: entry.id }, 'an update could not be encoded'),
      onDelivered: (count) => options.stats?.delivered(count),
      onEmpty: () => {
        item.linger?.();
        item.linger = clock.after(LINGER_MS, () => {
          if (group.size > 0) return;
          if (entry.groups.get(key) === item) entry.groups.delete(key);
          forget(entry);
        });
      },
    });
    const item: { topic: Topic; group: Group<PollView>; linger: Stop | null } = {
      topic: wish.topic,
      group,
      linger: null,
    };
    entry.groups.set(key, item);
    return group;
  }

  /** A change of the poll itself goes out at once; so do final results (L6). */
  function announce(entry: Entry): void {
    if (entry.state?.poll.status === 'CLOSED') void emit(entry);
    else entry.throttle?.poke();
  }

  async function emit(entry: Entry): Promise<void> {
    try {
      for (const topic of new Set([...entry.groups.values()].map((item) => item.topic))) {
        if (topic === 'audience') continue;
        const standing = await standingOf(entry, topic);
        for (const item of entry.groups.values()) if (item.topic === topic) item.group.offer(standing);
      }
    } catch (error) {
      // The next change or the next look at the database brings the update.
      log.warn({ err: error, pollId: entry.id }, 'results could not be read; watchers wait for the next look');
    }
  }

  function remove(entry: Entry): void {
    if (entry.gone) return;
    entry.gone = true;
    const gone: PollcastError = pollNotFound(entry.id);
    for (const { group } of [...entry.groups.values()]) group.fail(gone);
    release(entry);
    entries.delete(entry.id);
    options.presence.report(entry.id, 0);
  }
}
