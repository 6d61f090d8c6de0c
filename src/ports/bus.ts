/** How instances tell each other of new results. */
import type { Counts } from '../core/tally.ts';
import type { Stop } from './clock.ts';

/** What one instance tells the others of a poll. Messages may be lost, repeated or late: each stands for itself. */
export type PollNews =
  /** The whole counts at a version: they replace everything older. `revision` is that of the poll as the sender knows it. */
  | {
      readonly kind: 'counts';
      readonly pollId: string;
      readonly version: number;
      readonly revision: number;
      readonly ballotCount: number;
      /** Milliseconds since 1970. */
      readonly updatedAt: number;
      readonly counts: Counts;
    }
  /** The database has at least this; 0 where the sender does not know. */
  | { readonly kind: 'look'; readonly pollId: string; readonly version: number; readonly revision: number }
  /** Perhaps deleted. Only the database can say so. */
  | { readonly kind: 'gone'; readonly pollId: string };

/** Counts since the start. */
export interface BusStats {
  readonly published: number;
  /** Not sent, because the bus was away or behind. */
  readonly dropped: number;
  readonly received: number;
  /** Received and not understood. */
  readonly malformed: number;
  /** Milliseconds that the last message was under way, by the clocks of two machines; null before the first. */
  readonly lagMs: number | null;
}

/**
 * How instances tell each other of new results. It is a hint, never the truth: whatever it loses, the hub finds in the
 * database (M2), and no vote waits for it or fails with it (M3).
 */
export interface Bus {
  /** One instance alone: there is nobody to tell, and nothing is ever received. */
  readonly alone: boolean;
  /** Whether messages can be sent and received now. */
  readonly connected: boolean;
  readonly stats: BusStats;
  /** MUST NOT throw, wait, or keep a message until a connection is back. MUST NOT keep `counts` beyond the call. */
  publish(news: PollNews): void;
  /**
   * What the others say of a poll, until stopped. MUST NOT give this instance its own news. At most once a poll at a time.
   * `onStanding` is called whenever the subscription stands, at first and after every reconnect: what was said before may
   * be lost, so the database MUST be read after it, not before.
   */
  subscribe(pollId: string, onNews: (news: PollNews) => void, onStanding: () => void): Stop;
  close(): Promise<void>;
}
