/** The context of each operation, for resolvers: the use cases and the viewer. */
import type { GraphQLError } from 'graphql';
import type { Audience } from '../core/visibility.ts';
import type { Accounts } from '../identity/accounts.ts';
import type { Viewer } from '../identity/viewer.ts';
import type { VoterKeys } from '../identity/voter-keys.ts';
import type { RateLimits } from '../limits/rate-limits.ts';
import type { Hub, PollView } from '../live/hub.ts';
import type { Audit } from '../polls/audit.ts';
import type { Exports } from '../polls/export.ts';
import type { PollManager } from '../polls/manage/polls.ts';
import type { VoterCodes } from '../polls/manage/voter-codes.ts';
import type { Anomalies } from '../polls/votes/anomalies.ts';
import type { Votes } from '../polls/votes/cast.ts';

/** The use cases that resolvers call. */
export interface Services {
  readonly votes: Votes;
  readonly polls: PollManager;
  readonly codes: VoterCodes;
  readonly audit: Audit;
  readonly anomalies: Anomalies;
  readonly exports: Exports;
  readonly hub: Hub;
  readonly voters: VoterKeys;
  /** Null: this server has no accounts. */
  readonly accounts: Accounts | null;
  readonly rates: RateLimits;
}

/** The connection or request that an operation came from. */
export interface Origin {
  /** Identifies it in log lines. Reading it may create an id. */
  readonly logFields: object;
}

/** The context of one operation. */
export interface Context {
  readonly services: Services;
  readonly viewer: Viewer;
  /** The network address that limits count; empty for a group. */
  readonly address: string;
  /**
   * Stores a new voter token in the browser's cookie. True: the answer need not contain
   * it.
   */
  readonly keepVoterToken: ((token: string) => boolean) | null;
  /**
   * The poll for a query that waited with its group. Null: deleted. An error: not
   * readable.
   */
  readonly pollView?: PollView | GraphQLError | null;
  /** The audience whose results a group sees; null: those of the viewer. */
  readonly audience?: Audience | null;
  /**
   * The voter token of the request, to return to the caller; null if a cookie holds it.
   */
  readonly voterToken: string | null;
  /** Null for a group. */
  readonly origin: Origin | null;
}
