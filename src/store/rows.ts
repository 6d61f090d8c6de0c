/** Rows to words: whatever comes out of the database is parsed here, once. */
import { type ErrorCode, HTTP_STATUS } from '../core/errors.ts';
import {
  type Choice,
  IDENTITIES,
  POLL_KINDS,
  POLL_STATUSES,
  type Poll,
  type RatingScale,
  VISIBILITIES,
} from '../core/poll.ts';
import type { Counts } from '../core/tally.ts';
import type { AuditNote } from '../ports/store.ts';
import type { polls } from './tables.ts';

export function readPoll(row: typeof polls.$inferSelect): Poll {
  return {
    id: row.id,
    joinCode: row.joinCode,
    question: row.question,
    description: row.description,
    kind: oneOf(POLL_KINDS, row.kind),
    choices: readChoices(row.choices),
    minChoices: row.minChoices,
    maxChoices: row.maxChoices,
    ratingScale: row.ratingScale === null ? null : readScale(row.ratingScale),
    status: oneOf(POLL_STATUSES, row.status),
    voterIdentity: oneOf(IDENTITIES, row.voterIdentity),
    resultsVisibility: oneOf(VISIBILITIES, row.resultsVisibility),
    allowVoteChange: row.allowVoteChange,
    opensAt: row.opensAt,
    closesAt: row.closesAt,
    closedAt: row.closedAt,
    createdAt: row.createdAt,
    revision: row.revision,
    organizerKeyHash: row.organizerKeyHash,
    owner: row.owner,
  };
}

export function oneOf<T extends string>(words: readonly T[], value: unknown): T {
  const word = words.find((candidate) => candidate === value);
  if (word === undefined) throw new TypeError(`The database holds ${JSON.stringify(value)}, not one of ${words}.`);
  return word;
}

const CODES = Object.keys(HTTP_STATUS) as ErrorCode[];

export function outcomeOf(value: string): AuditNote['outcome'] {
  return value === 'ACCEPTED' ? value : oneOf(CODES, value);
}

export function readCounts(value: unknown): Counts {
  return new Map(Object.entries(fields(value)).map(([key, votes]) => [key, number(votes)]));
}

function readChoices(value: unknown): Choice[] {
  if (!Array.isArray(value)) throw new TypeError('The database holds choices that are not a list.');
  return value.map((item: unknown) => {
    const { n, label } = fields(item);
    return { n: number(n), label: text(label) };
  });
}

function readScale(value: unknown): RatingScale {
  const { min, max, minLabel, maxLabel } = fields(value);
  return {
    min: number(min),
    max: number(max),
    minLabel: minLabel === null ? null : text(minLabel),
    maxLabel: maxLabel === null ? null : text(maxLabel),
  };
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null)
    throw new TypeError('The database holds no object where one belongs.');
  return { ...value };
}

export function number(value: unknown): number {
  if (typeof value !== 'number') throw new TypeError(`The database holds ${JSON.stringify(value)}, not a number.`);
  return value;
}

export function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError(`The database holds ${JSON.stringify(value)}, not a text.`);
  return value;
}
