/** What a subscriber asks of the hub, and what it is served from. Types only. */
import type { Poll } from '../core/poll.ts';
import type { Results } from '../core/tally.ts';
import type { Audience } from '../core/visibility.ts';

/** A poll as it stands. `results` are those of now, never older than the poll. */
export interface PollView {
  readonly poll: Poll;
  results(): Results | Promise<Results>;
  /** How many watch it now, over all transports. */
  watching(): number;
  /** As whom it is shown, where that is known already; else who asks decides. */
  readonly audience?: Audience;
}

/** `results` moves with every vote, `poll` with changes of the poll itself, `audience` with those who come and go. */
export type Topic = 'results' | 'poll' | 'audience';

export interface VoterClaim {
  readonly voterKey: string;
  readonly asVoter: Pick<Subscription, 'groupKey' | 'encode'>;
}

export interface Subscription {
  readonly pollId: string;
  readonly topic: Topic;
  /** What must be equal for two subscribers to share bytes. */
  readonly groupKey: string;
  /** The cursor that the subscriber has: a version, or null for none. */
  readonly after: number | null;
  readonly everyMs: number;
  readonly encode: (view: PollView) => Promise<Buffer> | Buffer;
  /** A known voter without a ballot yet, in a poll that shows more after the vote: how it is served once it has one. */
  readonly claim?: VoterClaim | null;
  /** Whether it counts as watching. `returning`: it leaves with the first update and is expected back for the next. */
  readonly presence: 'staying' | 'returning' | 'none';
}
