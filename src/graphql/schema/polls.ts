/** Polls in the contract: their types and queries. */
import { resolveCursorConnection } from '@pothos/plugin-relay';
import { InvalidInputError } from '../../core/errors.ts';
import { LAST_INSTANT } from '../../core/instant.ts';
import {
  choiceId,
  IDENTITIES,
  POLL_KINDS,
  type Poll,
  type RatingScale,
  type PollStatus as Status,
  VISIBILITIES,
} from '../../core/poll.ts';
import type { ChoiceView } from '../../core/tally.ts';
import type { Account } from '../../identity/accounts.ts';
import { isOrganizer } from '../../identity/permissions.ts';
import type { PollView } from '../../live/hub.ts';
import type { Context } from '../context.ts';
import { builder } from './builder.ts';
import { Choice, PollResults, PollStatus, words } from './results.ts';
import { shownResults, visible } from './visible.ts';

export const PollKind = builder.enumType('PollKind', {
  description: 'What a ballot of the poll holds.',
  values: words(POLL_KINDS, {
    SINGLE: 'Exactly one choice.',
    MULTIPLE: 'Between `minChoices` and `maxChoices` choices, in no order.',
    RANKED: 'Choices in order of preference, counted as an instant runoff.',
    RATING: 'A whole number on the rating scale.',
  }),
});

export const VoterIdentity = builder.enumType('VoterIdentity', {
  description: 'What makes a voter one voter in a poll.',
  values: words(IDENTITIES, {
    DEVICE: 'A signed token that the device keeps (a cookie in browsers).',
    CODE: 'A code that the organizer hands out, from `issueVoterCodes`.',
    ACCOUNT: 'An account, by the `sub` of its JWT. Takes a server that knows accounts.',
  }),
});

export const ResultsVisibility = builder.enumType('ResultsVisibility', {
  description: 'Who sees tallies, runoff and rating when; organizers always do. Turnout is always visible.',
  values: words(VISIBILITIES, {
    ALWAYS: 'Everybody, at any time.',
    AFTER_VOTE: 'Who has voted, as long as the ballot stands; also after the poll is closed only they.',
    AFTER_CLOSE: 'Everybody, once the poll is closed.',
    ORGANIZERS: 'Organizers only.',
  }),
});

const RatingScaleType = builder.objectRef<RatingScale>('RatingScale').implement({
  description: 'The whole numbers that a rating can be.',
  fields: (t) => ({
    min: t.exposeInt('min', { description: 'The lowest rating.' }),
    max: t.exposeInt('max', { description: 'The highest rating.' }),
    minLabel: t.exposeString('minLabel', { nullable: true, description: 'What the lowest means, such as "never".' }),
    maxLabel: t.exposeString('maxLabel', { nullable: true, description: 'What the highest means, such as "always".' }),
  }),
});

const Ballot = builder.objectRef<{ choiceIds: string[]; rating: number | null; castAt: number }>('Ballot').implement({
  description: 'What one voter said.',
  fields: (t) => ({
    choiceIds: t.exposeIDList('choiceIds', {
      description: 'The chosen choices; in a RANKED poll in order of preference; empty in a RATING poll.',
    }),
    rating: t.exposeInt('rating', { nullable: true, description: 'The rating, in a RATING poll.' }),
    castAt: t.field({
      type: 'DateTime',
      description: 'When this content was cast.',
      resolve: (ballot) => new Date(ballot.castAt),
    }),
  }),
});

export const PollType = builder.objectRef<PollView>('Poll');

function choices(poll: Poll): ChoiceView[] {
  return poll.choices.map(({ n, label }, position) => ({ id: choiceId(poll.id, n), label, position }));
}

PollType.implement({
  description: 'One question with its choices and settings.',
  fields: (t) => ({
    id: t.id({ description: 'Names the poll for good.', resolve: ({ poll }) => poll.id }),
    joinCode: t.string({
      description: 'Six characters that are easy to type and to say; names the poll as well as its id.',
      resolve: ({ poll }) => poll.joinCode,
    }),
    question: t.string({ description: 'At most 500 characters.', resolve: ({ poll }) => poll.question }),
    description: t.string({
      nullable: true,
      description: 'More about the question, at most 2 000 characters.',
      resolve: ({ poll }) => poll.description,
    }),
    kind: t.field({ type: PollKind, description: 'What a ballot holds.', resolve: ({ poll }) => poll.kind }),
    choices: t.field({
      type: [Choice],
      description: "2 to 100 choices in the poll's order; none in a RATING poll.",
      resolve: ({ poll }) => choices(poll),
    }),
    minChoices: t.int({
      description: 'The fewest choices on a ballot: 1 in a SINGLE poll, 0 in a RATING poll.',
      resolve: ({ poll }) => poll.minChoices,
    }),
    maxChoices: t.int({
      description: 'The most choices on a ballot: 1 in a SINGLE poll, 0 in a RATING poll.',
      resolve: ({ poll }) => poll.maxChoices,
    }),
    ratingScale: t.field({
      type: RatingScaleType,
      nullable: true,
      description: 'Of a RATING poll; else null.',
      resolve: ({ poll }) => poll.ratingScale,
    }),
    status: t.field({
      type: PollStatus,
      description: 'Where it stands in its life.',
      resolve: ({ poll }) => poll.status,
    }),
    voterIdentity: t.field({
      type: VoterIdentity,
      description: 'What makes a voter one voter here.',
      resolve: ({ poll }) => poll.voterIdentity,
    }),
    resultsVisibility: t.field({
      type: ResultsVisibility,
      description: 'Who sees tallies when.',
      resolve: ({ poll }) => poll.resultsVisibility,
    }),
    allowVoteChange: t.boolean({
      description: 'Whether a voter may cast another ballot in place of the first, or take it back.',
      resolve: ({ poll }) => poll.allowVoteChange,
    }),
    opensAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it opens by itself, or was to open; null: by hand.',
      resolve: ({ poll }) => poll.opensAt,
    }),
    closesAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it closes by itself, or was to close; null: by hand.',
      resolve: ({ poll }) => poll.closesAt,
    }),
    closedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was closed: `closesAt` where it closed by itself; null before.',
      resolve: ({ poll }) => poll.closedAt,
    }),
    createdAt: t.field({
      type: 'DateTime',
      description: 'When it was created.',
      resolve: ({ poll }) => poll.createdAt,
    }),
    results: t.field({
      type: PollResults,
      description: 'The results as they stand now.',
      resolve: (view, _, ctx) => shownResults(view, ctx),
    }),
    viewerBallot: t.field({
      type: Ballot,
      nullable: true,
      description:
        "The caller's own ballot, known by the voter token, or by the account where the poll takes accounts; null without one.",
      resolve: ({ poll }, _, ctx) => ctx.services.votes.ballotOf(ctx.viewer, poll),
    }),
  }),
});

const PollConnection = builder.connectionObject(
  { type: PollType, name: 'PollConnection', description: 'A page of polls.' },
  { name: 'PollEdge', description: 'A poll in a page.' },
);

const AccountRole = builder.enumType('AccountRole', {
  description: 'What an account may do beyond voting, by the claim `role` of its JWT.',
  values: {
    ADMIN: { value: 'admin', description: 'Manages every poll.' },
    ORGANIZER: { value: 'organizer', description: 'Creates polls, and manages those that it created.' },
  } as const,
});

const AccountType = builder.objectRef<Account>('Account').implement({
  description:
    'An account, known by a JWT as `Authorization: Bearer …`, on WebSocket `connectionParams.authorization`.',
  fields: (t) => ({
    sub: t.exposeString('sub', { description: 'Names the account: the claim `sub`, 1 to 255 characters.' }),
    role: t.field({
      type: AccountRole,
      nullable: true,
      description: 'What it may do beyond voting; null: nothing.',
      resolve: ({ role }) => role,
    }),
  }),
});

const ViewerType = builder.objectRef<Context>('Viewer').implement({
  description: 'The caller.',
  fields: (t) => ({
    isOrganizer: t.boolean({
      description:
        'Whether the request bears an organizer key, valid or not, or comes from an account with the role ORGANIZER or ADMIN.',
      resolve: (ctx) => ctx.viewer.organizerKeyHash !== null || isOrganizer(ctx.viewer),
    }),
    account: t.field({
      type: AccountType,
      nullable: true,
      description: 'The account that the request came from, by its JWT; null without one.',
      resolve: (ctx) => ctx.viewer.account,
    }),
    voterToken: t.string({
      nullable: true,
      description:
        'A voter token to vote with: yours, or a new one. Get it before the first vote and every retry of that vote is safe, even one whose answer was lost. Null in a browser, which gets it as a cookie.',
      resolve: (ctx) => ctx.voterToken ?? newToken(ctx),
    }),
  }),
});

function newToken(ctx: Context): string | null {
  if (ctx.viewer.voter !== null) return null;
  const { token } = ctx.services.voters.issue();
  return ctx.keepVoterToken?.(token) === true ? null : token;
}

builder.queryFields((t) => ({
  poll: t.field({
    type: PollType,
    nullable: true,
    description: 'One poll, by its id or its join code (exactly one of them); null where there is none.',
    args: {
      id: t.arg.id({ description: "The poll's id." }),
      joinCode: t.arg.string({ description: "The poll's join code, in any case, with or without spaces and hyphens." }),
    },
    resolve: async (_, by, ctx) => visible(await ctx.services.polls.find(by), ctx),
  }),
  polls: t.field({
    type: PollConnection,
    description:
      'The polls that the caller manages, newest first, an admin all; none without an organizer key or a role.',
    args: {
      first: t.arg.int({ defaultValue: 20, description: 'How many at most: 1 to 100.' }),
      after: t.arg.string({ description: '`endCursor` of the page before.' }),
      status: t.arg({ type: PollStatus, description: 'Only polls in this status.' }),
    },
    resolve: (_, args, ctx) => listPolls(args, ctx),
  }),
  viewer: t.field({ type: ViewerType, description: 'The caller.', resolve: (_, __, ctx) => ctx }),
}));

async function listPolls(
  args: {
    readonly first?: number | null | undefined;
    readonly after?: string | null | undefined;
    readonly status?: Status | null | undefined;
  },
  ctx: Context,
) {
  const first = args.first ?? 20;
  if (first < 1 || first > 100) throw new InvalidInputError(`first: ${first}, must be 1 to 100.`);
  const page = await resolveCursorConnection<Promise<PollView[]>>(
    {
      args: { first, after: args.after ?? null },
      toCursor: ({ poll }: PollView) => Buffer.from(`${poll.createdAt.getTime()} ${poll.id}`).toString('base64url'),
    },
    async ({ after, limit }) => {
      const wanted = {
        first: limit,
        status: args.status ?? null,
        after: after === undefined ? null : readCursor(after),
      };
      const polls = await ctx.services.polls.list(ctx.viewer, wanted);
      return polls.map(ctx.services.hub.viewOf);
    },
  );
  return page;
}

function readCursor(cursor: string): { createdAt: Date; id: string } {
  const [, time, id] = /^(\d{1,15}) ([0-9a-z]+)$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  if (time === undefined || id === undefined || Number(time) > LAST_INSTANT)
    throw new InvalidInputError('after: not a cursor of this list.');
  return { createdAt: new Date(Number(time)), id };
}
