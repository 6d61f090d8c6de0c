/**
 * Postgres fails, in every way that it does, under two instances with votes flooding in and watchers on every transport:
 * votes are refused with a clear error or wait a little, no watcher is cut, and afterwards all is as if nothing had been.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { castVote, createPoll, newVoter, results } from '../support/api.ts';
import { eventually } from '../support/peers.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { startProxy, type TcpProxy } from '../support/proxy.ts';
import { type ServerProcess, spawnServer, TEST_SECRET } from '../support/server.ts';
import { type Storm, startStorm } from '../support/storm.ts';

const CLEAR = 'UNAVAILABLE: The database does not answer at the moment; try again.';
/** Shorter than the default of 10 s, so that the test sees a statement time out. */
const STATEMENT_MS = 1_500;

let server: PostgresServer;
let databaseUrl: string;
let proxy: TcpProxy;
let instances: ServerProcess[];
let admin: postgres.Sql;

const start = (url: string, settings = `statement_timeout=${STATEMENT_MS}`) =>
  spawnServer({
    DATABASE_URL: `${url}?${settings}`,
    SECRET: TEST_SECRET,
    LIVE_INTERVAL_MS: '20',
    LOG_LEVEL: 'fatal',
  });

beforeAll(async () => {
  server = await startPostgres();
  databaseUrl = await server.createDatabase();
  proxy = await startProxy(databaseUrl);
  instances = await Promise.all([start(proxy.url), start(proxy.url)]);
  admin = postgres(server.url, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await admin.end({ timeout: 1 });
  for (const instance of instances) {
    // The same processes survived all faults.
    expect(instance.child.exitCode).toBeNull();
    expect(await instance.end('SIGTERM')).toEqual({ code: 0, signal: null });
  }
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const ready = (url = '') => eventually(async () => (await fetch(`${url}/readyz`)).ok, 'the instance is ready');

let seed = 0;
async function storm(urls = instances.map(({ url }) => url), voters = 4): Promise<Storm> {
  seed++;
  for (const url of urls) await ready(url);
  const begun = await startStorm({ seed, instances: () => urls, databaseUrl, voters });
  await begun.more(50);
  return begun;
}

/** The server's sessions of the instances. */
const sessions = () => admin`SELECT pid FROM pg_stat_activity WHERE application_name = 'pollcast'`;

describe('M4 V1 V3 L2 L3', { timeout: 120_000 }, () => {
  test('Postgres is restarted', async () => {
    await using voting = await storm();
    await server.stop();
    await voting.moreRefused(50);
    expect([...voting.refused.keys()]).toEqual([CLEAR]);
    expect((await fetch(`${instances[0]?.url}/readyz`)).status).toBe(503);
    await server.restart();
    await voting.more(50);
    await voting.settle();
    await ready(instances[0]?.url);
  });

  test('Postgres is killed with SIGKILL', async () => {
    await using voting = await storm();
    for (let kill = 0; kill < 2; kill++) {
      await server.kill();
      await voting.moreRefused(20);
      await server.restart();
      await voting.more(100);
    }
    expect([...voting.refused.keys()]).toEqual([CLEAR]);
    await voting.settle();
  });

  test('its connections are terminated one by one', async () => {
    await using voting = await storm();
    for (let round = 0; round < 5; round++) {
      for (const { pid } of await sessions()) {
        await admin`SELECT pg_terminate_backend(${pid})`;
        await voting.more(5);
      }
    }
    expect([CLEAR, undefined]).toContain([...voting.refused.keys()][0]);
    await voting.settle();
  });

  test('its connections are cut by the network, and slow', async () => {
    await using voting = await storm();
    for (let round = 0; round < 10; round++) {
      proxy.cut();
      await voting.more(20);
      proxy.delay(round);
    }
    proxy.delay(0);
    expect([CLEAR, undefined]).toContain([...voting.refused.keys()][0]);
    await voting.settle();
  });

  test('it is out of reach: packets vanish, votes are refused and do not hang', async () => {
    await using voting = await storm();
    proxy.swallow();
    // First when their statements time out, later at once.
    await voting.moreRefused(200);
    expect([...voting.refused.keys()]).toEqual([CLEAR]);
    proxy.heal();
    await voting.more(100);
    await voting.settle();
  });

  test('a vote that was refused while it was out of reach is not carried out later', async () => {
    const graphql = `${instances[0]?.url}/graphql`;
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const voters = await Promise.all(Array.from({ length: 20 }, () => newVoter(graphql)));
    const cast = (choice: number) =>
      Promise.allSettled(
        voters.map(({ voterToken }) =>
          castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[choice]], voterToken }),
        ),
      );
    // Prepare the statement first, so that a vote goes out in one piece.
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[2]] });
    proxy.swallow();
    expect((await cast(0)).map(({ status }) => status)).toEqual(voters.map(() => 'rejected'));
    proxy.healNew();
    await ready(instances[0]?.url);
    expect((await cast(1)).map(({ status }) => status)).toEqual(voters.map(() => 'fulfilled'));
    // Data on the old connections arrives now or never.
    proxy.heal();
    await expect.poll(() => proxy.holding).toBe(0);
    // A vote on the same poll comes last: it waits for locks on the poll.
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[3]] });
    expect((await results(graphql, poll.id)).tallies.map(({ votes }) => votes)).toEqual([0, 20, 1, 1]);
  });

  test('somebody else locks the polls: votes wait their time and no longer', async () => {
    await using voting = await storm();
    const sql = postgres(databaseUrl, { max: 1 });
    await sql.begin(async (tx) => {
      await tx`SELECT id FROM polls FOR UPDATE`;
      await voting.moreRefused(10);
    });
    await sql.end();
    expect([...voting.refused.keys()]).toEqual([CLEAR]);
    await voting.more(50);
    await voting.settle();
  });

  test('deadlocks: the batch is sent again, nobody is refused', async () => {
    await using one = await start(databaseUrl, '');
    await using two = await start(databaseUrl, '');
    await using voting = await storm([one.url, two.url], 16);
    const [low, high] = voting.polls.map(({ id }) => id).sort();
    const sql = postgres(databaseUrl, { max: 1 });
    const deadlocks = async () => {
      const [row] = await admin`SELECT sum(deadlocks)::int AS n FROM pg_stat_database`;
      return Number(row?.n);
    };
    const before = await deadlocks();
    // Lock in the opposite order to the instances, so that a batch with the lower poll waits for the higher one.
    const provoke = () =>
      sql.begin(async (tx) => {
        // The other sessions must detect the deadlock, so that they are its victims.
        await tx`SET LOCAL deadlock_timeout = '1min'`;
        const [{ pid } = {}] = await tx`SELECT pg_backend_pid() AS pid`;
        await tx`SELECT id FROM polls WHERE id = ${high ?? ''} FOR UPDATE`;
        await eventually(async () => {
          const held = await admin`SELECT 1 FROM pg_stat_activity WHERE ${pid}::int = ANY(pg_blocking_pids(pid))`;
          return held.length > 0;
        }, 'a batch waits for the poll');
        await tx`SELECT id FROM polls WHERE id = ${low ?? ''} FOR UPDATE`;
      });
    await eventually(async () => {
      await provoke();
      return (await deadlocks()) > before;
    }, 'Postgres counts a deadlock');
    await sql.end();
    await voting.more(50);
    expect([...voting.refused.keys()]).toEqual([]);
    await voting.settle();
  });

  test('serialization failures: the batch is sent again', async () => {
    await using strict = await start(databaseUrl, 'default_transaction_isolation=serializable');
    await using voting = await storm([...instances.map(({ url }) => url), strict.url]);
    const [setting] = await admin`SELECT current_setting('data_directory') AS data`;
    const log = join(String(setting?.data), '../log');
    await eventually(() => readFileSync(log, 'utf8').includes('could not serialize access'), 'one has failed');
    await voting.more(200);
    expect([CLEAR, undefined]).toContain([...voting.refused.keys()][0]);
    await voting.settle();
    expect(await strict.end('SIGTERM')).toEqual({ code: 0, signal: null });
  });
});
