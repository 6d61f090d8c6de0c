/** The Store port on Drizzle: one implementation for PGlite and Postgres. */
import { and, desc, eq, lt, or, sql } from 'drizzle-orm';
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import { InvalidInputError, PollcastError, UnavailableError } from '../core/errors.ts';
import type { Poll, PollSettings } from '../core/poll.ts';
import type { Discrepancy, NewPoll, PollChange, PollFilter, PollPatch, PollState, Store } from '../core/ports.ts';
import type { Counts } from '../core/tally.ts';
import { castBallots } from './cast.ts';
import { type Database, openDatabase } from './open.ts';
import { number, readCounts, readPoll, text } from './records.ts';
import { ballots, polls, tallies } from './tables.ts';
import { isCollision, isLoss, isTrouble } from './trouble.ts';

type Tx = PgDatabase<PgQueryResultHKT>;
const TRIES = 5;
/** Dropping the ballots of a large poll takes its time, counting all again takes more. */
const DROP_MS = 60_000;
const RECOUNT_MS = 3_600_000;

/** Opens the store; see `openDatabase` for what throws. */
export async function openStore(where: {
  readonly databaseUrl: string | null;
  readonly dataDir: string;
}): Promise<Store> {
  return makeStore(await openDatabase(where));
}

export function makeStore(database: Database): Store {
  const db = database.drizzle;
  const inTransaction = <T>(work: (tx: Tx) => Promise<T>, limitMs?: number): Promise<T> =>
    retry(() => database.transaction(work, limitMs));

  return {
    kind: database.kind,
    exclusive: database.kind === 'pglite',
    // PGlite works on the event loop: 500 rows take it about 9 ms.
    maxBatch: database.kind === 'pglite' ? 500 : 2_000,

    insertPoll: (poll) => retry(async () => insert(db, poll)),

    findPollId: (joinCode) =>
      repeat(async () => {
        const [row] = await db.select({ id: polls.id }).from(polls).where(eq(polls.joinCode, joinCode));
        return row?.id ?? null;
      }),

    loadPoll: (id, knownVersion) => repeat(() => load(db, id, knownVersion ?? null)),

    cursors: (ids) =>
      repeat(async () => {
        const rows = await database.rows('SELECT id, version, revision FROM polls WHERE id = ANY($1::text[])', [
          [...ids],
        ]);
        return new Map(
          rows.map((row) => [text(row.id), { version: number(row.version), revision: number(row.revision) }] as const),
        );
      }),

    listPolls: (filter) => repeat(async () => list(db, filter)),

    changePoll: (id, nowMs, decide) =>
      inTransaction(async (tx) => {
        const poll = await lock(tx, id);
        if (poll === null) return null;
        const patch = decide(poll);
        if (patch !== null) await apply(tx, poll, patch, nowMs);
        return snapshot(tx, id);
      }, DROP_MS),

    deletePoll: (id) =>
      inTransaction(async (tx) => {
        if ((await lock(tx, id)) === null) return false;
        await tx.delete(ballots).where(eq(ballots.pollId, id));
        await tx.delete(tallies).where(eq(tallies.pollId, id));
        await tx.delete(polls).where(eq(polls.id, id));
        return true;
      }, DROP_MS),

    castBallots: (entries, nowMs) => repeat(() => castBallots(database, entries, nowMs)),

    retractBallot: (pollId, voterKey, nowMs, decide) =>
      inTransaction(async (tx) => {
        const poll = await lock(tx, pollId);
        if (poll === null) return null;
        decide(poll);
        return retract(tx, pollId, voterKey, nowMs);
      }),

    findBallot: (pollId, voterKey) =>
      repeat(async () => {
        const [row] = await db
          .select({ content: ballots.content, castAt: ballots.castAt })
          .from(ballots)
          .where(and(eq(ballots.pollId, pollId), eq(ballots.voterKey, voterKey)));
        return row === undefined ? null : { content: row.content, castAt: row.castAt.getTime() };
      }),

    recount: () => retry(() => recount(database)),
    ping: () =>
      repeat(async () => {
        await database.rows('SELECT 1', []);
      }),
    close: () => database.close(),
  };
}

async function insert(db: Tx, poll: NewPoll): Promise<PollState> {
  const rows = await db
    .insert(polls)
    .values({ ...poll, ...columns(poll), updatedAt: poll.createdAt })
    .onConflictDoNothing({ target: polls.joinCode })
    .returning();
  const [row] = rows;
  if (row === undefined) throw new InvalidInputError(`The join code ${poll.joinCode} is taken.`);
  return { ...headOf(row), counts: new Map() };
}

function columns(settings: PollSettings) {
  return { ...settings, choices: [...settings.choices], ratingScale: settings.ratingScale };
}

function headOf(row: typeof polls.$inferSelect): Omit<PollState, 'counts'> {
  return {
    poll: readPoll(row),
    version: row.version,
    ballotCount: row.ballotCount,
    updatedAt: row.updatedAt.getTime(),
  };
}

async function lock(tx: Tx, id: string): Promise<Poll | null> {
  const [row] = await tx.select().from(polls).where(eq(polls.id, id)).for('update');
  return row === undefined ? null : readPoll(row);
}

/** One statement sees one moment, so the counts belong to the version. */
async function load(
  db: Tx,
  id: string,
  knownVersion: number | null,
): Promise<(Omit<PollState, 'counts'> & { counts?: Counts }) | null> {
  const counts = sql<unknown>`CASE WHEN ${polls.version} = ${knownVersion}::int THEN NULL ELSE (
    SELECT coalesce(json_object_agg(${tallies.key}, ${tallies.votes}), '{}'::json)
    FROM ${tallies} WHERE ${tallies.pollId} = ${id} AND ${tallies.votes} <> 0) END`;
  const [row] = await db.select({ poll: polls, counts }).from(polls).where(eq(polls.id, id));
  if (row === undefined) return null;
  return row.counts === null ? headOf(row.poll) : { ...headOf(row.poll), counts: readCounts(row.counts) };
}

async function snapshot(tx: Tx, id: string): Promise<PollState | null> {
  const state = await load(tx, id, null);
  return state === null ? null : { ...state, counts: state.counts ?? new Map() };
}

async function apply(tx: Tx, poll: Poll, patch: PollPatch, nowMs: number): Promise<void> {
  await tx
    .update(polls)
    .set({
      ...(patch.settings === undefined ? {} : columns(patch.settings)),
      ...(patch.status === undefined ? {} : { status: patch.status }),
      ...(patch.closedAt === undefined ? {} : { closedAt: patch.closedAt }),
      ...(patch.dropBallots === true ? { ballotCount: 0 } : {}),
      ...(patch.raiseVersion ? { version: sql`${polls.version} + 1`, updatedAt: new Date(nowMs) } : {}),
      revision: sql`${polls.revision} + 1`,
    })
    .where(eq(polls.id, poll.id));
  if (patch.dropBallots === true) {
    await tx.delete(ballots).where(eq(ballots.pollId, poll.id));
    await tx.delete(tallies).where(eq(tallies.pollId, poll.id));
  }
}

async function retract(tx: Tx, pollId: string, voterKey: string, nowMs: number): Promise<PollChange | null> {
  const [gone] = await tx
    .delete(ballots)
    .where(and(eq(ballots.pollId, pollId), eq(ballots.voterKey, voterKey)))
    .returning({ content: ballots.content });
  if (gone === undefined) return null;
  for (const key of gone.content.split(' ')) {
    await tx
      .update(tallies)
      .set({ votes: sql`${tallies.votes} - 1` })
      .where(and(eq(tallies.pollId, pollId), eq(tallies.key, key)));
  }
  const [raised] = await tx
    .update(polls)
    .set({
      version: sql`${polls.version} + 1`,
      ballotCount: sql`${polls.ballotCount} - 1`,
      updatedAt: new Date(nowMs),
    })
    .where(eq(polls.id, pollId))
    .returning({ version: polls.version, ballotCount: polls.ballotCount });
  if (raised === undefined) return null;
  return { pollId, ...raised, updatedAt: nowMs, added: [], removed: [gone.content] };
}

async function list(db: Tx, filter: PollFilter): Promise<Poll[]> {
  const { after } = filter;
  const rows = await db
    .select()
    .from(polls)
    .where(
      and(
        filter.organizerKeyHash === null ? undefined : eq(polls.organizerKeyHash, filter.organizerKeyHash),
        filter.status === null ? undefined : eq(polls.status, filter.status),
        after === null
          ? undefined
          : or(
              lt(polls.createdAt, after.createdAt),
              and(eq(polls.createdAt, after.createdAt), sql`${polls.id} > ${after.id}`),
            ),
      ),
    )
    .orderBy(desc(polls.createdAt), polls.id)
    .limit(filter.first);
  return rows.map(readPoll);
}

const RECOUNT = `
WITH keys AS (
  SELECT poll_id, string_to_table(content, ' ') AS what FROM ballots
), counted AS (
  SELECT poll_id, what, count(*)::int AS votes FROM keys GROUP BY poll_id, what
  UNION ALL SELECT poll_id, 'ballotCount', count(*)::int FROM ballots GROUP BY poll_id
), kept AS (
  SELECT poll_id, key AS what, votes FROM tallies WHERE votes <> 0
  UNION ALL SELECT id, 'ballotCount', ballot_count FROM polls WHERE ballot_count <> 0
)
SELECT poll_id, what, coalesce(kept.votes, 0) AS kept, coalesce(counted.votes, 0) AS recounted
FROM kept FULL JOIN counted USING (poll_id, what)
WHERE coalesce(kept.votes, 0) <> coalesce(counted.votes, 0) ORDER BY poll_id, what`;

async function recount(database: Database): ReturnType<Store['recount']> {
  // One statement sees one moment, so it may run while votes come in.
  const rows = await database.rows(RECOUNT, [], RECOUNT_MS);
  const [totals] = await database.rows(
    'SELECT (SELECT count(*)::int FROM polls) AS polls, (SELECT count(*)::int FROM ballots) AS ballots',
    [],
    RECOUNT_MS,
  );
  const differences = rows.map(
    (row): Discrepancy => ({
      pollId: text(row.poll_id),
      what: text(row.what),
      kept: number(row.kept),
      recounted: number(row.recounted),
    }),
  );
  return { polls: number(totals?.polls), ballots: number(totals?.ballots), differences };
}

/** A collision is tried again at once; where the database cannot do its work, that is said as such. */
async function retry<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof PollcastError) throw error;
      if (isCollision(error) && attempt < TRIES) continue;
      if (isCollision(error) || isTrouble(error)) {
        throw new UnavailableError('The database does not answer at the moment; try again.', { cause: error });
      }
      throw error;
    }
  }
}

/** For work that may be done twice: where its connection is lost midway, nobody knows whether it was done, and it is done again. */
function repeat<T>(work: () => Promise<T>): Promise<T> {
  return retry(() => work().catch((error: unknown) => (isLoss(error) ? work() : Promise.reject(error))));
}
