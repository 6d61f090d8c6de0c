/** Starts a Postgres in a temporary folder, for tests that break it. */
import { execFile, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import postgres from 'postgres';
import { freePort } from './ports.ts';
import { openSandbox, requireProgram, type User } from './programs.ts';

/** A server on which tests make databases. `url` is an administrator's. */
export interface Databases extends AsyncDisposable {
  readonly url: string;
  /** The URL of a new empty database. */
  createDatabase(): Promise<string>;
}

/** Listens on 127.0.0.1 only and trusts everyone; disposing stops it and removes its data. */
export interface PostgresServer extends Databases {
  /** SIGINT (the default) ends the sessions, SIGTERM waits for them, SIGQUIT leaves recovery to the next start. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** SIGKILL to the postmaster and all its children at once, as when the machine loses power. */
  kill(): Promise<void>;
  /** Restarts it with the same data on the same port. */
  restart(): Promise<void>;
}

export interface PostgresOptions {
  /** Default true: a commit is on disk before it is acknowledged. */
  readonly fsync?: boolean;
  /** Further settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
}

export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const program = requireProgram('postgres');
  const user = unprivilegedUser();
  const sandbox = openSandbox('postgres', 'SIGQUIT', user);
  const data = join(sandbox.folder, 'data');
  const port = await freePort();
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    fsync: options.fsync === false ? 'off' : 'on',
    // Keep shared memory in files of the data folder, so that a kill leaves nothing behind.
    dynamic_shared_memory_type: 'mmap',
    ...options.settings,
  };
  const args = ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];

  async function start(): Promise<void> {
    sandbox.start(program, args);
    await sandbox.ready(() => run(url, 'select 1'));
  }

  async function dispose(): Promise<void> {
    await sandbox.stop();
    await releaseMemory(data);
    await sandbox[Symbol.asyncDispose]();
  }

  try {
    const initdb = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
    await promisify(execFile)(join(program, '../initdb'), initdb, { ...user, cwd: sandbox.folder });
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    url,
    createDatabase: () => createDatabase(url),
    stop: (signal = 'SIGINT') => sandbox.stop(signal),
    kill: sandbox.kill,
    async restart() {
      await sandbox.stop('SIGINT');
      await start();
    },
    [Symbol.asyncDispose]: dispose,
  };
}

/** The server of TEST_DATABASE_URL, which is never stopped; disposing drops the databases made here. */
export function testDatabases(): Databases | undefined {
  const url = process.env.TEST_DATABASE_URL;
  if (!url) return undefined;
  const made: string[] = [];
  return {
    url,
    async createDatabase() {
      const database = await createDatabase(url);
      made.push(database);
      return database;
    },
    async [Symbol.asyncDispose]() {
      for (const database of made.splice(0)) await dropDatabase(url, database);
    },
  };
}

/** Creates a database from template0, the only template without connections. */
export async function createDatabase(adminUrl: string): Promise<string> {
  const name = `pollcast_test_${randomUUID().replaceAll('-', '')}`;
  await run(adminUrl, `create database ${name} template template0`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** Also ends the sessions of the database. */
export async function dropDatabase(adminUrl: string, databaseUrl: string): Promise<void> {
  const name = new URL(databaseUrl).pathname.slice(1);
  if (!/^pollcast_test_[0-9a-f]{32}$/.test(name)) throw new Error(`${name} was not made by a test`);
  await run(adminUrl, `drop database if exists ${name} with (force)`);
}

async function run(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Postgres refuses to run as root: then it runs as its package's user, or as nobody. */
export function unprivilegedUser(): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) =>
      Number(spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout || NaN),
    );
    if (uid && gid) return { uid, gid };
  }
  throw new Error('Postgres does not run as root, and there is no user "postgres" or "nobody" to run it as');
}

/** A postmaster that was killed leaves a small System V segment: the last number of the seventh line names it. */
async function releaseMemory(data: string): Promise<void> {
  const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  const segment = lines[6]?.trim().split(/\s+/)[1];
  if (segment) spawnSync('ipcrm', ['-m', segment]);
}
