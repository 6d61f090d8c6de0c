/** Opens the database: Postgres by URL, else PGlite in a folder. Everything above sees one `Database`. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import { InvalidInputError } from '../../core/errors.ts';
import { lockFolder } from './folder-lock.ts';

const MIGRATIONS = fileURLToPath(new URL('../../../drizzle', import.meta.url));
/** Any number will do, as long as every instance uses the same. */
const MIGRATION_LOCK = 7_655_283;

/** The database, or a transaction on it. */
export type Tx = PgDatabase<PgQueryResultHKT>;

export interface Database {
  readonly kind: 'pglite' | 'postgres';
  /** For single statements; those that belong together go through `transaction`. */
  readonly drizzle: Tx;
  /** The most statements that run at once. */
  readonly connections: number;
  /** Commits when `work` resolves. On Postgres each statement may take `limitMs`, 10 s where it is not given. */
  transaction<T>(work: (tx: Tx) => Promise<T>, limitMs?: number): Promise<T>;
  /** A statement of the hot path, prepared once a connection where the driver can. Its own transaction. */
  rows(text: string, params: unknown[], limitMs?: number): Promise<readonly Record<string, unknown>[]>;
  close(): Promise<void>;
}

/** Opens, migrates, and gives the database. Throws `InvalidInputError` where the URL or the folder is at fault. */
export async function openDatabase(where: {
  readonly databaseUrl: string | null;
  readonly dataDir: string;
}): Promise<Database> {
  return where.databaseUrl === null ? openFolder(where.dataDir) : openUrl(where.databaseUrl);
}

// Each driver is loaded only where it is used: the other one would cost the start a good part of a second.

async function openUrl(url: string): Promise<Database> {
  const { default: postgres } = await import('postgres');
  const { drizzle } = await import('drizzle-orm/postgres-js');
  const { drizzle: overCallback } = await import('drizzle-orm/pg-proxy');
  const { migrate } = await import('drizzle-orm/postgres-js/migrator');
  const { CONNECTIONS, openPool } = await import('./postgres-pool.ts');
  try {
    // Instances that start at once migrate one after the other; the lock goes with this connection, however it ends.
    const migrator = postgres(url, { max: 1, connect_timeout: 10, onnotice: () => {} });
    try {
      await migrator`select pg_advisory_lock(${MIGRATION_LOCK})`;
      await migrate(drizzle(migrator), { migrationsFolder: MIGRATIONS });
    } finally {
      await migrator.end({ timeout: 5 });
    }
  } catch (error) {
    throw new InvalidInputError(`DATABASE_URL: cannot open the database: ${reason(error)}`);
  }
  const pool = openPool(url);
  return {
    kind: 'postgres',
    connections: CONNECTIONS,
    drizzle: overCallback(async (text, params, method) => ({
      rows: await pool.use<unknown[]>(({ sql }) => {
        const query = sql.unsafe(text, params);
        return method === 'all' ? query.values() : query;
      }),
    })),
    transaction: pool.transaction,
    rows: (text, params, limitMs) => {
      const parameters = params.map(asParameter);
      return pool.use(async ({ sql }) => {
        if (limitMs === undefined) return sql.unsafe(text, parameters, { prepare: true });
        await sql.unsafe(`SET statement_timeout = ${limitMs}`);
        const rows = await sql.unsafe(text, parameters);
        await sql.unsafe('RESET statement_timeout');
        return rows;
      }, limitMs);
    },
    close: pool.close,
  };
}

type Parameter = string | number | string[] | number[];

function asParameter(value: unknown): Parameter {
  if (typeof value === 'string' || typeof value === 'number') return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'number')) return value;
  throw new TypeError('A statement takes texts, numbers and lists of them.');
}

async function openFolder(folder: string): Promise<Database> {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new InvalidInputError(`DATA_DIR: cannot write to "${folder}": ${reason(error)}`);
  }
  const unlock = lockFolder(folder);
  const { PGlite } = await import('@electric-sql/pglite');
  const { drizzle } = await import('drizzle-orm/pglite');
  const { migrate } = await import('drizzle-orm/pglite/migrator');
  let client: InstanceType<typeof PGlite> | undefined;
  try {
    client = await PGlite.create({ dataDir: `${folder}/pglite` });
    const db = drizzle(client);
    await migrate(db, { migrationsFolder: MIGRATIONS });
    const open = client;
    return {
      kind: 'pglite',
      drizzle: db,
      connections: 1,
      transaction: (work) => db.transaction(work),
      rows: async (text, params) => (await open.query<Record<string, unknown>>(text, params)).rows,
      close: async () => {
        await open.close();
        unlock();
      },
    };
  } catch (error) {
    await client?.close().catch(() => {});
    unlock();
    throw new InvalidInputError(
      `DATA_DIR: the database in "${folder}" cannot be opened: ${reason(error)}. ` +
        'If it is damaged, move the folder away and start with an empty one, or restore a copy.',
    );
  }
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return error.message === '' ? code : error.message;
}
