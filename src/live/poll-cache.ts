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
export interface Known {
  readonly id: string;
  state: PollState | null;
  /** The newest version and revision that are said to be committed. */
  version: number;
  revision: number;
  /** How often it was doubted since the last look. */
  doubts: number;
  results: Results | null;
  loading: Promise<PollState | null> | null;
  /** How many need it to stay. */
  holds: number;
}

export interface Memory {
  get(id: string): Known | null;
  /** Known or not, from now on there is a place for it. */
  of(id: string): Known;
  /** It is not forgotten as long as it is held. Held as often as it is released. */
  hold(known: Known): void;
  release(known: Known): void;
  /** As the database has it now; from memory where nobody else writes. Null: there is no such poll. */
  current(known: Known): Promise<PollState | null>;
  /** Looks at the database unless what is known is the newest that is known to be there. Null: there is no such poll. */
  fresh(known: Known): Promise<PollState | null>;
  /** Not older than when they were asked for. */
  results(known: Known): Results | Promise<Results>;
  /** Of the state that is known; throws where none is. */
  counted(known: Known): Results;
  /** A commit of this process. Whether it is news. */
  commit(known: Known, change: PollChange): boolean;
  /** Takes a whole state over, unless what is known is newer. Whether anything changed. */
  accept(known: Known, state: PollState): boolean;
  /** That the database has at least this. Whether it is more than is known. */
  claim(known: Known, version: number, revision: number): boolean;
  /** That what is known may be wrong: the database must be looked at. */
  doubt(known: Known): void;
  drop(known: Known): void;
}

export interface MemoryOptions {
  readonly store: Store;
  /** How many polls that nobody holds are remembered. */
  readonly remember: number;
  /** The database had something new. Before those who wait for the look are told. */
  readonly onNews: (known: Known) => void;
  readonly onGone: (known: Known) => void;
}

export function makeMemory({ store, remember, onNews, onGone }: MemoryOptions): Memory {
  const polls = new Map<string, Known>();
  /** Those that nobody holds, the oldest first. */
  const idle = new Set<Known>();

  return {
    get: (id) => polls.get(id) ?? null,
    of(id) {
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
    fresh,
    results(known) {
      if (!isStale(known)) return counted(known);
      return fresh(known).then(() => counted(known));
    },
    counted,
    commit(known, change) {
      const { state } = known;
      const next = state !== null && !isStale(known) && change.version === state.version + 1;
      // Also while a look is under way: it may have looked before this commit.
      known.version = Math.max(known.version, change.version);
      if (next) advance(known, state, change);
      return state === null || change.version > state.version;
    },
    accept,
    claim(known, version, revision) {
      known.version = Math.max(known.version, version);
      known.revision = Math.max(known.revision, revision);
      return isStale(known);
    },
    doubt: (known) => void known.doubts++,
    drop,
  };

  function drop(known: Known): void {
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
  function forget(known: Known): void {
    if (known.holds === 0 && known.state === null && known.loading === null) drop(known);
  }

  /** A look that was under way may have missed what is asked for: then there is one more. */
  async function fresh(known: Known): Promise<PollState | null> {
    if (known.loading !== null) await known.loading;
    return isStale(known) ? load(known) : known.state;
  }

  /** Whoever asks meanwhile shares the look. */
  function load(known: Known): Promise<PollState | null> {
    known.loading ??= look(known).finally(() => {
      known.loading = null;
      forget(known);
    });
    return known.loading;
  }

  async function look(known: Known): Promise<PollState | null> {
    const { state: before, version, revision, doubts } = known;
    const loaded = isPollId(known.id) ? await store.loadPoll(known.id, doubts > 0 ? undefined : before?.version) : null;
    if (loaded === null) {
      drop(known);
      known.state = null;
      if (before !== null) onGone(known);
      return null;
    }
    // What was claimed before we looked, and is not there, is not true.
    if (known.version === version) known.version = loaded.version;
    if (known.revision === revision) known.revision = loaded.poll.revision;
    known.doubts -= doubts;
    // Counts are left out only where the version is the one we had then.
    const counts = loaded.counts ?? before?.counts;
    if (counts === undefined) return known.state;
    const state = { ...loaded, counts };
    if (doubts > 0 && known.state === before && before !== null && state.version <= before.version) {
      // Not even a higher version is right against the database.
      known.state = state;
      known.results = null;
    } else if (accept(known, state)) onNews(known);
    return known.state;
  }

  function accept(known: Known, state: PollState): boolean {
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

  function advance(known: Known, state: PollState, change: PollChange): void {
    const { counts } = state;
    for (const content of change.removed) addContent(counts, content, -1);
    for (const content of change.added) addContent(counts, content, 1);
    const { version, ballotCount, updatedAt } = change;
    known.state = { poll: state.poll, counts, version, ballotCount, updatedAt };
    known.results = null;
  }

  function counted(known: Known): Results {
    if (known.state === null) throw pollNotFound(known.id);
    known.results ??= countResults(known.state.poll, known.state, known.state.counts);
    return known.results;
  }
}

/** Whether the database is known, or suspected, to have something else. */
export function isStale({ state, version, revision, doubts }: Known): boolean {
  return doubts > 0 || (state !== null && (state.version < version || state.poll.revision < revision));
}

function newKnown(id: string): Known {
  return { id, state: null, version: 0, revision: 0, doubts: 0, results: null, loading: null, holds: 0 };
}
