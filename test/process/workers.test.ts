/** WORKERS: several processes behind one port, on real Postgres and Redis. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { readConfig } from '../../src/config/config.ts';
import { makeVoterKeys } from '../../src/identity/voter-keys.ts';
import { castVote, createPoll, operate, results } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { startRedis } from '../support/redis.ts';
import { readSamples } from '../support/scrape.ts';
import { ROOT, spawnServer, TEST_SECRET } from '../support/server.ts';

let redis: Awaited<ReturnType<typeof startRedis>>;
let database: Awaited<ReturnType<typeof freshDatabase>>;
let env: Record<string, string>;
beforeAll(async () => {
  [redis, database] = await Promise.all([startRedis(), freshDatabase()]);
  env = { DATABASE_URL: database.url, REDIS_URL: redis.url, SECRET: TEST_SECRET, WORKERS: '3', LOG_LEVEL: 'info' };
});
afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

/** The processes whose parent is `pid`, from the kernel. */
function childrenOf(pid: number | undefined): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        // The fields after the name of the program, which may hold anything: state, then the parent.
        return Number(readFileSync(`/proc/${name}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[1]) === pid;
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Sends a signal to one existing process: pid 0 would be the whole process group. */
function kill(pid: number | undefined, signal: NodeJS.Signals): void {
  if (!pid) throw new Error('There is no such worker.');
  process.kill(pid, signal);
}

const isAlive = (pid: number): boolean => {
  try {
    // A zombie has exited; its parent has not collected it yet.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
};

/** Uses a new connection, which goes to the next worker in turn. */
async function page(url: string): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(`${url}/metrics`, { headers: { connection: 'close' } }).catch(() => null);
  // The worker may be killed at that moment.
  return answer === null ? new Map() : readSamples(await answer.text());
}

function run(more: Record<string, string>): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [join(ROOT, 'dist/main.js')], {
    env: { PATH: process.env.PATH ?? '', PORT: '0', DRAIN_MS: '0', ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (err += data));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

describe('workers', { timeout: 120_000 }, () => {
  test('one line when all listen; one port; votes count right; metrics are the sum, whoever is asked', async () => {
    await using server = await spawnServer(env);
    const graphql = `${server.url}/graphql`;
    expect(server.output().match(/Pollcast is running/g)).toHaveLength(1);
    expect(server.output()).toContain('Pollcast is running on Postgres with 3 workers.');
    const workers = childrenOf(server.child.pid);
    expect(workers).toHaveLength(3);
    const poll = await createPoll(graphql);
    const voters = makeVoterKeys(TEST_SECRET);
    const tokens = Array.from({ length: 300 }, () => voters.issue().token);
    // Each vote uses a new connection, so that all workers get some. Each is sent twice, to two workers.
    const castAll = () =>
      Promise.all(
        tokens.map((voterToken, n) =>
          castVote(
            graphql,
            { pollId: poll.id, choiceIds: [poll.choiceIds[n % 4]], voterToken },
            { connection: 'close' },
          ),
        ),
      );
    const first = await castAll();
    const second = await castAll();
    expect(second.map(({ receipt }) => receipt.id)).toEqual(first.map(({ receipt }) => receipt.id));
    expect((await results(graphql, poll.id)).ballotCount).toBe(300);
    expect((await results(graphql, poll.id)).tallies.map(({ votes }) => votes)).toEqual([75, 75, 75, 75]);

    for (let scrape = 0; scrape < 6; scrape++) {
      const samples = await page(server.url);
      expect(samples.get('pollcast_workers')).toBe(3);
      expect(samples.get('pollcast_votes_total{outcome="recorded"}')).toBe(300);
      expect(samples.get('pollcast_votes_total{outcome="unchanged"}')).toBe(300);
      expect(samples.get('pollcast_vote_seconds_count')).toBe(600);
      expect(samples.get('pollcast_database_connections')).toBe(30);
    }
    expect((await server.end('SIGTERM')).code).toBe(0);
    expect(workers.filter(isAlive)).toEqual([]);
  });

  test('V1 V3 workers are killed while votes flood in: the others serve, new ones take their places, no vote is lost', async () => {
    await using server = await spawnServer(env);
    const graphql = `${server.url}/graphql`;
    const poll = await createPoll(graphql);
    const voters = makeVoterKeys(TEST_SECRET);
    const before = childrenOf(server.child.pid);
    const receipts = new Map<string, string | null>();
    let over = false;
    const cast = (voterToken: string) =>
      castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken }, { connection: 'close' });
    const flood = Array.from({ length: 16 }, async () => {
      while (!over) {
        const { token } = voters.issue();
        receipts.set(token, null);
        const answer = await cast(token).catch(() => null);
        if (answer !== null) receipts.set(token, answer.receipt.id);
      }
    });
    const acknowledged = () => [...receipts.values()].filter((id) => id !== null).length;
    await eventually(() => acknowledged() > 100, 'votes flood in');
    // Six times, so that some workers die while they receive a connection: no client may wait for ever.
    for (let death = 1; death <= 6; death++) {
      const workers = childrenOf(server.child.pid);
      kill(workers[death % 3], 'SIGKILL');
      const then = acknowledged();
      await eventually(() => acknowledged() > then + 50, 'the others go on');
      await eventually(async () => (await page(server.url)).get('pollcast_workers') === 3, 'there are three again');
    }
    over = true;
    await Promise.all(flood);
    const after = childrenOf(server.child.pid);
    expect(after).toHaveLength(3);
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
    expect(server.output()).toMatch(
      /"worker":\d+,"code":null,"signal":"SIGKILL".*"a worker has exited and will be replaced"/,
    );
    const all = receipts.entries();
    const retries = Array.from({ length: 16 }, async () => {
      for (const [token, id] of all) {
        const again = await cast(token);
        if (id !== null) expect(again.receipt).toMatchObject({ id, outcome: 'UNCHANGED' });
      }
    });
    await Promise.all(retries);
    expect((await results(graphql, poll.id)).ballotCount).toBe(receipts.size);
    expect((await server.end('SIGTERM')).code).toBe(0);
    expect(after.filter(isAlive)).toEqual([]);
  });

  test('M1 what is voted at one worker is seen by the watchers of all', async () => {
    await using server = await spawnServer(env);
    const graphql = `${server.url}/graphql`;
    const poll = await createPoll(graphql);
    const peers = await Promise.all(
      [overWebSocket, overEvents, overWebSocket, overEvents, overWebSocket, overEvents].map((over) =>
        over(graphql, { pollId: poll.id }),
      ),
    );
    for (const peer of peers) await peer.next();
    const samples = await page(server.url);
    expect(samples.get('pollcast_watchers{transport="websocket"}')).toBe(3);
    expect(samples.get('pollcast_watchers{transport="graphql-sse"}')).toBe(3);
    const { receipt } = await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    for (const peer of peers) expect((await peer.next()).version).toBe(receipt.version);
    for (const peer of peers) await peer[Symbol.asyncDispose]();
  });

  test('the places of one address are counted over all workers, and those of one that is killed are free again', async () => {
    await using server = await spawnServer({ ...env, CONNECTION_LIMIT: '12' });
    const admin = new Redis(redis.url);
    const hash = 'pollcast:0:places:connections:127.0.0.1';
    const taken = async (): Promise<number> =>
      Object.values(await admin.hgetall(hash)).reduce((sum, text) => sum + Number(text.split(' ')[1]), 0);
    const open: WebSocket[] = [];
    const knock = () =>
      new Promise<number>((resolve) => {
        const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
        socket.on('error', () => {});
        socket.on('open', () => {
          open.push(socket);
          resolve(101);
        });
        socket.on('unexpected-response', (_, answer) => resolve(answer.statusCode ?? 0));
      });
    // Connections go to the workers in turn: if each worker counted alone, all would be accepted.
    for (let count = 0; count < 12; count++) {
      expect(await knock()).toBe(101);
      await eventually(async () => (await taken()) === open.length, 'it is told');
    }
    await eventually(async () => (await knock()) === 429, 'one more is refused');
    expect(open.length).toBeLessThanOrEqual(14);
    kill(childrenOf(server.child.pid)[1], 'SIGKILL');
    const alive = () => open.filter(({ readyState }) => readyState === WebSocket.OPEN).length;
    await eventually(async () => alive() < 12 && (await taken()) === alive(), 'what the dead one had is given back');
    await eventually(async () => (await knock()) === 101, 'and taken again');
    for (const socket of open) socket.terminate();
    await eventually(async () => (await admin.exists(hash)) === 0, 'nothing is left in Redis');
    admin.disconnect();
  });

  test('M5 SIGTERM: all drain, sockets are closed with 1001, and the primary is the last to leave', async () => {
    await using server = await spawnServer({ ...env, DRAIN_MS: '500' });
    const graphql = `${server.url}/graphql`;
    const workers = childrenOf(server.child.pid);
    const poll = await createPoll(graphql);
    const peers = await Promise.all(Array.from({ length: 9 }, () => overWebSocket(graphql, { pollId: poll.id })));
    for (const peer of peers) await peer.next();
    // A terminal sends the signal to the workers too.
    for (const pid of workers) kill(pid, 'SIGINT');
    expect(await server.end('SIGINT')).toEqual({ code: 0, signal: null });
    for (const peer of peers) expect(await peer.event()).toEqual({ type: 'closed', code: 1001 });
    expect(workers.filter(isAlive)).toEqual([]);
    expect(server.output()).not.toContain('another takes its place');
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
  });

  test('a second signal, or the death of the primary, takes all along at once', async () => {
    for (const [signals, code] of [
      [['SIGTERM', 'SIGTERM'], 1],
      [['SIGKILL'], null],
    ] as const) {
      await using server = await spawnServer({ ...env, DRAIN_MS: '600000' });
      const poll = await createPoll(`${server.url}/graphql`);
      const peers = await Promise.all(
        Array.from({ length: 6 }, () => overWebSocket(`${server.url}/graphql`, { pollId: poll.id })),
      );
      for (const peer of peers) await peer.next();
      const workers = childrenOf(server.child.pid);
      expect(workers).toHaveLength(3);
      const [first, second] = signals;
      let ended = server.end(first);
      if (second !== undefined) {
        await eventually(() => server.output().includes('SIGTERM: finishing'), 'it has heard the first');
        ended = server.end(second);
      }
      expect((await ended).code).toBe(code);
      await eventually(() => !workers.some(isAlive), 'all are gone');
      for (const peer of peers) await peer[Symbol.asyncDispose]();
    }
  });

  test('a worker that is told to leave finishes and is replaced', async () => {
    await using server = await spawnServer(env);
    const before = childrenOf(server.child.pid);
    kill(before[1], 'SIGTERM');
    await eventually(
      () => childrenOf(server.child.pid).filter((pid) => !before.includes(pid)).length === 1,
      'one is new',
    );
    await eventually(async () => (await page(server.url)).get('pollcast_workers') === 3, 'there are three again');
    expect(server.output()).toMatch(/"code":0,"signal":null.*"a worker has exited/);
    expect((await server.end('SIGTERM')).code).toBe(0);
  });

  test('the flags of Node hold for the workers, and their log lines say whose they are', async () => {
    const child = spawn(process.execPath, ['--max-semi-space-size=32', join(ROOT, 'dist/main.js')], {
      env: { PATH: process.env.PATH ?? '', PORT: '0', DRAIN_MS: '0', ...env, LOG_LEVEL: 'debug' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (data) => (out += data));
    await eventually(() => out.includes('Open http'), 'it runs');
    const workers = childrenOf(child.pid);
    expect(workers).toHaveLength(3);
    for (const pid of workers) {
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')).toContain('--max-semi-space-size=32');
    }
    const url = /Open (http:\S+)\/graphql/.exec(out)?.[1] ?? '';
    for (let n = 0; n < 3; n++) await fetch(`${url}/healthz`, { headers: { connection: 'close' } });
    await eventually(
      () => new Set(out.match(/"worker":\d+(?=.*"a request")/g)).size === 3,
      'each has logged a request',
    );
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });
});

describe('workers that cannot start', { timeout: 120_000 }, () => {
  test('a wrong number, or nothing to share polls through, is said', () => {
    for (const WORKERS of ['0', '65', 'abc', '-1', '1.5']) {
      expect(() => readConfig({ ...env, WORKERS })).toThrow(
        `WORKERS: "${WORKERS}" must be a whole number from 1 to 64`,
      );
    }
    const { DATABASE_URL = '', REDIS_URL = '', SECRET = '' } = env;
    const needs = /WORKERS: more than 1 needs DATABASE_URL and REDIS_URL/;
    expect(() => readConfig({ WORKERS: '2' })).toThrow(needs);
    expect(() => readConfig({ WORKERS: '2', DATABASE_URL, SECRET })).toThrow(needs);
    expect(() => readConfig({ WORKERS: '2', REDIS_URL })).toThrow(needs);
    expect(readConfig({ WORKERS: '2', DATABASE_URL, REDIS_URL, SECRET }).workers).toBe(2);
    expect(readConfig({ WORKERS: '1' }).workers).toBe(1);
  });

  test('what is wrong with the configuration is said once, and all is over', async () => {
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
    const { port } = blocker.address() as AddressInfo;
    const taken = await run({ ...env, PORT: String(port) });
    blocker.close();
    expect(taken.code).toBe(1);
    expect(taken.err).toBe(
      `pollcast: PORT: ${port} on 127.0.0.1 is taken by another program. Set PORT to another one, or to 0 for any.\n`,
    );
    const lost = await run({ ...env, DATABASE_URL: 'postgres://postgres@127.0.0.1:1/nowhere' });
    expect(lost).toMatchObject({ code: 1, out: '' });
    expect(lost.err.match(/DATABASE_URL: cannot open the database/g)).toHaveLength(1);
  });

  test('one that dies again and again is tried less and less often, while the others serve', async () => {
    await using server = await spawnServer({ ...env, WORKERS: '2' });
    const before = childrenOf(server.child.pid);
    const steady = before[0] ?? 0;
    const pauses = () => [...server.output().matchAll(/"pause":(\d+)/g)].map(([, pause]) => Number(pause));
    for (let death = 1; death <= 4; death++) {
      await eventually(() => childrenOf(server.child.pid).length === 2, 'there are two');
      kill(
        childrenOf(server.child.pid).find((pid) => pid !== steady),
        'SIGKILL',
      );
      await eventually(() => pauses().length === death, 'its death is noticed');
    }
    expect(pauses()).toEqual([100, 200, 400, 800]);
    expect(await operate(`${server.url}/graphql`, '{ viewer { isOrganizer } }')).toEqual({
      data: { viewer: { isOrganizer: false } },
    });
    expect(isAlive(steady)).toBe(true);
    expect((await server.end('SIGTERM')).code).toBe(0);
  });
});
