/** The tables, in Drizzle's words. `drizzle-kit generate` turns a change here into a migration. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

export const polls = pgTable(
  'polls',
  {
    id: text('id').primaryKey(),
    joinCode: text('join_code').notNull(),
    question: text('question').notNull(),
    description: text('description'),
    kind: text('kind').notNull(),
    /** [{ n, label }] in the poll's order. */
    choices: jsonb('choices').notNull(),
    minChoices: integer('min_choices').notNull(),
    maxChoices: integer('max_choices').notNull(),
    /** { min, max, minLabel, maxLabel } of a RATING poll. */
    ratingScale: jsonb('rating_scale'),
    status: text('status').notNull(),
    voterIdentity: text('voter_identity').notNull(),
    resultsVisibility: text('results_visibility').notNull(),
    allowVoteChange: boolean('allow_vote_change').notNull(),
    opensAt: instant('opens_at'),
    closesAt: instant('closes_at'),
    closedAt: instant('closed_at'),
    createdAt: instant('created_at').notNull(),
    updatedAt: instant('updated_at').notNull(),
    organizerKeyHash: text('organizer_key_hash').notNull(),
    /** The account that created it; null: nobody was signed in. */
    owner: text('owner'),
    revision: integer('revision').notNull().default(1),
    version: integer('version').notNull().default(1),
    ballotCount: integer('ballot_count').notNull().default(0),
  },
  (table) => [
    uniqueIndex('polls_join_code').on(table.joinCode),
    // Nulls first as in a plain ORDER BY, or the order of the index is of no use to it.
    index('polls_newest').on(table.createdAt.desc().nullsFirst(), table.id),
    index('polls_organizer').on(table.organizerKeyHash),
    index('polls_owner').on(table.owner),
    // What is due to open or to close. Partial: most polls are in neither, and a vote touches none of these columns.
    index('polls_opening').on(table.opensAt).where(sql`status = 'DRAFT' AND opens_at IS NOT NULL`),
    index('polls_closing').on(table.closesAt).where(sql`status = 'OPEN' AND closes_at IS NOT NULL`),
  ],
);

export const ballots = pgTable(
  'ballots',
  {
    pollId: text('poll_id').notNull(),
    voterKey: uuid('voter_key').notNull(),
    receiptId: uuid('receipt_id').notNull(),
    content: text('content').notNull(),
    /** The content that this one replaced in the last change, so that one statement can move both counts. */
    replaced: text('replaced'),
    version: integer('version').notNull(),
    castAt: instant('cast_at').notNull(),
  },
  // V2: one voter, one ballot. No foreign key: it would look the poll up once a ballot, and every statement that adds
  // a ballot holds the poll's lock already; deleting a poll deletes these first.
  (table) => [primaryKey({ columns: [table.pollId, table.voterKey] })],
);

export const tallies = pgTable(
  'tallies',
  {
    pollId: text('poll_id').notNull(),
    key: text('key').notNull(),
    votes: integer('votes').notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.pollId, table.key] })],
);

export const voterCodes = pgTable(
  'voter_codes',
  {
    pollId: text('poll_id').notNull(),
    /** The voter key of a code's bearer, as it stands in `ballots`: the code itself is kept nowhere. */
    voterKey: uuid('voter_key').notNull(),
    usedAt: instant('used_at'),
  },
  (table) => [primaryKey({ columns: [table.pollId, table.voterKey] })],
);

export const audit = pgTable(
  'audit',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    pollId: text('poll_id').notNull(),
    at: instant('at').notNull(),
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    /** 'ACCEPTED', or the code of the error that refused it. */
    outcome: text('outcome').notNull(),
    detail: text('detail'),
    /** How many refusals after this one were only counted. */
    more: integer('more').notNull().default(0),
  },
  (table) => [
    index('audit_poll').on(table.pollId, table.id),
    index('audit_refused').on(table.pollId, table.at).where(sql`outcome <> 'ACCEPTED'`),
  ],
);

/** Facts about the whole database, one a row: `secret` is the fingerprint of the secret that made its voter keys. */
export const facts = pgTable('facts', {
  name: text('name').primaryKey(),
  value: text('value').notNull(),
});
