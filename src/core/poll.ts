/** Polls: their words, their bounds, and what may be changed when. */
import { InvalidInputError } from './errors.ts';
import { checkText, comparable, cut, isBlank, type TextRule } from './text.ts';

export const POLL_KINDS = ['SINGLE', 'MULTIPLE', 'RANKED', 'RATING'] as const;
export type PollKind = (typeof POLL_KINDS)[number];
export const POLL_STATUSES = ['DRAFT', 'OPEN', 'CLOSED'] as const;
export type PollStatus = (typeof POLL_STATUSES)[number];
export const VISIBILITIES = ['ALWAYS', 'AFTER_VOTE', 'AFTER_CLOSE', 'ORGANIZERS'] as const;
export type ResultsVisibility = (typeof VISIBILITIES)[number];
export const IDENTITIES = ['DEVICE', 'CODE', 'ACCOUNT'] as const;
export type VoterIdentity = (typeof IDENTITIES)[number];

/** `n` names a choice inside its poll for good: it is what ballots hold, and it is never given to another choice. */
export interface Choice {
  readonly n: number;
  readonly label: string;
}

export interface RatingScale {
  readonly min: number;
  readonly max: number;
  readonly minLabel: string | null;
  readonly maxLabel: string | null;
}

/** What a poll asks and how: everything an organizer can set. */
export interface PollSettings {
  readonly question: string;
  readonly description: string | null;
  readonly kind: PollKind;
  readonly choices: readonly Choice[];
  readonly minChoices: number;
  readonly maxChoices: number;
  readonly ratingScale: RatingScale | null;
  readonly voterIdentity: VoterIdentity;
  readonly resultsVisibility: ResultsVisibility;
  readonly allowVoteChange: boolean;
  readonly opensAt: Date | null;
  readonly closesAt: Date | null;
}

export interface Poll extends PollSettings {
  readonly id: string;
  readonly joinCode: string;
  readonly status: PollStatus;
  readonly closedAt: Date | null;
  readonly createdAt: Date;
  /** One higher with every change of the settings or the status; a ballot is counted only against the revision it was checked with. */
  readonly revision: number;
  /** SHA-256 of the organizer key, hexadecimal. */
  readonly organizerKeyHash: string;
  /** `sub` of the account that created it; null: nobody was signed in. */
  readonly owner: string | null;
}

/** Whether a poll could have that id. What cannot be one is not looked for: no database takes every text. */
export function isPollId(text: string): boolean {
  return /^[\w.-]{1,64}$/.test(text);
}

export const BOUNDS = {
  question: 500,
  description: 2_000,
  choices: { min: 2, max: 100 },
  label: 200,
  scaleSteps: 100,
  batchBallots: 1_000,
  voterCodes: 10_000,
} as const;

/** What comes from outside: any of it may be left out or null. */
export interface PollInput {
  readonly question?: string | null | undefined;
  readonly description?: string | null | undefined;
  readonly kind?: PollKind | null | undefined;
  readonly choices?: readonly string[] | null | undefined;
  readonly minChoices?: number | null | undefined;
  readonly maxChoices?: number | null | undefined;
  readonly ratingScale?:
    | {
        readonly min: number;
        readonly max: number;
        readonly minLabel?: string | null | undefined;
        readonly maxLabel?: string | null | undefined;
      }
    | null
    | undefined;
  readonly voterIdentity?: VoterIdentity | null | undefined;
  readonly resultsVisibility?: ResultsVisibility | null | undefined;
  readonly allowVoteChange?: boolean | null | undefined;
  readonly opensAt?: Date | null | undefined;
  readonly closesAt?: Date | null | undefined;
}

/** Settings of a new poll. Throws one `InvalidInputError` that names every mistake; `closesAt` must lie after `nowMs`. */
export function newSettings(input: PollInput, nowMs = 0): PollSettings {
  return checkSettings(input, null, nowMs);
}

/** What an organizer may change once voters have answered the rest, and in which status. */
const CHANGEABLE: Readonly<Record<string, readonly PollStatus[]>> = {
  question: ['OPEN', 'CLOSED'],
  description: ['OPEN', 'CLOSED'],
  resultsVisibility: ['OPEN', 'CLOSED'],
  closesAt: ['OPEN'],
};

/**
 * Settings after a change. A DRAFT may change in everything but its kind; an OPEN poll in its question, description,
 * visibility and closing time, a CLOSED one in the first three. Throws one `InvalidInputError` that names every mistake.
 */
export function changedSettings(poll: Poll, input: PollInput, nowMs = 0): PollSettings {
  if (poll.status !== 'DRAFT') {
    const fixed = Object.entries(input)
      .filter(([name, value]) => value !== undefined && CHANGEABLE[name]?.includes(poll.status) !== true)
      .map(([name]) => name);
    if (fixed.length > 0) {
      throw new InvalidInputError(
        `${fixed.join(', ')}: can be changed only while the poll is a DRAFT; this one is ${poll.status}.`,
      );
    }
  }
  return checkSettings(input, poll, nowMs);
}

/** The settings that differ, by name. */
export function differences(before: PollSettings, after: PollSettings): string[] {
  const names = Object.keys(after) as (keyof PollSettings)[];
  return names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

/** Where a poll stands at a moment, though its timer may be late: from `closesAt` on it takes no ballot (V5). */
export function statusAt(poll: Poll, nowMs: number): PollStatus {
  return poll.status === 'OPEN' && hasPassed(poll.closesAt, nowMs) ? 'CLOSED' : poll.status;
}

/** When the poll next opens or closes by itself, in milliseconds since 1970; null: not before somebody changes it. */
export function nextChange(poll: Poll): number | null {
  if (poll.status === 'DRAFT') return poll.opensAt?.getTime() ?? null;
  return poll.status === 'OPEN' ? (poll.closesAt?.getTime() ?? null) : null;
}

/** What is due by then: null: nothing. A poll whose whole time has passed closes without having been open. */
export function dueStatus(poll: Poll, nowMs: number): 'OPEN' | 'CLOSED' | null {
  const next = nextChange(poll);
  if (next === null || next > nowMs) return null;
  return hasPassed(poll.closesAt, nowMs) ? 'CLOSED' : 'OPEN';
}

export function hasPassed(instant: Date | null, nowMs: number): boolean {
  return instant !== null && instant.getTime() <= nowMs;
}

function checkSettings(input: PollInput, old: Poll | null, nowMs: number): PollSettings {
  const wrong: string[] = [];
  const kind = old?.kind ?? input.kind ?? 'SINGLE';
  const { question: newQuestion, description: newDescription } = input;
  const question =
    newQuestion == null ? (old?.question ?? '') : text(wrong, 'question', newQuestion, LONG_TEXT.question);
  if (newQuestion != null || old === null) requireVisible(wrong, 'question', question);
  const description =
    newDescription == null
      ? (keep(newDescription, old?.description) ?? null)
      : text(wrong, 'description', newDescription, LONG_TEXT.description) || null;

  const choices = checkChoices(wrong, kind, input.choices, old);
  const [minChoices, maxChoices] = checkLimits(wrong, kind, input, old, choices.length);
  const ratingScale = checkScale(wrong, kind, input, old);
  const opensAt = keep(input.opensAt, old?.opensAt) ?? null;
  const closesAt = keep(input.closesAt, old?.closesAt) ?? null;
  if (input.closesAt != null && hasPassed(closesAt, nowMs)) wrong.push('closesAt: must lie in the future');
  // Once it is open, however that came, `opensAt` is history.
  const opens = old === null || old.status === 'DRAFT' ? opensAt : null;
  if (opens !== null && closesAt !== null && closesAt <= opens) wrong.push('closesAt: must be after opensAt');
  if (wrong.length > 0) throw new InvalidInputError(`${wrong.join('; ')}.`);
  return {
    question,
    description,
    kind,
    choices,
    minChoices,
    maxChoices,
    ratingScale,
    voterIdentity: input.voterIdentity ?? old?.voterIdentity ?? 'DEVICE',
    resultsVisibility: input.resultsVisibility ?? old?.resultsVisibility ?? 'ALWAYS',
    allowVoteChange: input.allowVoteChange ?? old?.allowVoteChange ?? false,
    opensAt,
    closesAt,
  };
}

/** `undefined` leaves what was, `null` takes it away. */
function keep<T>(given: T | null | undefined, old: T | null | undefined): T | null | undefined {
  return given === undefined ? old : given;
}

const LABEL = { most: BOUNDS.label, lines: false };
const LONG_TEXT = {
  question: { most: BOUNDS.question, lines: true },
  description: { most: BOUNDS.description, lines: true },
} as const;

/** The text as it is stored. Adds to `wrong` what is wrong with it. */
function text(wrong: string[], name: string, value: string, rule: TextRule): string {
  const checked = checkText(value, rule);
  for (const reason of checked.wrong) wrong.push(`${name}: ${reason}`);
  return checked.text;
}

function requireVisible(wrong: string[], name: string, value: string): void {
  if (isBlank(value)) wrong.push(`${name}: must not be empty`);
}

function checkChoices(wrong: string[], kind: PollKind, labels: PollInput['choices'], old: Poll | null): Choice[] {
  if (kind === 'RATING') {
    if (labels && labels.length > 0) wrong.push('choices: a RATING poll has none');
    return [];
  }
  if (labels == null) {
    if (old === null) wrong.push('choices: missing');
    return [...(old?.choices ?? [])];
  }
  const { min, max } = BOUNDS.choices;
  if (labels.length < min || labels.length > max) wrong.push(`choices: ${labels.length}, must be ${min} to ${max}`);
  const seen = new Map<string, number>();
  const checked = labels.map((given, index) => {
    const label = text(wrong, `choices[${index}]`, given, LABEL);
    requireVisible(wrong, `choices[${index}]`, label);
    const key = comparable(label);
    const first = seen.get(key);
    if (first !== undefined && !isBlank(label)) {
      wrong.push(`choices[${index}]: "${cut(label, 40)}" looks the same as choices[${first}]`);
    }
    seen.set(key, first ?? index);
    return label;
  });
  // A label that stays keeps its number, so that its id stays; a new one gets a number that was never used.
  let next = Math.max(0, ...(old?.choices ?? []).map((choice) => choice.n)) + 1;
  return checked.map((label, index) => {
    const same = old?.choices.find((choice) => choice.label === label || choice.label === labels[index]);
    return same ?? { n: next++, label };
  });
}

function checkLimits(
  wrong: string[],
  kind: PollKind,
  input: PollInput,
  old: Poll | null,
  count: number,
): [min: number, max: number] {
  if (kind === 'RATING' || kind === 'SINGLE') {
    const fixed = kind === 'SINGLE' ? 1 : 0;
    for (const name of ['minChoices', 'maxChoices'] as const) {
      const value = input[name];
      if (value != null && value !== fixed) wrong.push(`${name}: is always ${fixed} in a ${kind} poll`);
    }
    return [fixed, fixed];
  }
  const min = input.minChoices ?? old?.minChoices ?? 1;
  // An untouched "all of them" follows the number of choices.
  const kept = old !== null && old.maxChoices < old.choices.length ? old.maxChoices : count;
  const max = input.maxChoices ?? kept;
  if (min < 1) wrong.push(`minChoices: ${min}, must be at least 1`);
  if (max > count) wrong.push(`maxChoices: ${max}, but there are ${count} choices`);
  if (max < min) wrong.push(`maxChoices: ${max}, must not be below minChoices, ${min}`);
  return [min, max];
}

function checkScale(wrong: string[], kind: PollKind, input: PollInput, old: Poll | null): RatingScale | null {
  if (kind !== 'RATING') {
    if (input.ratingScale != null) wrong.push(`ratingScale: a ${kind} poll has none`);
    return null;
  }
  if (input.ratingScale == null) return old?.ratingScale ?? { min: 1, max: 5, minLabel: null, maxLabel: null };
  const { min, max } = input.ratingScale;
  if (max <= min) wrong.push(`ratingScale: max ${max} must be above min ${min}`);
  if (max - min + 1 > BOUNDS.scaleSteps) {
    wrong.push(`ratingScale: ${max - min + 1} steps, at most ${BOUNDS.scaleSteps}`);
  }
  return {
    min,
    max,
    minLabel: scaleLabel(wrong, 'minLabel', input.ratingScale.minLabel),
    maxLabel: scaleLabel(wrong, 'maxLabel', input.ratingScale.maxLabel),
  };
}

function scaleLabel(wrong: string[], name: string, value: string | null | undefined): string | null {
  return value == null ? null : text(wrong, `ratingScale.${name}`, value, LABEL) || null;
}

/** The public id of a choice: unique over all polls, so that a normalizing client cache can key on it. */
export function choiceId(pollId: string, n: number): string {
  return `${pollId}.${n}`;
}
