import {
  InvalidInputError,
  NotAllowedError,
  NotFoundError,
  PollNotOpenError,
  RateLimitedError,
} from '../../core/errors.ts';
import type { PollView } from '../../live/hub.ts';
import { codesAsCsv } from '../../polls/manage/voter-codes.ts';
import { builder } from './builder.ts';
import { PollKind, PollType, ResultsVisibility, VoterIdentity } from './polls.ts';
import { PollStatus } from './results.ts';

const RatingScaleInput = builder.inputType('RatingScaleInput', {
  description: 'The whole numbers that a rating can be: at most 100 of them.',
  fields: (t) => ({
    min: t.int({ required: true, description: 'The lowest rating.' }),
    max: t.int({ required: true, description: 'The highest rating, above the lowest.' }),
    minLabel: t.string({ description: 'What the lowest means, at most 200 characters.' }),
    maxLabel: t.string({ description: 'What the highest means, at most 200 characters.' }),
  }),
});

const CreatePollInput = builder.inputType('CreatePollInput', {
  description: 'A new poll.',
  fields: (t) => ({
    question: t.string({ required: true, description: '1 to 500 characters.' }),
    description: t.string({ description: 'At most 2 000 characters.' }),
    kind: t.field({
      type: PollKind,
      defaultValue: 'SINGLE',
      description: 'What a ballot holds; cannot be changed later.',
    }),
    choices: t.stringList({
      description: '2 to 100 different labels of 1 to 200 characters; left out in a RATING poll.',
    }),
    minChoices: t.int({ description: 'MULTIPLE and RANKED: the fewest choices on a ballot, from 1. Default 1.' }),
    maxChoices: t.int({ description: 'MULTIPLE and RANKED: the most choices on a ballot. Default: all.' }),
    ratingScale: t.field({ type: RatingScaleInput, description: 'RATING: the scale. Default 1 to 5.' }),
    voterIdentity: t.field({
      type: VoterIdentity,
      defaultValue: 'DEVICE',
      description: 'What makes a voter one voter.',
    }),
    resultsVisibility: t.field({
      type: ResultsVisibility,
      defaultValue: 'ALWAYS',
      description: 'Who sees tallies when.',
    }),
    allowVoteChange: t.boolean({ defaultValue: false, description: 'Whether a ballot may be replaced or taken back.' }),
    opensAt: t.field({
      type: 'DateTime',
      description:
        'When it opens by itself, whatever `status` says: a time to come makes it a DRAFT until then, a time that has passed opens it now.',
    }),
    closesAt: t.field({
      type: 'DateTime',
      description: 'When it closes by itself: in the future and after `opensAt`. From then on no vote is taken.',
    }),
    status: t.field({
      type: PollStatus,
      defaultValue: 'OPEN',
      description: 'DRAFT or OPEN; with `opensAt`, that decides.',
    }),
  }),
});

const UpdatePollInput = builder.inputType('UpdatePollInput', {
  description:
    'Changes to a poll; what is left out stays. A DRAFT can change in everything but its kind, an OPEN or CLOSED poll in its question, description and resultsVisibility, an OPEN one in its closesAt as well.',
  fields: (t) => ({
    pollId: t.id({ required: true, description: 'The poll to change.' }),
    question: t.string({ description: '1 to 500 characters.' }),
    description: t.string({ description: 'At most 2 000 characters; null takes it away.' }),
    choices: t.stringList({
      description: 'All labels, as in CreatePollInput. A choice whose label stays keeps its id.',
    }),
    minChoices: t.int({ description: 'The fewest choices on a ballot.' }),
    maxChoices: t.int({ description: 'The most choices on a ballot.' }),
    ratingScale: t.field({ type: RatingScaleInput, description: 'The scale of a RATING poll.' }),
    voterIdentity: t.field({ type: VoterIdentity, description: 'What makes a voter one voter.' }),
    resultsVisibility: t.field({ type: ResultsVisibility, description: 'Who sees tallies when.' }),
    allowVoteChange: t.boolean({ description: 'Whether a ballot may be replaced or taken back.' }),
    opensAt: t.field({
      type: 'DateTime',
      description: 'When it opens by itself; a time that has passed opens it now, null leaves it to openPoll.',
    }),
    closesAt: t.field({
      type: 'DateTime',
      description:
        'When it closes by itself: in the future and after `opensAt`; null leaves it to closePoll. May be moved while the poll is OPEN.',
    }),
  }),
});

const PollIdInput = builder.inputType('PollIdInput', {
  description: 'Names a poll.',
  fields: (t) => ({ pollId: t.id({ required: true, description: 'The poll.' }) }),
});

const IssueVoterCodesInput = builder.inputType('IssueVoterCodesInput', {
  description: 'How many voter codes to make.',
  fields: (t) => ({
    pollId: t.id({ required: true, description: 'A poll whose voters are known by CODE.' }),
    count: t.int({ required: true, description: '1 to 10 000.' }),
  }),
});

const POLL_ERRORS = [NotFoundError, NotAllowedError, InvalidInputError];

function success(name: string, description: string) {
  return builder.objectRef<{ view: PollView }>(name).implement({
    description,
    fields: (t) => ({
      poll: t.field({ type: PollType, description: 'The poll as it stands now.', resolve: ({ view }) => view }),
    }),
  });
}

const CreatePollSuccess = builder.objectRef<{ view: PollView; organizerKey: string }>('CreatePollSuccess').implement({
  description: 'The poll was created.',
  fields: (t) => ({
    poll: t.field({ type: PollType, description: 'The new poll.', resolve: ({ view }) => view }),
    organizerKey: t.exposeString('organizerKey', {
      description: 'Whoever bears it manages the poll, as `Authorization: Bearer …`. Shown this once: keep it.',
    }),
  }),
});

const UpdatePollSuccess = success('UpdatePollSuccess', 'The poll was changed.');
const OpenPollSuccess = success('OpenPollSuccess', 'The poll is open.');
const ClosePollSuccess = success('ClosePollSuccess', 'The poll is closed; its results are final.');
const ResetPollSuccess = success('ResetPollSuccess', 'All ballots were dropped.');

const DeletePollSuccess = builder.objectRef<{ pollId: string }>('DeletePollSuccess').implement({
  description: 'The poll and its ballots are gone.',
  fields: (t) => ({ pollId: t.exposeID('pollId', { description: 'The poll that was.' }) }),
});

const IssueVoterCodesSuccess = builder.objectRef<{ codes: string[] }>('IssueVoterCodesSuccess').implement({
  description: 'The codes were made.',
  fields: (t) => ({
    codes: t.exposeStringList('codes', { description: 'One code a voter. Shown this once: keep them.' }),
    // Nullable: a wrong prefix must not take the codes along.
    csv: t.string({
      nullable: true,
      description:
        'The codes as CSV, a line each: `code,link`, the link being what a QR code would hold. Null with an error where the prefix is wrong; the codes are made all the same.',
      args: {
        linkPrefix: t.arg.string({
          required: true,
          description: 'What comes before the code in each link: an http or https URL of at most 500 characters.',
        }),
      },
      resolve: ({ codes }, { linkPrefix }) => codesAsCsv(codes, linkPrefix),
    }),
  }),
});

const union = (name: string, description: string) => ({ name: `${name}Result`, description });

builder.mutationFields((t) => ({
  createPoll: t.field({
    type: CreatePollSuccess,
    description:
      'Makes a poll, open unless `status` says DRAFT or `opensAt` lies in the future. Where POLL_CREATION is `organizers`, only for accounts with a role.',
    errors: {
      types: [InvalidInputError, NotAllowedError, RateLimitedError],
      union: union('CreatePoll', 'What createPoll answers.'),
    },
    args: { input: t.arg({ type: CreatePollInput, required: true, description: 'The poll to make.' }) },
    resolve: async (_, { input }, ctx) => {
      const { account } = ctx.viewer;
      await ctx.services.rates.createPoll(account === null ? ctx.address : `account ${account.sub}`);
      const made = await ctx.services.polls.create(ctx.viewer, input);
      // Who created it bears its key from now on.
      return { ...made, view: { ...made.view, audience: 'manager' as const } };
    },
  }),
  updatePoll: t.field({
    type: UpdatePollSuccess,
    description: 'Changes settings of a poll. Takes its organizer key, or an account that manages it.',
    errors: { types: POLL_ERRORS, union: union('UpdatePoll', 'What updatePoll answers.') },
    args: { input: t.arg({ type: UpdatePollInput, required: true, description: 'What to change.' }) },
    resolve: async (_, { input: { pollId, ...input } }, ctx) => ({
      view: await ctx.services.polls.update(ctx.viewer, pollId, input),
    }),
  }),
  openPoll: t.field({
    type: OpenPollSuccess,
    description:
      'Opens a DRAFT now, whatever its `opensAt`; an open poll stays open. Takes its organizer key, or an account that manages it.',
    errors: { types: [...POLL_ERRORS, PollNotOpenError], union: union('OpenPoll', 'What openPoll answers.') },
    args: { input: t.arg({ type: PollIdInput, required: true, description: 'The poll to open.' }) },
    resolve: async (_, { input }, ctx) => ({ view: await ctx.services.polls.open(ctx.viewer, input.pollId) }),
  }),
  closePoll: t.field({
    type: ClosePollSuccess,
    description:
      'Closes a poll for good: final results go to everybody who watches. A closed one stays as it is. Takes its organizer key, or an account that manages it.',
    errors: { types: [...POLL_ERRORS, PollNotOpenError], union: union('ClosePoll', 'What closePoll answers.') },
    args: { input: t.arg({ type: PollIdInput, required: true, description: 'The poll to close.' }) },
    resolve: async (_, { input }, ctx) => ({ view: await ctx.services.polls.close(ctx.viewer, input.pollId) }),
  }),
  resetPoll: t.field({
    type: ResetPollSuccess,
    description:
      'Drops all ballots of a poll that is not closed; the version goes on. Takes its organizer key, or an account that manages it.',
    errors: { types: [...POLL_ERRORS, PollNotOpenError], union: union('ResetPoll', 'What resetPoll answers.') },
    args: { input: t.arg({ type: PollIdInput, required: true, description: 'The poll to reset.' }) },
    resolve: async (_, { input }, ctx) => ({ view: await ctx.services.polls.reset(ctx.viewer, input.pollId) }),
  }),
  deletePoll: t.field({
    type: DeletePollSuccess,
    description:
      'Deletes a poll and its ballots; whoever watches it is told. Takes its organizer key, or an account that manages it.',
    errors: { types: POLL_ERRORS, union: union('DeletePoll', 'What deletePoll answers.') },
    args: { input: t.arg({ type: PollIdInput, required: true, description: 'The poll to delete.' }) },
    resolve: async (_, { input }, ctx) => ({ pollId: await ctx.services.polls.delete(ctx.viewer, input.pollId) }),
  }),
  issueVoterCodes: t.field({
    type: IssueVoterCodesSuccess,
    description:
      'Makes voter codes for a CODE poll that is not closed; more may be made later. Kept only as hashes, so they are shown this once. A reset makes used ones good again. Takes its organizer key.',
    errors: {
      types: [...POLL_ERRORS, PollNotOpenError],
      union: union('IssueVoterCodes', 'What issueVoterCodes answers.'),
    },
    args: {
      input: t.arg({ type: IssueVoterCodesInput, required: true, description: 'For which poll, and how many.' }),
    },
    resolve: async (_, { input }, ctx) => ({
      codes: await ctx.services.codes.issue(ctx.viewer, input.pollId, input.count),
    }),
  }),
}));
