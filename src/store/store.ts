/** The Store port on Drizzle: one implementation for PGlite and Postgres. */
import { and, desc, eq, lt, or, sql } from 'drizzle-orm';
import { InvalidInputError, PollcastError, UnavailableError } from '../core/errors.ts';
import type { Poll, PollSettings } from '../core/poll.ts';
import type { Counts } from '../core/tally.ts';
import type { NewPoll, PollFilter, PollPatch, PollState, Store } from '../ports/store.ts';
import * as audits from './audit.ts';
import { page, retract } from './ballots.ts';
import { castBallots } from './cast.ts';
import { isConflict, isConnectionLoss, isUnavailable } from './database/errors.ts';
import { type Database, openDatabase, type Tx } from './database/open.ts';
import { recount } from './recount.ts';
import { number, readCounts, readPoll, text } from './rows.ts';
import { audit, ballots, facts, polls, tallies, voterCodes } from './tables.ts';

const TRIES = 5;
/** Dropping the ballots of a large poll takes its time. */
const DROP_MS = 60_000;

/** Opens the store; see `openDatabase` for what throws. */
export async function openStore(where: {
  readonly databaseUrl: string | null;
  readonly dataDir: string;
}): Promise<Store> {
  return makeStore(await openDatabase(where));
}

export function makeStore(database: Database): Store {
  const db = database.drizzle;
  // Every operation of the store passes here, so they are counted here.
  let operations = 0;
  const retry = <T>(work: () => Promise<T>): Promise<T> => {
    operations++;
    return sendAgain(work).finally(() => operations--);
  };
  /** For work that may be done twice: where its connection is lost midway, nobody knows whether it was done, and it is done again. */
  const repeat = <T>(work: () => Promise<T>): Promise<T> =>
    retry(() => work().catch((error: unknown) => (isConnectionLoss(error) ? work() : Promise.reject(error))));
  const inTransaction = <T>(work: (tx: Tx) => Promise<T>, limitMs?: number): Promise<T> =>
    retry(() => database.transaction(work, limitMs));

  return {
    kind: database.kind,
    exclusive: database.kind === 'pglite',
    // PGlite works on the event loop: 500 rows take it about 9 ms.
    maxBatch: database.kind === 'pglite' ? 500 : 2_000,
    get load() {
      return { operations, connections: database.connections };
    },

    insertPoll: (poll, note) =>
      inTransaction(async (tx) => {
        const state = await insert(tx, poll);
        if (note !== undefined) await audits.keep(tx, poll.id, [note]);
        return state;
      }),

    keepFact: (name, value) =>
      repeat(async () => {
        await db.insert(facts).values({ name, value }).onConflictDoNothing();
        const [row] = await db.select({ value: facts.value }).from(facts).where(eq(facts.name, name));
        return row?.value ?? value;
      }),

    findPollId: (joinCode) =>
      repeat(async () => {
        if (isUnknowable(joinCode)) return null;
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

    deletePoll: (id, note) =>
      inTransaction(async (tx) => {
        if ((await lock(tx, id)) === null) return false;
        for (const table of [ballots, tallies, voterCodes, audit]) await tx.delete(table).where(eq(table.pollId, id));
        await tx.delete(polls).where(eq(polls.id, id));
        if (note !== undefined) await audits.keep(tx, id, [note]);
        return true;
      }),

    duePolls: (untilMs, most) => repeat(async () => due(db, untilMs, most)),

    addVoterCodes: (pollId, voterKeys, decide) =>
      inTransaction(async (tx) => {
        const poll = await lock(tx, pollId);
        if (poll === null) return false;
        const note = decide(poll);
        await tx.execute(sql`INSERT INTO ${voterCodes} (poll_id, voter_key)
          SELECT ${pollId}, string_to_table(${voterKeys.join(' ')}, ' ')::uuid`);
        await audits.keep(tx, pollId, [note]);
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

    votersAmong: (pollId, voterKeys) =>
      repeat(async () => {
        const rows = await database.rows(
          'SELECT voter_key::text AS voter_key FROM ballots WHERE poll_id = $1 AND voter_key = ANY($2::uuid[])',
          [pollId, [...voterKeys]],
        );
        return new Set(rows.map((row) => text(row.voter_key)));
      }),

    findBallot: (pollId, voterKey) =>
      repeat(async () => {
        const [row] = await db
          .select({ content: ballots.content, castAt: ballots.castAt })
          .from(ballots)
          .where(and(eq(ballots.pollId, pollId), eq(ballots.voterKey, voterKey)));
        return row === undefined ? null : { content: row.content, castAt: row.castAt.getTime() };
      }),

    ballotPage: (pollId, version, after, most) => repeat(() => page(db, pollId, version, after, most)),

    addAudit: (pollId, note) => retry(() => audits.keep(db, pollId, [note])),
    addRefusals: (pollId, notes, more, limit) =>
      inTransaction(async (tx) => {
        // Under the poll's lock: two instances count one after the other, and nothing is kept of a poll that is gone.
        if ((await lock(tx, pollId)) !== null) await audits.keepRefusals(tx, pollId, notes, more, limit);
      }),
    listAudit: (pollId, first, before) => repeat(() => audits.list(db, pollId, first, before)),

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

/** Postgres takes no NUL in a text, not even to compare with. */
function isUnknowable(name: string): boolean {
  return name.includes('\0');
}

async function lock(tx: Tx, id: string): Promise<Poll | null> {
  if (isUnknowable(id)) return null;
  const [row] = await tx.select().from(polls).where(eq(polls.id, id)).for('update');
  return row === undefined ? null : readPoll(row);
}

/** One statement sees one moment, so the counts belong to the version. */
async function load(
  db: Tx,
  id: string,
  knownVersion: number | null,
): Promise<(Omit<PollState, 'counts'> & { counts?: Counts }) | null> {
  if (isUnknowable(id)) return null;
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
    await tx.update(voterCodes).set({ usedAt: null }).where(eq(voterCodes.pollId, poll.id));
  }
  if (patch.audit !== undefined) await audits.keep(tx, poll.id, [patch.audit]);
}

/** The status in words of the statement, not as a parameter: only so are the partial indexes found. */
async function due(db: Tx, untilMs: number, most: number): Promise<Poll[]> {
  const until = sql`${new Date(untilMs).toISOString()}::timestamptz`;
  const rows = await db
    .select()
    .from(polls)
    .where(
      or(
        sql`${polls.status} = 'DRAFT' AND ${polls.opensAt} <= ${until}`,
        sql`${polls.status} = 'OPEN' AND ${polls.closesAt} <= ${until}`,
      ),
    )
    .orderBy(sql`CASE ${polls.status} WHEN 'DRAFT' THEN ${polls.opensAt} ELSE ${polls.closesAt} END`)
    .limit(most);
  return rows.map(readPoll);
}

async function list(db: Tx, filter: PollFilter): Promise<Poll[]> {
  const { after, organizerKeyHash, owner } = filter;
  const mine = [
    ...(organizerKeyHash === null ? [] : [eq(polls.organizerKeyHash, organizerKeyHash)]),
    ...(owner === null ? [] : [eq(polls.owner, owner)]),
  ];
  const rows = await db
    .select()
    .from(polls)
    .where(
      and(
        or(...mine),
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

/** A collision is tried again at once; where the database cannot do its work, that is said as such. */
async function sendAgain<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof PollcastError) throw error;
      if (isConflict(error) && attempt < TRIES) continue;
      if (isConflict(error) || isUnavailable(error)) {
        throw new UnavailableError('The database does not answer at the moment; try again.', { cause: error });
      }
      throw error;
    }
  }
}
