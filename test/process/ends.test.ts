/** Wrong starts, wrong requests, and clean ends of the real process. */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config/config.ts';
import { castVote, createPoll, results } from '../support/api.ts';
import { temporaryFolder } from '../support/folders.ts';
import { overEvents, overWebSocket } from '../support/peers.ts';
import { ROOT, spawnServer, startServer, TEST_SECRET, type TestServer } from '../support/server.ts';

const PATIENCE = { timeout: 120_000 };

function run(args: string[], env: Record<string, string>): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [join(ROOT, 'dist/main.js'), ...args], {
    env: { PATH: process.env.PATH ?? '', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (err += data));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

describe('wrong starts', PATIENCE, () => {
  test('a wrong environment: one message names every mistake, and no secret', async () => {
    const { code, err, out } = await run([], {
      PORT: '70000',
      DATABASE_URL: 'mysql://u:hidden@h/x',
      LIVE_INTERVAL_MS: 'soon',
      LOG_LEVEL: 'loud',
      SECRET: 'short',
      REDIS_URL: 'http://u:hidden@h',
      WORKERS: 'four',
    });
    expect(code).toBe(1);
    for (const name of [
      'PORT: "70000"',
      'DATABASE_URL',
      'LIVE_INTERVAL_MS: "soon"',
      'LOG_LEVEL: "loud"',
      'SECRET',
      'REDIS_URL: must begin with redis://',
      'WORKERS: "four" must be a whole number from 1 to 64',
    ]) {
      expect(err).toContain(name);
    }
    expect(err + out).not.toMatch(/hidden|short|\bat .*\.js/);
  });

  test('DATABASE_URL wants SECRET; defaults are sensible; the configuration is frozen', () => {
    expect(() => readConfig({ DATABASE_URL: 'postgres://h/x' })).toThrow(/SECRET: must be set with DATABASE_URL/);
    const config = readConfig({});
    expect(config).toEqual({
      port: 4000,
      host: '127.0.0.1',
      databaseUrl: null,
      redisUrl: null,
      dataDir: './data',
      secret: null,
      liveIntervalMs: 100,
      logLevel: 'info',
      access: {
        jwt: null,
        pollCreation: 'open',
        corsOrigins: [],
        trustedProxies: [],
        limits: { votes: 50, polls: 60, connections: 2_000, operationCost: 20_000 },
      },
      drainMs: 10_000,
      workers: 1,
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  test('REDIS_URL: what is wrong is named, never shown; it needs DATABASE_URL', () => {
    const read = (REDIS_URL: string, more = {}) =>
      readConfig({ REDIS_URL, DATABASE_URL: 'postgres://h/x', SECRET: TEST_SECRET, ...more });
    for (const url of ['redis://h', 'rediss://u:p%40ss@h:1/15', 'redis://:p@[::1]:6379/', 'redis://h/0']) {
      expect(read(url).redisUrl).toBe(url);
    }
    for (const [url, why] of [
      ['http://u:hidden@h', /must begin with redis:\/\/ or rediss:\/\//],
      ['redis://', /must begin with/],
      ['redis://u:hidden/x@h', /is not a URL; a password in it must be percent-encoded/],
      ['redis://u:hidden%@h', /not percent-encoded/],
      ['redis://u:hidden@h/first', /only the number of a database/],
      ['redis://u:hidden@h/0?tls=no', /takes no options/],
    ] as const) {
      expect(() => read(url)).toThrow(/REDIS_URL/);
      expect(() => read(url)).toThrow(why);
      expect(() => read(url)).not.toThrow(/hidden/);
    }
    expect(() => readConfig({ REDIS_URL: 'redis://h' })).toThrow(/REDIS_URL: needs DATABASE_URL/);
  });

  test('an unknown command shows the usage', async () => {
    const { code, err } = await run(['launch'], {});
    expect(code).toBe(2);
    expect(err).toMatch(/Usage: pollcast/);
    expect(await run(['--help'], {})).toMatchObject({ code: 0, out: expect.stringContaining('recount') });
  });

  test('a taken port is said so, and the data folder is free again', async () => {
    using folder = temporaryFolder();
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
    const { port } = blocker.address() as AddressInfo;
    const { code, err } = await run([], { PORT: String(port), DATA_DIR: folder.path });
    blocker.close();
    expect(code).toBe(1);
    expect(err).toContain(`PORT: ${port} on 127.0.0.1 is taken`);
    expect(readdirSync(folder.path)).not.toContain('pollcast.lock');
  });

  test('a data folder that cannot be written, or is not one, is said so', async () => {
    using folder = temporaryFolder();
    writeFileSync(join(folder.path, 'file'), '');
    const { code, err } = await run([], { DATA_DIR: join(folder.path, 'file') });
    expect(code).toBe(1);
    expect(err).toContain('DATA_DIR: cannot write to');
    const locked = join(folder.path, 'locked');
    mkdirSync(locked);
    chmodSync(locked, 0o500);
    // Root may write anywhere, so a read-only folder stops only others.
    if (process.getuid?.() !== 0)
      expect((await run([], { DATA_DIR: locked })).err).toContain('DATA_DIR: cannot write to');
  });

  test('a damaged data folder is said so, with what to do, and is left as it is', async () => {
    using folder = temporaryFolder();
    mkdirSync(join(folder.path, 'pglite/base'), { recursive: true });
    writeFileSync(join(folder.path, 'pglite/PG_VERSION'), '17\n');
    writeFileSync(join(folder.path, 'pglite/base/rubbish'), 'rubbish');
    const { code, err } = await run([], { DATA_DIR: folder.path });
    expect(code).toBe(1);
    expect(err).toMatch(/DATA_DIR: the database in ".*" cannot be opened: .*move the folder away/);
    expect(existsSync(join(folder.path, 'pglite/base/rubbish'))).toBe(true);
    expect(readdirSync(folder.path)).not.toContain('pollcast.lock');
  });

  test('a second process on the same folder is told who holds it', async () => {
    using folder = temporaryFolder();
    await using first = await spawnServer({ DATA_DIR: folder.path });
    const second = await run([], { DATA_DIR: folder.path });
    expect(second.code).toBe(1);
    expect(second.err).toContain(`in use by process ${first.child.pid} on`);
    expect((await run(['recount'], { DATA_DIR: folder.path })).err).toContain(`in use by process ${first.child.pid}`);
    await first.end('SIGTERM');
    expect(await run(['recount'], { DATA_DIR: folder.path })).toMatchObject({
      code: 0,
      out: '0 polls, 0 ballots, 0 differences\n',
    });
  });
});

describe('clean ends', PATIENCE, () => {
  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s: votes in flight are answered, sockets closed with 1001, the folder unlocked',
    async (signal) => {
      using folder = temporaryFolder();
      const env = { DATA_DIR: folder.path, SECRET: TEST_SECRET };
      const server = await spawnServer(env);
      const graphql = `${server.url}/graphql`;
      const poll = await createPoll(graphql);
      await using watching = await overWebSocket(graphql, { pollId: poll.id });
      await using streaming = await overEvents(graphql, { pollId: poll.id });
      await watching.next();
      await streaming.next();
      const votes = Array.from({ length: 200 }, () =>
        castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] }).then(
          (answer) => answer.__typename === 'CastVoteSuccess',
          () => false,
        ),
      );
      await Promise.race(votes);
      expect(await server.end(signal)).toEqual({ code: 0, signal: null });
      const acknowledged = (await Promise.all(votes)).filter(Boolean).length;
      let event = await watching.event();
      while (event.type === 'next') event = await watching.event();
      expect(event).toEqual({ type: 'closed', code: 1001 });
      expect(readdirSync(folder.path)).not.toContain('pollcast.lock');
      await using again = await spawnServer(env);
      const { ballotCount } = await results(`${again.url}/graphql`, poll.id);
      expect(ballotCount).toBeGreaterThanOrEqual(acknowledged);
      expect(acknowledged).toBeGreaterThan(0);
    },
  );

  test('the secret is made once and kept: a voter token outlives a restart', async () => {
    using folder = temporaryFolder();
    const first = await spawnServer({ DATA_DIR: folder.path });
    const poll = await createPoll(`${first.url}/graphql`);
    const { voterToken } = await castVote(`${first.url}/graphql`, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    await first.end('SIGTERM');
    await using second = await spawnServer({ DATA_DIR: folder.path });
    const again = await castVote(`${second.url}/graphql`, {
      pollId: poll.id,
      choiceIds: [poll.choiceIds[0]],
      voterToken,
    });
    expect(again.receipt.outcome).toBe('UNCHANGED');
  });

  test('stopped, nothing is left running: a process that started and stopped an app ends by itself', async () => {
    using folder = temporaryFolder();
    // With somebody watching on each transport when it stops.
    const script = `
      import { startApp } from ${JSON.stringify(new URL('../../dist/app.js', import.meta.url).href)};
      import { readConfig } from ${JSON.stringify(new URL('../../dist/config/config.js', import.meta.url).href)};
      const app = await startApp(readConfig({ PORT: '0', DATA_DIR: ${JSON.stringify(folder.path)}, LOG_LEVEL: 'error', DRAIN_MS: '100' }));
      console.log(app.url);
      process.stdin.once('data', async () => {
        await app.stop();
        process.stdin.destroy();
        console.log('stopped');
      });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const lines: string[] = [];
    const url = await new Promise<string>((resolve) => {
      child.stdout.on('data', (data) => {
        lines.push(String(data).trim());
        resolve(lines[0] ?? '');
      });
    });
    const poll = await createPoll(`${url}/graphql`);
    await using watching = await overWebSocket(`${url}/graphql`, { pollId: poll.id });
    await using streaming = await overEvents(`${url}/graphql`, { pollId: poll.id });
    await watching.next();
    await streaming.next();
    child.stdin.write('stop');
    expect(await watching.event()).toEqual({ type: 'closed', code: 1001 });
    expect(await ended).toBe(0);
    expect(lines.at(-1)).toBe('stopped');
  });
});

describe('wrong requests leave the server serving', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer({ LOG_LEVEL: 'silent' });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const post = (body: BodyInit, headers: Record<string, string> = {}) =>
    fetch(server.graphql, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });

  test.each<[string, () => Promise<Response>, number, RegExp]>([
    ['malformed JSON', () => post('{"query'), 400, /body: must be JSON in UTF-8/],
    ['no query', () => post('{}'), 200, /Must provide query string/],
    ['a query that is a number', () => post('{"query":1}'), 400, /param to be a string/],
    ['a list', () => post('[]'), 400, /Batching is not supported/],
    ['unknown fields', () => post('{"query":"{ nope }"}'), 200, /Cannot query field/],
    ['a syntax error', () => post('{"query":"{"}'), 200, /Syntax Error/],
    ['a wrong type', () => post('{"query":"{ poll(id: [1]) { id } }"}'), 200, /cannot represent/],
    [
      'a huge document',
      () => post(JSON.stringify({ query: `{ ${'viewer { isOrganizer } '.repeat(1_000)} }` })),
      200,
      /2000 tokens/,
    ],
    [
      'a deep document',
      () => post(JSON.stringify({ query: `{ poll ${'{ results '.repeat(13)}${'}'.repeat(14)}` })),
      200,
      /14 levels deep, at most 12/,
    ],
    ['a body of 2 MB', () => post('x'.repeat(2_000_000)), 413, /body: must have at most 1000000 bytes/],
    [
      'a form',
      () => post('query=%7Bviewer%7BisOrganizer%7D%7D', { 'content-type': 'application/x-www-form-urlencoded' }),
      415,
      /application\/json/,
    ],
    [
      'plain text',
      () => post('{"query":"{ viewer { isOrganizer } }"}', { 'content-type': 'text/plain' }),
      415,
      /application\/json/,
    ],
    [
      'a mutation by GET',
      () =>
        fetch(
          `${server.graphql}?query=${encodeURIComponent('mutation { closePoll(input: { pollId: "x" }) { __typename } }')}`,
        ),
      405,
      /POST/,
    ],
    [
      'a subscription without a stream',
      () => post('{"query":"subscription { pollResults(pollId: \\"x\\") { version } }"}'),
      406,
      /event-stream/,
    ],
    ['another method', () => fetch(server.graphql, { method: 'DELETE' }), 405, /GET and POST/],
    ['another path', () => fetch(`${server.url}/elsewhere`), 404, /nothing at \/elsewhere/],
  ])('%s', async (_, ask, status, message) => {
    const response = await ask();
    expect(await response.text()).toMatch(message);
    expect(response.status).toBe(status);
    expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: 'alive' });
  });

  test('the database is asked whether it is there', async () => {
    expect(await (await fetch(`${server.url}/readyz`)).json()).toEqual({ status: 'ready' });
  });

  test('a fault is masked, logged with an id, and shows that id', async () => {
    const lines: { fields: object; message: string }[] = [];
    const note = (fields: object, message: string) => void lines.push({ fields, message });
    await using own = await startServer({}, { log: { debug: note, info: note, warn: note, error: note } });
    const broken = () => Promise.reject(new Error('relation "polls" is in a bad mood, says PGlite'));
    Object.assign(own.app.store, { loadPoll: broken });
    const response = await fetch(own.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"query":"{ poll(id: \\"abc\\") { id } }"}',
    });
    const text = await response.text();
    const { id } = JSON.parse(text).errors[0].extensions;
    expect(text).toContain(`report the number ${id}`);
    expect(text).not.toMatch(/PGlite|mood|relation|stack/i);
    expect(lines.find(({ fields }) => 'id' in fields && fields.id === id)?.message).toBe('an operation failed');
  });

  const INIT = '{"type":"connection_init"}';
  test.each<[string, (string | Buffer)[], number]>([
    ['nonsense', ['nonsense'], 4400],
    ['an unknown message', ['{"type":"shout"}'], 4400],
    ['binary', [Buffer.from('{}')], 4400],
    ['a subscription before the init', ['{"type":"subscribe","id":"1","payload":{"query":"{__typename}"}}'], 4401],
    ['a second init', [INIT, INIT], 4429],
    ['a message of 100 KB', [`{"type":"connection_init","payload":{"x":"${'x'.repeat(100_000)}"}}`], 1009],
    [
      'an operation id of 1 KB',
      [INIT, `{"type":"subscribe","id":"${'i'.repeat(1_000)}","payload":{"query":"{__typename}"}}`],
      4400,
    ],
  ])('over WebSocket: %s', async (_, messages, code) => {
    const { WebSocket } = await import('ws');
    const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
    const closed = new Promise<number>((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('open', resolve));
    for (const message of messages) {
      const acknowledged = message === INIT ? new Promise((resolve) => socket.once('message', resolve)) : null;
      socket.send(message);
      await Promise.race([acknowledged, closed]);
    }
    expect(await closed).toBe(code);
    await createPoll(server.graphql);
  });
});
