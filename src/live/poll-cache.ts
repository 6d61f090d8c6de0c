/**
 * What this process knows of polls. A poll that is held (somebody watches it) is kept; the others are remembered as long
 * as there is room. Results are computed when somebody needs them, at most once a version: a commit costs a few additions.
 *
 * A state is stale when something newer is known to be committed, or when it is doubted. A stale state is looked up before
 * its results are used; what was claimed before a look began, and is not in the database then, is forgotten with it.
 */
import { pollNotFound } from '../core/errors.ts';
import { isPollId } from '../core/poll.ts';
import { addContent, countResults, type Results } from '../core/tally.ts';
import type { PollChange, PollState, Store } from '../ports/store.ts';

/** A poll in memory. Only `memory.ts` writes into it. */
export interface CachedPoll {
  readonly id: string;
  state: PollState | null;
  /** The newest version and revision that are said to be committed. */
  version: number;
  revision: number;
  /** How often it was doubted since the last look. */
  invalidations: number;
  results: Results | null;
  loading: Promise<PollState | null> | null;
  /** How many need it to stay. */
  holds: number;
}

export interface PollCache {
  get(id: string): CachedPoll | null;
  /** Known or not, from now on there is a place for it. */
  open(id: string): CachedPoll;
  /** It is not forgotten as long as it is held. Held as often as it is released. */
  hold(known: CachedPoll): void;
  release(known: CachedPoll): void;
  /** As the database has it now; from memory where nobody else writes. Null: there is no such poll. */
  current(known: CachedPoll): Promise<PollState | null>;
  /** Looks at the database unless what is known is the newest that is known to be there. Null: there is no such poll. */
  refresh(known: CachedPoll): Promise<PollState | null>;
  /** Not older than when they were asked for. */
  results(known: CachedPoll): Results | Promise<Results>;
  /** Of the state that is known; throws where none is. */
  countedResults(known: CachedPoll): Results;
  /** A commit of this process. Whether it is news. */
  commit(known: CachedPoll, change: PollChange): boolean;
  /** Takes a whole state over, unless what is known is newer. Whether anything changed. */
  accept(known: CachedPoll, state: PollState): boolean;
  /** That the database has at least this. Whether it is more than is known. */
  noteVersion(known: CachedPoll, version: number, revision: number): boolean;
  /** That what is known may be wrong: the database must be looked at. */
  invalidate(known: CachedPoll): void;
  drop(known: CachedPoll): void;
}

export interface PollCacheOptions {
  readonly store: Store;
  /** How many polls that nobody holds are remembered. */
  readonly remember: number;
  /** The database had something new. Before those who wait for the look are told. */
  readonly onNews: (known: CachedPoll) => void;
  readonly onGone: (known: CachedPoll) => void;
}

export function makePollCache({ store, remember, onNews, onGone }: PollCacheOptions): PollCache {
  const polls = new Map<string, CachedPoll>();
  /** Those that nobody holds, the oldest first. */
  const idle = new Set<CachedPoll>();

  return {
    get: (id) => polls.get(id) ?? null,
    open(id) {
      const found = polls.get(id);
      if (found !== undefined) return found;
      const known = newKnown(id);
      polls.set(id, known);
      idle.add(known);
      if (idle.size > remember) evict();
      return known;
    },
    hold(known) {
      known.holds++;
      idle.delete(known);
    },
    release(known) {
      known.holds--;
      if (known.holds === 0 && polls.get(known.id) === known) idle.add(known);
      forget(known);
    },
    async current(known) {
      const isCurrent = (): boolean => store.exclusive && known.state !== null && !isStale(known);
      // A look that is under way may have seen less than who asks now has seen elsewhere: they share the next one.
      if (known.loading !== null && !isCurrent()) await known.loading;
      return isCurrent() ? known.state : load(known);
    },
    refresh,
    results(known) {
      if (!isStale(known)) return countedResults(known);
      return refresh(known).then(() => countedResults(known));
    },
    countedResults,
    commit(known, change) {
      const { state } = known;
      const next = state !== null && !isStale(known) && change.version === state.version + 1;
      // Also while a look is under way: it may have looked before this commit.
      known.version = Math.max(known.version, change.version);
      if (next) advance(known, state, change);
      return state === null || change.version > state.version;
    },
    accept,
    noteVersion(known, version, revision) {
      known.version = Math.max(known.version, version);
      known.revision = Math.max(known.revision, revision);
      return isStale(known);
    },
    invalidate: (known) => void known.invalidations++,
    drop,
  };

  function drop(known: CachedPoll): void {
    if (polls.get(known.id) === known) polls.delete(known.id);
    idle.delete(known);
  }

  function evict(): void {
    for (const known of idle) {
      if (known.loading !== null) continue;
      drop(known);
      return;
    }
  }

  /** What is not there is not worth a place. */
  function forget(known: CachedPoll): void {
    if (known.holds === 0 && known.state === null && known.loading === null) drop(known);
  }

  /** A look that was under way may have missed what is asked for: then there is one more. */
  async function refresh(known: CachedPoll): Promise<PollState | null> {
    if (known.loading !== null) await known.loading;
    return isStale(known) ? load(known) : known.state;
  }

  /** Whoever asks meanwhile shares the look. */
  function load(known: CachedPoll): Promise<PollState | null> {
    known.loading ??= readDatabase(known).finally(() => {
      known.loading = null;
      forget(known);
    });
    return known.loading;
  }

  async function readDatabase(known: CachedPoll): Promise<PollState | null> {
    const { state: before, version, revision, invalidations } = known;
    const loaded = isPollId(known.id)
      ? await store.loadPoll(known.id, invalidations > 0 ? undefined : before?.version)
      : null;
    if (loaded === null) {
      drop(known);
      known.state = null;
      if (before !== null) onGone(known);
      return null;
    }
    // What was claimed before we looked, and is not there, is not true.
    if (known.version === version) known.version = loaded.version;
    if (known.revision === revision) known.revision = loaded.poll.revision;
    known.invalidations -= invalidations;
    // Counts are left out only where the version is the one we had then.
    const counts = loaded.counts ?? before?.counts;
    if (counts === undefined) return known.state;
    const state = { ...loaded, counts };
    if (invalidations > 0 && known.state === before && before !== null && state.version <= before.version) {
      // Not even a higher version is right against the database.
      known.state = state;
      known.results = null;
    } else if (accept(known, state)) onNews(known);
    return known.state;
  }

  function accept(known: CachedPoll, state: PollState): boolean {
    const old = known.state;
    if (old === null || state.version > old.version) {
      // A commit may be newer than the poll that came with it.
      const poll = old !== null && old.poll.revision > state.poll.revision ? old.poll : state.poll;
      known.state = { ...state, poll };
      known.results = null;
      return true;
    }
    if (state.poll.revision <= old.poll.revision) return false;
    known.state = { ...old, poll: state.poll };
    known.results = null;
    return true;
  }

  function advance(known: CachedPoll, state: PollState, change: PollChange): void {
    const { counts } = state;
    for (const content of change.removed) addContent(counts, content, -1);
    for (const content of change.added) addContent(counts, content, 1);
    const { version, ballotCount, updatedAt } = change;
    known.state = { poll: state.poll, counts, version, ballotCount, updatedAt };
    known.results = null;
  }

  function countedResults(known: CachedPoll): Results {
    if (known.state === null) throw pollNotFound(known.id);
    known.results ??= countResults(known.state.poll, known.state, known.state.counts);
    return known.results;
  }
}

/** Whether the database is known, or suspected, to have something else. */
export function isStale({ state, version, revision, invalidations }: CachedPoll): boolean {
  return invalidations > 0 || (state !== null && (state.version < version || state.poll.revision < revision));
}

function newKnown(id: string): CachedPoll {
  return { id, state: null, version: 0, revision: 0, invalidations: 0, results: null, loading: null, holds: 0 };
}
