/** Where polls, ballots, codes and audit entries are kept. */
import type { ErrorCode } from '../core/errors.ts';
import type { Poll, PollSettings, PollStatus } from '../core/poll.ts';
import type { Counts } from '../core/tally.ts';

/** A poll and its counts at one version. `counts` belongs to whoever received it. */
export interface PollState {
  readonly poll: Poll;
  readonly version: number;
  readonly ballotCount: number;
  /** Milliseconds since 1970. */
  readonly updatedAt: number;
  readonly counts: Counts;
}

export interface BallotEntry {
  readonly pollId: string;
  /** A UUID-shaped HMAC. MUST NOT stand twice for one poll in one batch. */
  readonly voterKey: string;
  readonly content: string;
  /** The revision of the poll that the content was checked against. */
  readonly revision: number;
  /** The receipt id to use if this ballot is recorded (a UUID). */
  readonly receiptId: string;
  /** The poll, at that revision, knows its voters by CODE: the voter key must be one of its codes'. */
  readonly coded: boolean;
}

export interface Receipt {
  readonly id: string;
  readonly pollId: string;
  readonly version: number;
  /** Milliseconds since 1970. */
  readonly castAt: number;
}

export type CastOutcome =
  | { readonly kind: 'RECORDED' | 'UNCHANGED' | 'REPLACED'; readonly receipt: Receipt }
  /** Another ballot of this voter stands and the poll allows no change. */
  | { readonly kind: 'ALREADY_VOTED' }
  | { readonly kind: 'NOT_OPEN'; readonly status: PollStatus }
  /** The poll knows its voters by CODE, and this voter key is not that of one of its codes. */
  | { readonly kind: 'NOT_ADMITTED' }
  | { readonly kind: 'NOT_FOUND' }
  /** The poll was changed since the content was checked, or a ballot came and went meanwhile: check again and resend. */
  | { readonly kind: 'STALE' };

/** What one commit did to one poll's results. */
export interface PollChange {
  readonly pollId: string;
  readonly version: number;
  readonly ballotCount: number;
  readonly updatedAt: number;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

export interface BatchResult {
  /** In the order of the entries. */
  readonly outcomes: readonly CastOutcome[];
  readonly changes: readonly PollChange[];
}

export interface BallotRecord {
  readonly content: string;
  readonly castAt: number;
}

export interface PollPatch {
  readonly settings?: PollSettings;
  readonly status?: PollStatus;
  readonly closedAt?: Date;
  readonly dropBallots?: boolean;
  /** Whether the results change with it (status, labels, ballots, who sees them). */
  readonly raiseVersion: boolean;
  /** Kept in the same transaction. */
  readonly audit?: AuditNote;
}

/** What somebody did to a poll, or was refused. */
export interface AuditNote {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** 'organizer key', 'unknown key', 'anonymous', 'schedule', 'operator', or 'account:' and its `sub`. */
  readonly actor: string;
  readonly action: string;
  /** 'ACCEPTED', or the code of the error that refused it. */
  readonly outcome: 'ACCEPTED' | ErrorCode;
  readonly detail: string | null;
}

export interface AuditRecord extends AuditNote {
  /** Rises from entry to entry. */
  readonly id: number;
  /** How many refusals after this one were only counted. */
  readonly more: number;
}

export interface NewPoll extends PollSettings {
  readonly id: string;
  readonly joinCode: string;
  readonly status: PollStatus;
  readonly createdAt: Date;
  readonly organizerKeyHash: string;
  readonly owner: string | null;
}

export interface PollFilter {
  /** Only the polls of this organizer key or of this owner; both null: all. */
  readonly organizerKeyHash: string | null;
  readonly owner: string | null;
  readonly status: PollStatus | null;
  readonly first: number;
  /** Newest first: only polls after this one. */
  readonly after: { readonly createdAt: Date; readonly id: string } | null;
}

export interface Discrepancy {
  readonly pollId: string;
  /** Which count differs: a tally key, or `ballotCount`. */
  readonly what: string;
  readonly kept: number;
  readonly recounted: number;
}

/**
 * Where polls and ballots are kept. Every method is one transaction and MUST have committed when its promise resolves (V1).
 * A promise that rejects with `UnavailableError` MUST have changed nothing or be safe to send again.
 */
export interface Store {
  readonly kind: 'pglite' | 'postgres';
  /** Nobody else writes: what this process remembers of a poll is what is kept. */
  readonly exclusive: boolean;
  /** The most entries that `castBallots` takes well. */
  readonly maxBatch: number;
  /** How many operations are under way, those that wait for a connection included, and how many connections there are. */
  readonly load: { readonly operations: number; readonly connections: number };
  insertPoll(poll: NewPoll, note?: AuditNote): Promise<PollState>;
  findPollId(joinCode: string): Promise<string | null>;
  /** Leaves `counts` out where the version is still `knownVersion`. */
  loadPoll(id: string, knownVersion?: number): Promise<(Omit<PollState, 'counts'> & { counts?: Counts }) | null>;
  /** Where polls stand, in one query; those that are gone are left out. */
  cursors(
    ids: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly version: number; readonly revision: number }>>;
  listPolls(filter: PollFilter): Promise<readonly Poll[]>;
  /** Decides under the poll's lock. `decide` may throw, or return null to leave the poll as it is. Null: no such poll. */
  changePoll(id: string, nowMs: number, decide: (poll: Poll) => PollPatch | null): Promise<PollState | null>;
  /** With its ballots, codes and audit entries; only `note` stays. */
  deletePoll(id: string, note?: AuditNote): Promise<boolean>;
  /** Polls that are to open or to close by themselves up to that moment and have not yet, the earliest first; at most `most`. */
  duePolls(untilMs: number, most: number): Promise<readonly Poll[]>;
  /** Adds voter keys of new codes. `decide` runs under the poll's lock and may throw. False: no such poll. */
  addVoterCodes(pollId: string, voterKeys: readonly string[], decide: (poll: Poll) => AuditNote): Promise<boolean>;
  /** All entries in one transaction (V1 to V6). */
  castBallots(entries: readonly BallotEntry[], nowMs: number): Promise<BatchResult>;
  /** Takes a ballot back. Null: no ballot of this voter was there. `decide` runs under the poll's lock and may throw. */
  retractBallot(
    pollId: string,
    voterKey: string,
    nowMs: number,
    decide: (poll: Poll) => void,
  ): Promise<PollChange | null>;
  findBallot(pollId: string, voterKey: string): Promise<BallotRecord | null>;
  /** Which of these have a ballot in the poll. */
  votersAmong(pollId: string, voterKeys: readonly string[]): Promise<ReadonlySet<string>>;
  /**
   * Ballots of the poll up to that version, in the order of their voter keys, after `after`, at most `most`. `last` goes on
   * from there; null: that was all.
   */
  ballotPage(
    pollId: string,
    version: number,
    after: string | null,
    most: number,
  ): Promise<{ readonly ballots: readonly BallotRecord[]; readonly last: string | null }>;
  addAudit(pollId: string, note: AuditNote): Promise<void>;
  /** At most `limit.most` refusals of a poll are kept since `limit.since`; all others, and `more`, are counted with the last one. */
  addRefusals(
    pollId: string,
    notes: readonly AuditNote[],
    more: number,
    limit: { readonly since: number; readonly most: number },
  ): Promise<void>;
  /** Newest first, only those with a lower id than `before`. */
  listAudit(pollId: string, first: number, before: number | null): Promise<readonly AuditRecord[]>;
  /** Counts all ballots again and names every difference to the kept tallies. */
  recount(): Promise<{
    readonly polls: number;
    readonly ballots: number;
    readonly differences: readonly Discrepancy[];
  }>;
  /** Keeps the fact if the database has none of this name. Resolves to the kept value. */
  keepFact(name: string, value: string): Promise<string>;
  ping(): Promise<void>;
  close(): Promise<void>;
}
