/** One subscriber: the newest update that it has not had yet, and nothing more (L5). */
import type { PollcastError } from '../core/errors.ts';

/** One encoded state of a topic, the same bytes for all of a group. */
export interface Update {
  /** The version of the results, or the revision of the poll. Only ever rises. */
  readonly cursor: number;
  /** A GraphQL execution result, as JSON. */
  readonly payload: Buffer;
  /** Nothing newer will come. */
  readonly final: boolean;
}

/** One subscriber's end, given by a transport. None of these may throw. */
export interface Outlet {
  /** Bytes that were sent and that the kernel has not taken yet. */
  backlog(): number;
  /** MUST only be called while `backlog()` is 0. */
  send(update: Update): void;
  /** The last update was sent. */
  end(): void;
  /** There is nothing to watch any more. */
  fail(error: PollcastError): void;
  /** The reader made no progress for too long: cut it off. */
  drop(): void;
}

/** Latest wins: at most one update waits, whatever is dropped between; the newest always arrives (L3). */
export class Mailbox {
  readonly outlet: Outlet;
  /** What the subscriber has; only newer updates go out (L2). */
  cursor: number;
  pending: Update | null = null;
  /** While it waits: the backlog when last looked at, and since when it has not moved. */
  backlog = 0;
  stuckSince = 0;

  constructor(outlet: Outlet, cursor: number) {
    this.outlet = outlet;
    this.cursor = cursor;
  }

  /** Whether the update went out; else it waits, in the place of an older one. */
  push(update: Update): boolean {
    if (update.cursor <= this.cursor) return true;
    if (this.pending !== null || this.outlet.backlog() > 0) {
      this.pending = update;
      return false;
    }
    this.deliver(update);
    return true;
  }

  deliver(update: Update): void {
    this.cursor = update.cursor;
    this.pending = null;
    this.outlet.send(update);
    if (update.final) this.outlet.end();
  }
}
