/** What is counted while the server runs. */
import type { ErrorCode } from '../core/errors.ts';

/** What became of a vote. FAULT: neither counted nor refused, the fault is ours. */
export type VoteEnd = 'RECORDED' | 'UNCHANGED' | 'REPLACED' | ErrorCode | 'FAULT';

/** What looks unlike people voting. */
export const ANOMALY_KINDS = ['VOTE_BURST', 'CODE_BURST', 'EARLY_VOTES'] as const;
export type AnomalyKind = (typeof ANOMALY_KINDS)[number];

/** Counts what happens. Each call MUST cost next to nothing, many are made for every vote, and MUST NOT throw. */
export interface Metrics {
  /** A vote was answered, that long after it had arrived. */
  vote(end: VoteEnd, milliseconds: number): void;
  /** A batch was committed, or was given up. */
  batch(ballots: number, milliseconds: number): void;
  /** Updates went out to so many. */
  delivered(count: number): void;
  /** An update took the place of one that a slow reader has not had yet. */
  conflated(): void;
  /** A reader that made no progress was cut off. */
  cut(): void;
  /** A message of the bus: `sent`, `received`, or what was wrong with it. */
  busMessage(outcome: string): void;
  /** How long a message of the bus was under way. */
  busLag(milliseconds: number): void;
  /** So many votes, or codes, were part of an anomaly. */
  anomaly(kind: AnomalyKind, count: number): void;
  /** A request or connection was refused by the limit of this name. */
  refused(kind: string): void;
}
