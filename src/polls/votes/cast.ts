/** Casting and retracting: check the ballot, hand it to the batcher, say what became of it. */
import { randomUUID } from 'node:crypto';
import { type BallotContent, type BallotInput, decodeBallot, encodeBallot } from '../../core/ballot.ts';
import {
  AlreadyVotedError,
  InvalidInputError,
  NotAllowedError,
  PollcastError,
  PollNotOpenError,
  pollNotFound,
  UnavailableError,
} from '../../core/errors.ts';
import { BOUNDS, type Poll, statusAt } from '../../core/poll.ts';
import { checkText, isBlank } from '../../core/text.ts';
import type { Audience } from '../../core/visibility.ts';
import { managesPoll, requireManager } from '../../identity/permissions.ts';
import { accountVoter, type Viewer, voterIn } from '../../identity/viewer.ts';
import { isCoded, isCodedIn, type VoterKeys } from '../../identity/voter-keys.ts';
import type { Hub, PollView } from '../../live/hub.ts';
import type { Clock } from '../../ports/clock.ts';
import type { VoteEnd } from '../../ports/metrics.ts';
import type { BallotEntry, CastOutcome, Receipt, Store } from '../../ports/store.ts';
import type { Audit } from '../audit.ts';
import type { Anomalies } from './anomalies.ts';
import type { Batcher } from './batcher.ts';

export type VoteOutcome = 'RECORDED' | 'UNCHANGED' | 'REPLACED';

export interface CastVote extends BallotInput {
  readonly pollId: string;
}

export interface VoteResult {
  readonly receipt: Receipt & { readonly outcome: VoteOutcome };
  readonly view: PollView;
}

export interface BatchVotes {
  readonly pollId: string;
  readonly ballots: readonly ({ readonly voterId: string } & BallotInput)[];
}

export interface BatchVotesResult {
  recorded: number;
  unchanged: number;
  replaced: number;
  version: number;
  readonly rejected: { readonly index: number; readonly message: string }[];
}

export interface Votes {
  /**
   * One ballot of one voter, given as an identity such as `device:…`, from a network, empty where it is not known. Throws what
   * section 2 lists for `castVote`.
   */
  cast(voter: string, vote: CastVote, address?: string): Promise<VoteResult>;
  /** Up to 1 000 ballots of named voters; what is wrong with one is said under its index (V8). */
  castMany(viewer: Viewer, batch: BatchVotes): Promise<BatchVotesResult>;
  retract(voter: string | null, pollId: string): Promise<PollView>;
  /** As whom the viewer sees the results of the poll now (L8). */
  shownAs(viewer: Viewer, poll: Poll): Promise<Audience>;
  ballotOf(viewer: Viewer, poll: Poll): Promise<(BallotContent & { readonly castAt: number }) | null>;
}

const MAX_ATTEMPTS = 8;

export function makeVotes(options: {
  readonly store: Store;
  readonly hub: Hub;
  readonly batcher: Batcher;
  readonly voters: VoterKeys;
  readonly clock: Clock;
  readonly audit: Audit;
  readonly anomalies: Anomalies;
  /** Called when a vote is answered, with the time since it arrived. */
  readonly onVote?: (end: VoteEnd, milliseconds: number) => void;
}): Votes {
  const { store, hub, batcher, voters, clock, audit, anomalies } = options;

  return {
    cast: async (voter, vote, address = '') => {
      const receipt = await castOne(voter, vote, address);
      const view = await viewNow(vote.pollId);
      return { receipt, view };
    },

    castMany: (viewer, batch) => audit.guard('castVotes', viewer, batch.pollId, () => castAll(viewer, batch)),

    async retract(voter, pollId) {
      const poll = await hub.poll(pollId);
      if (poll === null) throw pollNotFound(pollId);
      if (voter === null) throw new NotAllowedError('There is no ballot of yours to retract: nobody is known to ask.');
      if (isCoded(voter) && !isCodedIn(pollId, voter)) throw new InvalidInputError('voterToken: is of another poll.');
      const voterKey = voters.keyOf(pollId, voter);
      const release = hub.pauseVoter(pollId, voterKey);
      let voted: boolean | null = null;
      try {
        const change = await store.retractBallot(pollId, voterKey, clock.now(), (found) =>
          requireRetractable(found, clock.now()),
        );
        voted = false;
        if (change === null) throw new NotAllowedError('There is no ballot of yours in this poll.');
        hub.committed(change);
      } finally {
        release(voted);
      }
      return viewNow(pollId);
    },

    async shownAs(viewer, poll) {
      if (managesPoll(viewer, poll)) return 'manager';
      const voter = poll.resultsVisibility === 'AFTER_VOTE' ? voterIn(viewer, poll) : null;
      if (voter === null) return 'other';
      return (await store.findBallot(poll.id, voters.keyOf(poll.id, voter))) === null ? 'other' : 'voter';
    },

    async ballotOf(viewer, poll) {
      const voter = voterIn(viewer, poll);
      if (voter === null) return null;
      const ballot = await store.findBallot(poll.id, voters.keyOf(poll.id, voter));
      return ballot === null ? null : { ...decodeBallot(poll, ballot.content), castAt: ballot.castAt };
    },
  };

  async function castAll(viewer: Viewer, batch: BatchVotes): Promise<BatchVotesResult> {
    const poll = await hub.poll(batch.pollId);
    if (poll === null) throw pollNotFound(batch.pollId);
    requireManager(viewer, poll);
    if (batch.ballots.length > BOUNDS.batchBallots) {
      throw new InvalidInputError(
        `ballots: ${batch.ballots.length} given, at most ${BOUNDS.batchBallots} in one call.`,
      );
    }
    const result: BatchVotesResult = { recorded: 0, unchanged: 0, replaced: 0, version: 0, rejected: [] };
    await Promise.all(
      batch.ballots.map(async (ballot, index) => {
        try {
          const { outcome } = await castOne(
            voterById(voters, poll, ballot.voterId),
            { ...ballot, pollId: batch.pollId },
            null,
          );
          if (outcome === 'RECORDED') result.recorded++;
          else if (outcome === 'REPLACED') result.replaced++;
          else result.unchanged++;
        } catch (error) {
          if (!(error instanceof PollcastError)) throw error;
          // What concerns every ballot alike is no ballot's fault, but those before it are in: say it under the index too.
          result.rejected.push({ index, message: error.message });
        }
      }),
    );
    result.rejected.sort((a, b) => a.index - b.index);
    result.version = (await (await viewNow(batch.pollId)).results()).version;
    const { recorded, unchanged, replaced, rejected } = result;
    const counts = `recorded ${recorded}, unchanged ${unchanged}, replaced ${replaced}, rejected ${rejected.length}`;
    await audit.add(poll.id, audit.accepted('castVotes', viewer, counts));
    return result;
  }

  /** `address`: null for a ballot that the organizer enters, of which nothing is strange. */
  async function castOne(
    voter: string,
    vote: CastVote,
    address: string | null,
  ): Promise<Receipt & { readonly outcome: VoteOutcome }> {
    const receiptId = randomUUID();
    const arrivedAt = clock.now();
    const arrived = performance.now();
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const poll = hub.poll(vote.pollId);
        const known = poll instanceof Promise ? await poll : poll;
        if (known === null) throw pollNotFound(vote.pollId);
        requireIdentity(known, voter);
        const voterKey = voters.keyOf(known.id, voter);
        const entry = {
          pollId: known.id,
          voterKey,
          content: encodeOrExplain(known, vote),
          revision: known.revision,
          receiptId,
          coded: known.voterIdentity === 'CODE',
        };
        const outcome = await (known.resultsVisibility === 'AFTER_VOTE' ? castAndRegroup(entry) : batcher.cast(entry));
        switch (outcome.kind) {
          case 'NOT_FOUND':
            hub.removed(vote.pollId);
            throw pollNotFound(vote.pollId);
          case 'NOT_OPEN':
            throw notOpen(outcome.status);
          case 'NOT_ADMITTED':
            if (address !== null) anomalies.codeFailed(known.id);
            throw new NotAllowedError('That code is not valid for this poll.');
          case 'ALREADY_VOTED':
            throw new AlreadyVotedError('You have already voted, and this poll does not allow a change.');
          case 'STALE':
            await hub.read(vote.pollId);
            continue;
          default:
            if (address !== null && outcome.kind === 'RECORDED') anomalies.recorded(known, address, arrivedAt);
            options.onVote?.(outcome.kind, performance.now() - arrived);
            return { ...outcome.receipt, outcome: outcome.kind };
        }
      }
      throw new UnavailableError('The poll is being changed all the time; try again.');
    } catch (error) {
      options.onVote?.(error instanceof PollcastError ? error.code : 'FAULT', performance.now() - arrived);
      throw error;
    }
  }

  /** The voter's own subscriptions get the version that the ballot makes as a voter's. */
  async function castAndRegroup(entry: BallotEntry): Promise<CastOutcome> {
    const release = hub.pauseVoter(entry.pollId, entry.voterKey);
    let voted: boolean | null = null;
    try {
      const outcome = await batcher.cast(entry);
      if ('receipt' in outcome || outcome.kind === 'ALREADY_VOTED') voted = true;
      return outcome;
    } finally {
      release(voted);
    }
  }

  async function viewNow(pollId: string): Promise<PollView> {
    const view = hub.known(pollId) ?? (await hub.read(pollId));
    if (view === null) throw pollNotFound(pollId);
    return view;
  }
}

function encodeOrExplain(poll: Poll, vote: BallotInput): string {
  try {
    return encodeBallot(poll, vote);
  } catch (error) {
    // That the poll takes no ballot at all is the more useful answer.
    throw poll.status === 'OPEN' ? error : notOpen(poll.status);
  }
}

function notOpen(status: Poll['status']): PollNotOpenError {
  return new PollNotOpenError(status === 'CLOSED' ? 'This poll is closed.' : 'This poll is not open yet.');
}

function requireRetractable(poll: Poll, nowMs: number): void {
  const status = statusAt(poll, nowMs);
  if (status !== 'OPEN') throw notOpen(status);
  if (!poll.allowVoteChange) throw new NotAllowedError('This poll does not allow a vote to be taken back.');
}

/** A CODE poll takes its own codes' bearers, any other poll takes none of them. */
function requireIdentity(poll: Poll, voter: string): void {
  if (poll.voterIdentity === 'CODE') {
    if (isCodedIn(poll.id, voter)) return;
    throw new InvalidInputError(
      isCoded(voter)
        ? 'voterToken: is of another poll.'
        : 'code: missing. The voters of this poll are known by a code, or by the voterToken that a vote with it has answered.',
    );
  }
  if (isCoded(voter)) {
    throw new InvalidInputError('code, voterToken: the voters of this poll are not known by a code.');
  }
}

/** In an ACCOUNT poll the organizer names accounts, so that who was entered by hand cannot vote again; in a CODE poll codes. */
function voterById(voters: VoterKeys, poll: Poll, voterId: string): string {
  const { text, wrong } = checkText(voterId, { most: 200, lines: false });
  if (isBlank(text)) wrong.push('must not be empty');
  if (wrong.length > 0) throw new InvalidInputError(`voterId: ${wrong.join('; ')}.`);
  if (poll.voterIdentity === 'CODE') return voters.ofCode(poll.id, voterId).voter;
  return poll.voterIdentity === 'ACCOUNT' ? accountVoter(voterId) : `named:${text}`;
}
