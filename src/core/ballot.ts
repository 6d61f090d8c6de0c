/**
 * A ballot's content is kept as one short text of tally keys, separated by spaces: each key is one count that the
 * ballot adds to. SINGLE "2", MULTIPLE "1 3" (ascending), RATING "4", RANKED "3,1,2" (the whole order is one key).
 * Equal ballots have equal content, and a recount is the same grouping for every kind.
 */
import { InvalidBallotError } from './errors.ts';
import { choiceId, type Poll } from './poll.ts';
import { cut } from './text.ts';

export interface BallotInput {
  readonly choiceIds?: readonly string[] | null | undefined;
  readonly rating?: number | null | undefined;
}

export interface BallotContent {
  readonly choiceIds: string[];
  readonly rating: number | null;
}

/** Checks a ballot against the poll's rules (V7). Throws `InvalidBallotError` that says what is wrong. */
export function encodeBallot(poll: Poll, input: BallotInput): string {
  if (poll.kind === 'RATING') return encodeRating(poll, input);
  if (input.rating != null) throw new InvalidBallotError(`rating: a ${poll.kind} poll takes choiceIds.`);
  const ids = input.choiceIds ?? [];
  if (ids.length < poll.minChoices || ids.length > poll.maxChoices) {
    const wanted =
      poll.minChoices === poll.maxChoices ? `${poll.minChoices}` : `${poll.minChoices} to ${poll.maxChoices}`;
    throw new InvalidBallotError(`choiceIds: ${ids.length} given, this poll takes ${wanted}.`);
  }
  const numbers: number[] = [];
  for (const id of ids) {
    const n = choiceNumber(poll, id);
    if (numbers.includes(n)) throw new InvalidBallotError(`choiceIds: "${id}" is given twice.`);
    numbers.push(n);
  }
  if (poll.kind === 'RANKED') return numbers.join(',');
  return numbers.sort((a, b) => a - b).join(' ');
}

function encodeRating(poll: Poll, input: BallotInput): string {
  if (input.choiceIds != null && input.choiceIds.length > 0) {
    throw new InvalidBallotError('choiceIds: a RATING poll takes a rating.');
  }
  if (input.rating == null) throw new InvalidBallotError('rating: missing.');
  const { min, max } = poll.ratingScale ?? { min: 0, max: 0 };
  if (!Number.isInteger(input.rating) || input.rating < min || input.rating > max) {
    throw new InvalidBallotError(`rating: ${input.rating} is outside the scale of ${min} to ${max}.`);
  }
  return String(input.rating);
}

function choiceNumber(poll: Poll, id: string): number {
  for (const choice of poll.choices) if (choiceId(poll.id, choice.n) === id) return choice.n;
  throw new InvalidBallotError(`choiceIds: "${cut(id, 64)}" is not a choice of this poll.`);
}

/** Content in the caller's words again. */
export function decodeBallot(poll: Poll, content: string): BallotContent {
  if (poll.kind === 'RATING') return { choiceIds: [], rating: Number(content) };
  const numbers = content.split(poll.kind === 'RANKED' ? ',' : ' ');
  return { choiceIds: numbers.map((n) => choiceId(poll.id, Number(n))), rating: null };
}
