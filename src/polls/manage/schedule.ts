/**
 * Opens and closes polls at their time (M6). Every instance sets a timer for what is due soon, and at the time decides under
 * the poll's lock: the first one does it, all others find it done. Nothing is remembered elsewhere, so a restart or a timer
 * that was never set costs nothing: the next look at the database finds what is overdue.
 */
import { dueStatus, nextChange, type Poll } from '../../core/poll.ts';
import type { Hub } from '../../live/hub.ts';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { PollPatch, Store } from '../../ports/store.ts';

export interface Schedule {
  /** Looks at once for what is overdue, and goes on looking. */
  start(): void;
  /** A poll that this process has changed: its timer is set, moved or taken away. */
  notice(poll: Poll): void;
  /** Resolves when nothing is under way any more. */
  stop(): Promise<void>;
}

/** How often the database is asked, and how far ahead: what another instance sets is known long before its time. */
const LOOK_MS = 5_000;
const HORIZON_MS = 15_000;
const RETRY_MS = 1_000;
/** Of one look; the earliest come first, and the next look brings the rest. */
const MOST = 1_000;
/** At the full hour many polls close at once, and votes want their share of the database. */
const AT_ONCE = 4;

export function makeSchedule(options: {
  readonly store: Store;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of each poll that was opened here. */
  readonly onOpened?: (pollId: string) => void;
}): Schedule {
  const { store, hub, clock, log } = options;
  const timers = new Map<string, { readonly at: number; readonly stop: Stop }>();
  /** Those whose time has come, in order. */
  const due = new Set<string>();
  const running = new Set<Promise<void>>();
  let stopLooking: Stop = () => {};
  let looking: Promise<void> | null = null;
  /** The last look brought as many as one may. */
  let more = false;
  let stopped = false;

  return {
    start() {
      stopLooking = clock.every(LOOK_MS, look);
      look();
    },
    notice,
    async stop() {
      stopped = true;
      stopLooking();
      due.clear();
      for (const id of timers.keys()) forget(id);
      await looking;
      await Promise.all(running);
    },
  };

  function look(): void {
    looking ??= find().finally(() => {
      looking = null;
    });
  }

  async function find(): Promise<void> {
    try {
      const polls = await store.duePolls(clock.now() + HORIZON_MS, MOST);
      more = polls.length === MOST;
      for (const poll of polls) notice(poll);
    } catch (error) {
      log.warn({ err: error }, 'polls that are due could not be looked up; the next look comes');
    }
  }

  function notice(poll: Poll): void {
    const at = nextChange(poll);
    if (at === null || at > clock.now() + HORIZON_MS) forget(poll.id);
    else set(poll.id, at);
  }

  function set(id: string, at: number): void {
    if (stopped || due.has(id) || timers.get(id)?.at === at) return;
    forget(id);
    const stop = clock.after(at - clock.now(), () => {
      timers.delete(id);
      due.add(id);
      work();
    });
    timers.set(id, { at, stop });
  }

  function forget(id: string): void {
    timers.get(id)?.stop();
    timers.delete(id);
  }

  function work(): void {
    for (const id of due) {
      if (running.size >= AT_ONCE) return;
      due.delete(id);
      const done = change(id).finally(() => {
        running.delete(done);
        if (stopped) return;
        work();
        if (more && running.size === 0) look();
      });
      running.add(done);
    }
  }

  async function change(id: string): Promise<void> {
    let changed = false;
    let opens = false;
    try {
      const state = await store.changePoll(id, clock.now(), (poll) => {
        const patch = timedChange(poll, clock.now());
        changed = patch !== null;
        opens = patch?.status === 'OPEN';
        return patch;
      });
      if (state === null) return hub.removed(id);
      if (opens) options.onOpened?.(id);
      // Whoever did it: those who watch here need not wait to hear of it.
      if (changed || hub.known(id) !== null) hub.changed(state);
      // It may have been moved meanwhile, or is to close as well.
      notice(state.poll);
    } catch (error) {
      log.warn({ err: error, pollId: id }, 'a poll could not be opened or closed at its time; it is tried again');
      set(id, clock.now() + RETRY_MS);
    }
  }
}

/** What time alone does to a poll; null: nothing yet. */
export function timedChange(poll: Poll, nowMs: number): PollPatch | null {
  const status = dueStatus(poll, nowMs);
  if (status === null) return null;
  return {
    status,
    ...(status === 'CLOSED' && poll.closesAt !== null ? { closedAt: poll.closesAt } : {}),
    raiseVersion: true,
    audit: {
      at: nowMs,
      actor: 'schedule',
      action: status === 'OPEN' ? 'openPoll' : 'closePoll',
      outcome: 'ACCEPTED',
      detail: null,
    },
  };
}
