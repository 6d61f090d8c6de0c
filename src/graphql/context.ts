/** What every resolver gets: the use cases, and who asks. */

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
  /** Null: this server knows no accounts. */
  readonly accounts: Accounts | null;
  readonly rates: RateLimits;
}

/** Where an operation came from. */
export interface Origin {
  /** What names it in log lines. Asking may cost something. */
  readonly logFields: object;
}

/** One operation's context: who asks, and what they may call. */
export interface Context {
  readonly services: Services;
  readonly viewer: Viewer;
  /** The network that the caller is counted by; empty for a group. */
  readonly address: string;
  /** Keeps a new voter token for the viewer, where the transport can (a browser's cookie). True: the caller need not see it. */
  readonly keepVoterToken: ((token: string) => boolean) | null;
  /** Where the poll stands, given to a query that waited for it with a whole group; null: it is gone; else why it cannot be read. */
  readonly pollView?: PollView | GraphQLError | null;
  /** As whom a whole group is shown results; null: as the viewer. */
  readonly audience?: Audience | null;
  /** The voter token that came with the request itself, to be given back; null where a cookie holds it. */
  readonly voterToken: string | null;
  /** Null for what is run for a whole group. */
  readonly origin: Origin | null;
}
