/**
 * Who did what to a poll, and who was refused. What is accepted is kept in the transaction that does it. What is refused is
 * kept apart and bounded, so that nobody fills the disk with it: 100 entries a poll an hour, the rest is counted, and
 * the database is asked once a second at most, however many are refused.
 */

import { type ErrorCode, PollcastError } from '../core/errors.ts';
import type { Poll } from '../core/poll.ts';
import { requireManager } from '../identity/permissions.ts';
import type { Viewer } from '../identity/viewer.ts';
import type { Clock, Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { AuditNote, AuditRecord, Store } from '../ports/store.ts';

export interface Audit {
  /** An accepted action, to go into the transaction that does it. */
  accepted(action: string, viewer: Viewer, detail?: string | null): AuditNote;
  /** For what is not one transaction, such as a thousand ballots in the batches of everybody. */
  add(pollId: string, note: AuditNote): Promise<void>;
  /** Does `work`; if it is refused, that is noted, and thrown on. */
  guard<T>(action: string, viewer: Viewer, pollId: string, work: () => Promise<T>): Promise<T>;
  /** Newest first. Throws `NotAllowedError` where the viewer does not manage the poll. */
  list(viewer: Viewer, poll: Poll, first: number, before: number | null): Promise<readonly AuditRecord[]>;
  /** Writes what still waits. */
  stop(): Promise<void>;
}

const HOUR_MS = 3_600_000;
const REFUSALS_AN_HOUR = 100;
const PAUSE_MS = 1_000;
/** Polls whose refusals wait for the next write; it is a second away at most. */
const MOST_POLLS = 1_000;
/** Of a poll that is not there, or not reached, there is nothing to tell. */
const NOT_REFUSED: readonly ErrorCode[] = ['NOT_FOUND', 'UNAVAILABLE'];

export function makeAudit(options: { readonly store: Store; readonly clock: Clock; readonly log: Log }): Audit {
  const { store, clock, log } = options;
  let waiting = new Map<string, { readonly notes: AuditNote[]; more: number }>();
  let writing: Promise<void> | null = null;
  let pause: Stop | null = null;
  let lost = 0;
  let stopped = false;

  return {
    accepted: (action, viewer, detail = null) => note(action, actorOf(viewer, null), 'ACCEPTED', detail),
    add: (pollId, accepted) => store.addAudit(pollId, accepted),
    async guard(action, viewer, pollId, work) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof PollcastError && !NOT_REFUSED.includes(error.code)) {
          refused(pollId, note(action, actorOf(viewer, error.code), error.code, null));
        }
        throw error;
      }
    },
    async list(viewer, poll, first, before) {
      requireManager(viewer, poll);
      // What was refused here a moment ago is not missing.
      await flush();
      return store.listAudit(poll.id, first, before);
    },
    async stop() {
      stopped = true;
      await flush();
      pause?.();
    },
  };

  function note(action: string, actor: string, outcome: AuditNote['outcome'], detail: string | null): AuditNote {
    return { at: clock.now(), actor, action, outcome, detail };
  }

  function refused(pollId: string, refusal: AuditNote): void {
    let entry = waiting.get(pollId);
    if (entry === undefined) {
      if (waiting.size >= MOST_POLLS) {
        lost++;
        return;
      }
      waiting.set(pollId, (entry = { notes: [], more: 0 }));
    }
    if (entry.notes.length < REFUSALS_AN_HOUR) entry.notes.push(refusal);
    else entry.more++;
    if (pause === null && writing === null) void write();
  }

  async function flush(): Promise<void> {
    await writing;
    await write();
  }

  /** All that waits; then a pause before the next, unless somebody wants to read. */
  function write(): Promise<void> {
    if (waiting.size === 0) return Promise.resolve();
    writing ??= writeAll().finally(() => {
      writing = null;
      pause?.();
      if (!stopped) pause = clock.after(PAUSE_MS, endPause);
    });
    return writing;
  }

  function endPause(): void {
    pause = null;
    void write();
  }

  async function writeAll(): Promise<void> {
    const taken = waiting;
    waiting = new Map();
    if (lost > 0) log.warn({ lost }, 'too much was refused at once; some refusals are not kept');
    lost = 0;
    for (const [pollId, { notes, more }] of taken) {
      await keepRefusals(pollId, notes, more);
    }
  }

  /** If the database refuses an entry, the others are written one by one: one bad row costs no other (V8). */
  async function keepRefusals(pollId: string, notes: readonly AuditNote[], more: number): Promise<void> {
    try {
      await store.addRefusals(pollId, notes, more, { since: clock.now() - HOUR_MS, most: REFUSALS_AN_HOUR });
    } catch (error) {
      if (notes.length > 1 && !(error instanceof PollcastError)) {
        for (const each of notes) await keepRefusals(pollId, [each], 0);
        if (more > 0) await keepRefusals(pollId, [], more);
        return;
      }
      log.warn({ err: error, pollId, refusals: notes.length + more }, 'refused actions could not be kept');
    }
  }
}

/** Whoever is refused as not allowed bears a key of nobody's, or another poll's. */
function actorOf(viewer: Viewer, refusedAs: ErrorCode | null): string {
  if (viewer.account !== null) return `account:${viewer.account.sub}`;
  if (viewer.organizerKeyHash === null) return 'anonymous';
  return refusedAs === 'NOT_ALLOWED' ? 'unknown key' : 'organizer key';
}
