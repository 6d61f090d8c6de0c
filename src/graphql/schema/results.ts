/** The counted side of the contract: results, tallies, runoffs and ratings. */
import { POLL_STATUSES } from '../../core/poll.ts';
import type { ChoiceView, RatingSummary, Results, RunoffRound, Tally } from '../../core/tally.ts';
import type { ShownResults } from '../../core/visibility.ts';
import { builder } from './builder.ts';

/** The values of an enum, each with its description. */
export function words<const T extends readonly string[]>(names: T, descriptions: Record<T[number], string>) {
  const values: Record<string, { description: string }> = {};
  for (const name of names) values[name] = { description: descriptions[name as T[number]] };
  return values as { [K in T[number]]: { description: string } };
}

export const PollStatus = builder.enumType('PollStatus', {
  description: 'Where a poll stands in its life. It only moves forwards.',
  values: words(POLL_STATUSES, {
    DRAFT: 'Being prepared: everything but its kind can be changed, nobody can vote.',
    OPEN: 'Takes ballots.',
    CLOSED: 'Takes no ballot any more; its results are final.',
  }),
});

export const Choice = builder.objectRef<ChoiceView>('Choice').implement({
  description: 'One of the answers that a poll offers.',
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Unique over all polls; stays with the choice for good.' }),
    label: t.exposeString('label', { description: 'The text to show, at most 200 characters.' }),
    position: t.exposeInt('position', { description: "Place in the poll's order, from 0." }),
  }),
});

const ChoiceTally = builder.objectRef<Tally>('ChoiceTally').implement({
  description: 'The count of a choice.',
  fields: (t) => ({
    choiceId: t.exposeID('choiceId', { description: 'The choice.' }),
    label: t.exposeString('label', { description: 'Its text.' }),
    votes: t.exposeInt('votes', { description: 'How many ballots count for it.' }),
    share: t.exposeFloat('share', { description: 'Of `ballotCount`, 0 to 1; 0 where there is no ballot.' }),
  }),
});

const RunoffRoundType = builder.objectRef<RunoffRound>('RunoffRound').implement({
  description: 'One round: every ballot counts for its highest choice that is still standing.',
  fields: (t) => ({
    number: t.exposeInt('number', { description: 'From 1.' }),
    tallies: t.field({
      type: [ChoiceTally],
      description: "Of the choices still standing, in the poll's order.",
      resolve: (round) => round.tallies,
    }),
    eliminated: t.field({
      type: [Choice],
      description: 'Who goes after this round; empty in the last one unless two were left level or without a majority.',
      resolve: (round): readonly ChoiceView[] => round.eliminated,
    }),
    exhausted: t.exposeInt('exhausted', { description: 'Ballots none of whose choices is still standing.' }),
  }),
});

const Runoff = builder.objectRef<NonNullable<Results['runoff']>>('Runoff').implement({
  description:
    'An instant runoff: each round the last choice goes, until one has more than half of the ballots that still count. A tie for last place is broken by the earlier rounds, the latest first: who had fewer votes there goes; if they were always level, the one later in the order of the poll goes.',
  fields: (t) => ({
    rounds: t.field({
      type: [RunoffRoundType],
      description: 'At least one.',
      resolve: (runoff) => runoff.rounds,
    }),
    winner: t.field({
      type: Choice,
      nullable: true,
      description: 'Null as long as there is no ballot.',
      resolve: (runoff) => runoff.winner,
    }),
  }),
});

const RatingBucket = builder.objectRef<RatingSummary['histogram'][number]>('RatingBucket').implement({
  description: 'How many gave one rating.',
  fields: (t) => ({
    value: t.exposeInt('value', { description: 'The rating.' }),
    votes: t.exposeInt('votes', { description: 'How many gave it.' }),
  }),
});

const RatingSummaryType = builder.objectRef<RatingSummary>('RatingSummary').implement({
  description: 'What the ratings amount to.',
  fields: (t) => ({
    mean: t.exposeFloat('mean', { nullable: true, description: 'The arithmetic mean; null without ballots.' }),
    median: t.exposeFloat('median', {
      nullable: true,
      description: 'The middle rating, or halfway between the two middle ones; null without ballots.',
    }),
    histogram: t.field({
      type: [RatingBucket],
      description: 'One bucket a step of the scale, in order, empty ones too.',
      resolve: (summary) => summary.histogram,
    }),
  }),
});

export const PollResults = builder.objectRef<ShownResults>('PollResults').implement({
  description: 'The whole counted state of a poll at one version: it replaces all that came before.',
  fields: (t) => ({
    pollId: t.exposeID('pollId', { description: 'The poll.' }),
    version: t.exposeInt('version', {
      description:
        'One higher with every committed change of the results: the cursor to resume from, on any transport and any instance.',
    }),
    status: t.field({
      type: PollStatus,
      description: 'Of the poll, at this version.',
      resolve: (results) => results.status,
    }),
    isFinal: t.boolean({
      description: 'The poll is closed: no ballot can be added, nothing newer will come.',
      resolve: (results) => results.status === 'CLOSED',
    }),
    ballotCount: t.exposeInt('ballotCount', {
      description: 'Turnout: how many have voted. Visible even where the tallies are not.',
    }),
    tallies: t.field({
      type: [ChoiceTally],
      nullable: true,
      description:
        "In the poll's order; null where hidden from this viewer. RANKED: first preferences. Empty in a RATING poll.",
      resolve: (results): readonly Tally[] | null => results.tallies,
    }),
    runoff: t.field({
      type: Runoff,
      nullable: true,
      description: 'RANKED only; null where hidden.',
      resolve: (results) => results.runoff,
    }),
    rating: t.field({
      type: RatingSummaryType,
      nullable: true,
      description: 'RATING only; null where hidden.',
      resolve: (results) => results.rating,
    }),
    updatedAt: t.field({
      type: 'DateTime',
      description: 'When this version was committed.',
      resolve: (results) => new Date(results.updatedAt),
    }),
  }),
});
