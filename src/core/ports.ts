/** The side doors as the rooms above see them. Types only. */
import type { ErrorCode } from './errors.ts';
import type { Poll, PollSettings, PollStatus } from './poll.ts';
import type { Counts } from './tally.ts';

export type Stop = () => void;

/** Time is an argument: nothing below `app.ts` reads a clock of its own. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls once after `ms` milliseconds. Any length: it MUST NOT fire early past 2^31 ms. */
  after(ms: number, run: () => void): Stop;
  every(ms: number, run: () => void): Stop;
}

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

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

/** Something that the server works with, and that may be away. */
export interface Dependency {
  readonly name: string;
  /** Without it the instance cannot do its work; else it is only said to be degraded. */
  readonly needed: boolean;
  /** Resolves where it answers. It may take for ever. */
  readonly check: () => Promise<void>;
}

/** How many watch a poll, over all instances. */
export interface Presence {
  /** How many watch it here. MUST be cheap: it is called with everyone who comes and goes. */
  report(pollId: string, watching: number): void;
  /** As far as is known; never below what was reported here. MUST be cheap. The others' numbers are known only of polls that are followed. */
  total(pollId: string): number;
  /** Keeps up with the others' numbers of a poll until stopped. Not twice for one poll at a time. */
  follow(pollId: string): Stop;
  /** Called with the poll when another instance's number has changed. MUST NOT call back for `report`. */
  listen(onChange: (pollId: string) => void): Stop;
  /** Takes back what was reported. */
  close(): Promise<void>;
}

/** How much an address has open, over all instances, by a name for both; see `Presence`. Only of instances that can be heard now. */
export type Places = Pick<Presence, 'report' | 'total' | 'follow' | 'close'>;

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
  ping(): Promise<void>;
  close(): Promise<void>;
}
