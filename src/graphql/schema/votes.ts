/** Voting in the contract. */

import {
  AlreadyVotedError,
  InvalidBallotError,
  InvalidInputError,
  NotAllowedError,
  NotFoundError,
  PollNotOpenError,
  RateLimitedError,
} from '../../core/errors.ts';
import type { Poll } from '../../core/poll.ts';
import { requireSession, UNSIGNED_VOTER_TOKEN } from '../../identity/session.ts';
import { accountVoter } from '../../identity/viewer.ts';
import type { PollView } from '../../live/hub.ts';
import type { BatchVotesResult, VoteResult } from '../../polls/votes/cast.ts';
import type { Context } from '../context.ts';
import { builder } from './builder.ts';
import { PollType } from './polls.ts';
import { visibleTo } from './visible.ts';

const VoteOutcome = builder.enumType('VoteOutcome', {
  description: 'What became of a vote.',
  values: {
    RECORDED: { description: 'Counted: the first ballot of this voter.' },
    UNCHANGED: { description: 'The same ballot stood already: nothing changed, retrying is always safe.' },
    REPLACED: { description: 'Counted in the place of an earlier ballot of this voter.' },
  } as const,
});

const VoteReceipt = builder.objectRef<VoteResult['receipt']>('VoteReceipt').implement({
  description: 'Says that a ballot is kept. The same ballot has the same receipt, however often it is sent.',
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Names this ballot content of this voter.' }),
    pollId: t.exposeID('pollId', { description: 'The poll.' }),
    outcome: t.field({
      type: VoteOutcome,
      description: 'What became of it now.',
      resolve: (receipt) => receipt.outcome,
    }),
    version: t.exposeInt('version', { description: 'The version of the results that counted it first.' }),
    castAt: t.field({
      type: 'DateTime',
      description: 'When it was kept.',
      resolve: (receipt) => new Date(receipt.castAt),
    }),
  }),
});

const CastVoteSuccess = builder.objectRef<VoteResult & { voterToken: string | null }>('CastVoteSuccess').implement({
  description: 'The ballot is kept and counted; it was committed before this answer.',
  fields: (t) => ({
    receipt: t.field({ type: VoteReceipt, description: 'Says so.', resolve: ({ receipt }) => receipt }),
    poll: t.field({ type: PollType, description: 'The poll as it stands now.', resolve: ({ view }) => view }),
    voterToken: t.exposeString('voterToken', {
      nullable: true,
      description:
        'The token of this voter: send it with the next vote. Null where a browser keeps it as a cookie, and in an ACCOUNT poll. In a CODE poll it stands for the code, in this poll alone, wherever a voter token is taken; no cookie keeps it.',
    }),
  }),
});

const RetractVoteSuccess = builder.objectRef<{ view: PollView }>('RetractVoteSuccess').implement({
  description: 'The ballot was taken back.',
  fields: (t) => ({
    poll: t.field({ type: PollType, description: 'The poll as it stands now.', resolve: ({ view }) => view }),
  }),
});

const RejectedBallot = builder.objectRef<BatchVotesResult['rejected'][number]>('RejectedBallot').implement({
  description: 'A ballot of a batch that was not counted.',
  fields: (t) => ({
    index: t.exposeInt('index', { description: 'Its place in `ballots`, from 0.' }),
    message: t.exposeString('message', { description: 'What is wrong with it.' }),
  }),
});

const CastVotesSuccess = builder.objectRef<BatchVotesResult>('CastVotesSuccess').implement({
  description: 'The batch was worked through; a bad ballot costs no other ballot anything.',
  fields: (t) => ({
    recorded: t.exposeInt('recorded', { description: 'Ballots counted for the first time.' }),
    unchanged: t.exposeInt('unchanged', { description: 'Ballots that stood already.' }),
    replaced: t.exposeInt('replaced', { description: 'Ballots that took the place of an earlier one.' }),
    rejected: t.field({
      type: [RejectedBallot],
      description: 'Ballots that were not counted, by index.',
      resolve: (result) => result.rejected,
    }),
    version: t.exposeInt('version', { description: 'A version of the results that holds all of them.' }),
  }),
});

const CastVoteInput = builder.inputType('CastVoteInput', {
  description: 'A ballot.',
  fields: (t) => ({
    pollId: t.id({ required: true, description: 'The poll.' }),
    choiceIds: t.idList({
      description: 'The chosen choices, each at most once. RANKED: in order of preference. Left out in a RATING poll.',
    }),
    rating: t.int({ description: 'RATING: a whole number on the scale.' }),
    code: t.string({
      description:
        'Who votes, in a poll whose voters are known by CODE: in any case, with or without spaces and hyphens. It goes before any token.',
    }),
    voterToken: t.string({
      description:
        'Who votes: a token from `viewer` or from an earlier vote. Left out, the cookie or header counts. In a CODE poll only a token that a vote in it has answered, in an ACCOUNT poll only the account.',
    }),
  }),
});

const RetractVoteInput = builder.inputType('RetractVoteInput', {
  description: 'Which ballot to take back.',
  fields: (t) => ({
    pollId: t.id({ required: true, description: 'The poll.' }),
    voterToken: t.string({ description: 'Whose ballot; left out, the cookie or header counts.' }),
  }),
});

const NamedBallotInput = builder.inputType('NamedBallotInput', {
  description: 'The ballot of a voter whom the organizer names.',
  fields: (t) => ({
    voterId: t.string({
      required: true,
      description:
        'Who votes, in your words: 1 to 200 characters. Not stored. In a CODE poll a voter code, in an ACCOUNT poll the `sub` of the account.',
    }),
    choiceIds: t.idList({ description: 'As in CastVoteInput.' }),
    rating: t.int({ description: 'As in CastVoteInput.' }),
  }),
});

const CastVotesInput = builder.inputType('CastVotesInput', {
  description: 'Ballots of many voters.',
  fields: (t) => ({
    pollId: t.id({ required: true, description: 'The poll.' }),
    ballots: t.field({ type: [NamedBallotInput], required: true, description: 'At most 1 000.' }),
  }),
});

builder.mutationFields((t) => ({
  castVote: t.field({
    type: CastVoteSuccess,
    description:
      'Casts a ballot: answered after it is committed. Sent again, the same ballot of the same voter answers UNCHANGED with the same receipt.',
    errors: {
      types: [
        NotFoundError,
        NotAllowedError,
        PollNotOpenError,
        AlreadyVotedError,
        InvalidBallotError,
        InvalidInputError,
        RateLimitedError,
      ],
      union: { name: 'CastVoteResult', description: 'What castVote answers.' },
    },
    args: { input: t.arg({ type: CastVoteInput, required: true, description: 'The ballot.' }) },
    resolve: async (_, { input }, ctx) => {
      requireSession(ctx.viewer);
      const counted = ctx.services.rates.vote(ctx.address);
      if (counted !== null) await counted;
      const known = ctx.services.hub.poll(input.pollId);
      const poll = known instanceof Promise ? await known : known;
      const { voter, token, isNew } = ofCode(ctx, input) ?? voterOf(ctx, poll, input.voterToken) ?? newVoter(ctx);
      const cast = (): Promise<VoteResult> => ctx.services.votes.cast(voter, input, ctx.address);
      const result = await (input.code == null ? cast() : withGuessLimit(ctx, input.pollId, cast));
      const kept = isNew && token !== null && ctx.keepVoterToken?.(token) === true;
      return { ...result, view: visibleTo(result.view, 'voter', ctx), voterToken: kept ? null : token };
    },
  }),
  retractVote: t.field({
    type: RetractVoteSuccess,
    description: "Takes the caller's ballot back, where the poll is open and allows changes.",
    errors: {
      types: [NotFoundError, NotAllowedError, PollNotOpenError, InvalidInputError, RateLimitedError],
      union: { name: 'RetractVoteResult', description: 'What retractVote answers.' },
    },
    args: { input: t.arg({ type: RetractVoteInput, required: true, description: 'Which ballot.' }) },
    resolve: async (_, { input }, ctx) => {
      requireSession(ctx.viewer);
      await ctx.services.rates.vote(ctx.address);
      const voter = voterOf(ctx, await ctx.services.hub.poll(input.pollId), input.voterToken)?.voter ?? null;
      return { view: visibleTo(await ctx.services.votes.retract(voter, input.pollId), 'other', ctx) };
    },
  }),
  castVotes: t.field({
    type: CastVotesSuccess,
    description:
      'Casts up to 1 000 ballots of named voters. Takes the organizer key of the poll, or an account that manages it.',
    errors: {
      types: [NotFoundError, NotAllowedError, InvalidInputError, RateLimitedError],
      union: { name: 'CastVotesResult', description: 'What castVotes answers.' },
    },
    args: { input: t.arg({ type: CastVotesInput, required: true, description: 'The ballots.' }) },
    resolve: async (_, { input }, ctx) => {
      await ctx.services.rates.vote(ctx.address, input.ballots.length);
      return ctx.services.votes.castMany(ctx.viewer, input);
    },
  }),
}));

/**
 * The account in an ACCOUNT poll; else the voter by the token in the input, else by what the request brought; null where it
 * brought nothing.
 */
function voterOf(
  ctx: Context,
  poll: Poll | null,
  given: string | null | undefined,
): { voter: string; token: string | null; isNew: boolean } | null {
  if (poll?.voterIdentity === 'ACCOUNT') {
    const { account } = ctx.viewer;
    if (account === null) throw new NotAllowedError('Voting in this poll takes an account: sign in.');
    return { voter: accountVoter(account.sub), token: null, isNew: false };
  }
  if (given != null) {
    const voter = ctx.services.voters.read(given);
    if (voter === null) throw new InvalidInputError(UNSIGNED_VOTER_TOKEN);
    return { voter, token: given, isNew: false };
  }
  return ctx.viewer.voter === null ? null : { voter: ctx.viewer.voter, token: ctx.voterToken, isNew: false };
}

/** The bearer of the code that was given; its token is for this poll alone, so no cookie keeps it. */
function ofCode(
  ctx: Context,
  { pollId, code }: { readonly pollId: string; readonly code?: string | null | undefined },
): { voter: string; token: string; isNew: boolean } | null {
  return code == null ? null : { ...ctx.services.voters.ofCode(pollId, code), isNew: false };
}

/** Codes are too many to be guessed at ten a minute. */
async function withGuessLimit<T>({ services, address }: Context, pollId: string, cast: () => Promise<T>): Promise<T> {
  await services.rates.codeAllowed(pollId, address);
  try {
    return await cast();
  } catch (error) {
    if (error instanceof NotAllowedError) await services.rates.noteWrongCode(pollId, address);
    throw error;
  }
}

function newVoter(ctx: Context): { voter: string; token: string; isNew: boolean } {
  return { ...ctx.services.voters.issue(), isNew: true };
}
