/**
 * One subscriber: its end of the line, and the newest update that it has not had yet, and nothing more (L5). Both are one
 * object that the transports extend: a broadcast touches each of thousands, and every further object is a cache miss.
 */
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

/** Latest wins: at most one update waits, whatever is dropped between; the newest always arrives (L3). */
export abstract class Subscriber {
  /** What the subscriber has; only newer updates go out (L2). */
  cursor = -1;
  pending: Update | null = null;
  /** Is being looked at by the slow readers: what comes waits. */
  isSlow = false;
  /** Its place among the members of its group; -1: in none. */
  index = -1;

  // None of these may throw.
  /** Hands an update over. Whether the kernel took all of it: if not, it is left alone until `backlog()` is 0. */
  abstract send(update: Update): boolean;
  /** Bytes that were sent and that the kernel has not taken yet. */
  abstract backlog(): number;
  /** The last update was sent. */
  abstract end(): void;
  /** There is nothing to watch any more. */
  abstract fail(error: PollcastError): void;
  /** The reader made no progress for too long: cut it off. */
  abstract cut(): void;

  /** Whether nothing is left to do for this subscriber; else it belongs to the slow readers. */
  push(update: Update): boolean {
    if (update.cursor <= this.cursor) return true;
    if (this.isSlow) {
      this.pending = update;
      return false;
    }
    this.cursor = update.cursor;
    const taken = this.send(update);
    if (update.final) this.end();
    return taken;
  }

  /** What waited, if anything did. Whether nothing is left to do. */
  deliverPending(): boolean {
    const update = this.pending;
    this.pending = null;
    return update === null || this.push(update);
  }
}
