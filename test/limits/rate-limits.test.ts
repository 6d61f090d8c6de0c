/** How much one address may ask: each limit says so, says when to try again, and costs nobody else anything. */
import { connect } from 'node:net';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { openRedisBus, type RedisBusOptions } from '../../src/bus/redis/open.ts';
import { readConfig } from '../../src/config/config.ts';
import { RateLimitedError } from '../../src/core/errors.ts';
import { makeRateLimits, type RateKind, type RateLimits } from '../../src/limits/rate-limits.ts';
import { systemClock } from '../../src/ops/clock.ts';
import { type Answer, ask, castVote, createPoll, manage, operate, results } from '../support/api.ts';
import { eventually, Inbox } from '../support/peers.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { bearer, JWT_SECRET, token } from '../support/tokens.ts';

afterEach(() => vi.useRealTimers());

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const OFF = { votes: 0, polls: 0, connections: 0, operationCost: 0, log: silent };

/** What became of it: null, or the milliseconds to wait. */
async function outcome(asked: Promise<void> | null): Promise<number | null> {
  try {
    await asked;
    return null;
  } catch (error) {
    if (!(error instanceof RateLimitedError)) throw error;
    return error.retryAfterMs;
  }
}

const many = async (count: number, ask: () => Promise<void> | null): Promise<(number | null)[]> =>
  Promise.all(Array.from({ length: count }, () => outcome(ask())));
const passed = (outcomes: (number | null)[]): number => outcomes.filter((wait) => wait === null).length;

describe('the configuration', () => {
  test.each(['VOTE_RATE_LIMIT', 'POLL_CREATION_LIMIT', 'CONNECTION_LIMIT', 'OPERATION_COST_LIMIT'])('%s', (name) => {
    expect(() => readConfig({ [name]: '-1' })).toThrow(new RegExp(`${name}: "-1" must be a whole number from 0`));
    expect(Object.values(readConfig({ [name]: '7' }).access.limits)).toContain(7);
    expect(Object.values(readConfig({ [name]: '0' }).access.limits)).toContain(0);
  });
});

describe('in one process', () => {
  test('so many a second, then none until the second is over; each address by itself', async () => {
    vi.useFakeTimers();
    const refused: RateKind[] = [];
    const rates = makeRateLimits({ ...OFF, votes: 50, refused: (kind) => refused.push(kind) });
    const first = await many(60, () => rates.vote('a'));
    expect(passed(first)).toBe(50);
    expect(first.filter((wait) => wait !== null).every((wait) => wait > 0 && wait <= 1_000)).toBe(true);
    expect(refused).toEqual(Array(10).fill('votes'));
    expect(await outcome(rates.vote('b'))).toBeNull();
    vi.advanceTimersByTime(1_000);
    expect(passed(await many(60, () => rates.vote('a')))).toBe(50);
  });

  test('who stands far back in a crowd is told to come when it is its turn', async () => {
    vi.useFakeTimers();
    const rates = makeRateLimits({ ...OFF, votes: 10 });
    const waits = await many(40, () => rates.vote('school'));
    expect(waits.slice(9, 11)).toEqual([null, 1_000]);
    expect(waits.slice(19, 21)).toEqual([1_000, 2_000]);
    expect(waits.slice(29, 31)).toEqual([2_000, 3_000]);
    for (let index = 0; index < 10_000; index++) await outcome(rates.vote('school'));
    expect(await outcome(rates.vote('school'))).toBe(11_000);
  });

  test('an organizer’s batch counts a vote for each hundred, and the largest fits through any limit', async () => {
    vi.useFakeTimers();
    const rates = makeRateLimits({ ...OFF, votes: 50 });
    expect(passed(await many(10, () => rates.vote('a', 1_000)))).toBe(5);
    const narrow = makeRateLimits({ ...OFF, votes: 2 });
    expect(await outcome(narrow.vote('a', 1_000))).toBeNull();
    expect(await outcome(narrow.vote('a', 1))).not.toBeNull();
  });

  test('0 is no limit, and costs not even a promise', async () => {
    const rates = makeRateLimits(OFF);
    expect([rates.vote('a'), rates.createPoll('a'), rates.operation('a', 1e6)]).toEqual([null, null, null]);
    for (let index = 0; index < 10_000; index++) rates.connect('a');
  });

  test('places: taken, left, and given to the next', () => {
    const rates = makeRateLimits({ ...OFF, connections: 2 });
    for (let index = 0; index < 2; index++) rates.connect('a');
    expect(() => rates.connect('a')).toThrow(/At most 2 connections/);
    rates.connect('b');
    rates.disconnect('a');
    rates.connect('a');
    expect(() => rates.connect('a')).toThrow(RateLimitedError);
  });

  test('wrong codes: ten a minute in a poll from an address, right ones as many as you like', async () => {
    vi.useFakeTimers();
    const refused: RateKind[] = [];
    const rates = makeRateLimits({ ...OFF, refused: (kind) => refused.push(kind) });
    for (let index = 0; index < 100; index++) await rates.codeAllowed('poll', 'a');
    for (let index = 0; index < 10; index++) {
      await rates.codeAllowed('poll', 'a');
      await rates.noteWrongCode('poll', 'a');
    }
    await expect(rates.codeAllowed('poll', 'a')).rejects.toThrow(/Too many wrong codes/);
    await rates.codeAllowed('other', 'a');
    await rates.codeAllowed('poll', 'b');
    expect(refused).toEqual(['codes']);
    vi.advanceTimersByTime(60_001);
    await rates.codeAllowed('poll', 'a');
  });
});

describe('shared in Redis', () => {
  let redis: RedisServer;
  const clients: Redis[] = [];
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(async () => {
    for (const client of clients) client.disconnect();
    await redis[Symbol.asyncDispose]();
  });

  const instance = async (limits: Partial<Parameters<typeof makeRateLimits>[0]>): Promise<RateLimits> => {
    const client = new Redis(redis.url, {
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      retryStrategy: () => 20,
    });
    client.on('error', () => {});
    clients.push(client);
    if (client.status !== 'ready') await new Promise((resolve) => client.once('ready', resolve));
    return makeRateLimits({ ...OFF, ...limits, shared: client });
  };

  test('two instances count together', async () => {
    const [one, two] = [await instance({ polls: 20 }), await instance({ polls: 20 })];
    const outcomes = [...(await many(15, () => one.createPoll('a'))), ...(await many(15, () => two.createPoll('a')))];
    expect(passed(outcomes)).toBe(20);
    expect(outcomes.filter((wait) => wait !== null).every((wait) => wait > 3_500_000)).toBe(true);
    expect(await outcome(two.createPoll('b'))).toBeNull();
  });

  test('wrong codes count together too', async () => {
    const [one, two] = [await instance({}), await instance({})];
    for (let index = 0; index < 5; index++) {
      await one.noteWrongCode('poll', 'a');
      await two.noteWrongCode('poll', 'a');
    }
    for (const rates of [one, two]) await expect(rates.codeAllowed('poll', 'a')).rejects.toThrow(/wrong codes/);
    await one.codeAllowed('poll', 'b');
  });

  /** The places of one process, with its own two connections to Redis. */
  async function placesOf(times?: RedisBusOptions['times']) {
    const parts = openRedisBus({ url: redis.url, clock: systemClock, log: silent, ...(times && { times }) });
    await eventually(() => parts.bus.connected, 'it is connected to Redis');
    const rates = makeRateLimits({ ...OFF, connections: 10, places: parts.places });
    const knows = (count: number) =>
      eventually(() => parts.places.total('connections:school') === count, `it knows of ${count}`);
    const close = async (): Promise<void> => {
      await Promise.all([parts.presence.close(), parts.places.close()]);
      await parts.bus.close();
    };
    return { ...rates, knows, close };
  }

  test('places count over all: those that are taken elsewhere are not given here, until they are left', async () => {
    const [one, two] = [await placesOf(), await placesOf()];
    for (let count = 0; count < 6; count++) one.connect('school');
    two.connect('school');
    await two.knows(7);
    for (let count = 0; count < 3; count++) two.connect('school');
    expect(() => two.connect('school')).toThrow(/At most 10 connections/);
    two.connect('another');
    await one.knows(10);
    expect(() => one.connect('school')).toThrow(/At most 10 connections/);
    one.disconnect('school');
    await two.knows(9);
    two.connect('school');
    await one.knows(10);
    // Who leaves all at once is not told of any more; the rest may be taken by anybody.
    for (let count = 0; count < 5; count++) one.disconnect('school');
    await two.knows(5);
    for (let count = 0; count < 5; count++) two.connect('school');
    expect(() => two.connect('school')).toThrow(RateLimitedError);
    await one.close();
    await two.close();
  });

  test('places of an instance that has stopped are free at once', async () => {
    const [one, two] = [await placesOf(), await placesOf()];
    for (let count = 0; count < 6; count++) one.connect('school');
    two.connect('school');
    await two.knows(7);
    await one.close();
    await two.knows(1);
    for (let count = 0; count < 9; count++) two.connect('school');
    expect(() => two.connect('school')).toThrow(RateLimitedError);
    await two.close();
  });

  test('M3 while Redis is away each gives its own places, and nobody is refused for what was heard before', async () => {
    const [one, two] = [await placesOf({ pulseMs: 200 }), await placesOf({ pulseMs: 200 })];
    for (let count = 0; count < 9; count++) one.connect('school');
    two.connect('school');
    await two.knows(10);
    expect(() => two.connect('school')).toThrow(RateLimitedError);
    await redis.kill();
    await two.knows(0);
    for (let count = 0; count < 9; count++) two.connect('school');
    expect(() => two.connect('school')).toThrow(RateLimitedError);
    await redis.restart();
    await two.knows(19);
    await one.knows(19);
    expect(() => one.connect('school')).toThrow(RateLimitedError);
    await one.close();
    await two.close();
  });

  test('M3 a Redis that is gone stops nobody: each instance counts for itself, and together again when it is back', async () => {
    const [one, two] = [await instance({ polls: 10 }), await instance({ polls: 10 })];
    await redis.kill();
    expect(passed(await many(15, () => one.createPoll('gone')))).toBe(10);
    expect(passed(await many(15, () => two.createPoll('gone')))).toBe(10);
    await one.noteWrongCode('poll', 'gone');
    await one.codeAllowed('poll', 'gone');
    await redis.restart();
    await eventually(() => clients.slice(-2).every(({ status }) => status === 'ready'), 'both are connected again');
    const outcomes = [
      ...(await many(8, () => one.createPoll('back'))),
      ...(await many(8, () => two.createPoll('back'))),
    ];
    expect(passed(outcomes)).toBe(10);
  });

  test('M3 a Redis that hangs stops nobody either', async () => {
    const rates = await instance({ polls: 10 });
    const held = new Redis(redis.url);
    clients.push(held);
    await held.call('CLIENT', 'PAUSE', '3000', 'ALL');
    expect(passed(await many(15, () => rates.createPoll('hung')))).toBe(10);
  });
});

const VIEWER = '{ viewer { isOrganizer } }';

describe('through the contract', () => {
  test('votes: RateLimitedError as data with the time to wait, and nothing was counted; other operations go on', async () => {
    await using server = await startServer({ VOTE_RATE_LIMIT: '5' });
    const poll = await createPoll(server.graphql, { allowVoteChange: true });
    const vote = () =>
      ask<{ __typename: string; message?: string; retryAfterMs?: number }>(
        server.graphql,
        `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on RateLimitedError { message retryAfterMs } } }`,
        { input: { pollId: poll.id, choiceIds: [poll.choiceIds[0]] } },
      );
    const answers = await Promise.all(Array.from({ length: 40 }, vote));
    const refused = answers.filter(({ __typename }) => __typename === 'RateLimitedError');
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]).toMatchObject({ message: expect.stringMatching(/Too many votes from your address/) });
    expect(refused.every(({ retryAfterMs }) => retryAfterMs !== undefined && retryAfterMs > 0)).toBe(true);
    expect((await results(server.graphql, poll.id)).ballotCount).toBe(answers.length - refused.length);
    // A batch and a vote taken back are counted with them.
    const batch = Array.from({ length: 500 }, (_, n) => ({ voterId: `v${n}`, choiceIds: [poll.choiceIds[0]] }));
    const castMany = () =>
      ask<{ __typename: string }>(
        server.graphql,
        'mutation ($input: CastVotesInput!) { castVotes(input: $input) { __typename } }',
        { input: { pollId: poll.id, ballots: batch } },
        poll.manage,
      );
    const names = (await Promise.all(Array.from({ length: 20 }, castMany))).map(({ __typename }) => __typename);
    expect(new Set(names)).toContain('RateLimitedError');
    const retract = () =>
      ask<{ __typename: string }>(
        server.graphql,
        `mutation { retractVote(input: { pollId: "${poll.id}" }) { __typename } }`,
      );
    const kinds = (await Promise.all(Array.from({ length: 40 }, retract))).map(({ __typename }) => __typename);
    expect(new Set(kinds)).toContain('RateLimitedError');
    expect(await manage(server.graphql, 'closePoll', poll)).toEqual({ __typename: 'ClosePollSuccess' });
  });

  test('new polls: by address, and for whoever is signed in by account', async () => {
    await using server = await startServer({ POLL_CREATION_LIMIT: '3', JWT_SECRET });
    const create = async (headers: Record<string, string> = {}) =>
      (
        await ask<{ __typename: string }>(
          server.graphql,
          'mutation { createPoll(input: { question: "q", choices: ["a", "b"] }) { __typename } }',
          {},
          headers,
        )
      ).__typename;
    const four = async (headers?: Record<string, string>) => {
      const names: string[] = [];
      for (let index = 0; index < 4; index++) names.push(await create(headers));
      return names;
    };
    const three = [...Array(3).fill('CreatePollSuccess'), 'RateLimitedError'];
    expect(await four()).toEqual(three);
    expect(await create({ authorization: 'Bearer pck_any' })).toBe('RateLimitedError');
    expect(await four(bearer(await token({ sub: 'ada' })))).toEqual(three);
    expect(await four(bearer(await token({ sub: 'bob' })))).toEqual(three);
  });

  test('behind a trusted proxy each client is counted by itself; before any other all count as one', async () => {
    const vote = async (server: TestServer, from: string, pollId: string, choiceId: string | undefined) =>
      (await castVote(server.graphql, { pollId, choiceIds: [choiceId] }, { 'x-forwarded-for': from })).__typename;
    const warnings: string[] = [];
    const log = { ...silent, warn: (_: object, message: string) => void warnings.push(message) };
    for (const [env, expected] of [
      [{ TRUSTED_PROXIES: '127.0.0.1' }, 'CastVoteSuccess'],
      [{}, 'RateLimitedError'],
    ] as const) {
      await using server = await startServer({ VOTE_RATE_LIMIT: '1', ...env }, { log });
      const poll = await createPoll(server.graphql);
      const names = await Promise.all(
        Array.from({ length: 30 }, (_, n) => vote(server, `198.51.100.${n}`, poll.id, poll.choiceIds[0])),
      );
      expect(new Set(names).has(expected)).toBe(true);
      if (expected === 'CastVoteSuccess') expect(new Set(names).size).toBe(1);
    }
    // Said once.
    expect(warnings.filter((message) => message.includes('TRUSTED_PROXIES'))).toHaveLength(1);
  });
});

describe('operations by their cost', () => {
  let server: TestServer;
  let pollId: string;
  beforeAll(async () => {
    server = await startServer({ OPERATION_COST_LIMIT: '100' });
    const poll = await createPoll(server.graphql);
    pollId = poll.id;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  /** As often as it takes; the last answer is the one that was refused. */
  async function untilRefused(send: () => Promise<Response>): Promise<Response> {
    for (let index = 0; index < 1_000; index++) {
      const response = await send();
      if (response.status === 429) return response;
      await response.arrayBuffer();
    }
    throw new Error('It was never refused.');
  }
  const post = (query: string, headers: Record<string, string> = {}) =>
    fetch(server.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ query }),
    });
  const fields = `{ ${'viewer { isOrganizer } '.repeat(20)} }`;

  test.each<[string, () => Promise<Response>]>([
    ['on the short way', () => post(fields)],
    ['on Yoga’s', () => post(fields, { 'content-type': 'application/graphql+json' })],
    ['by GET', () => fetch(`${server.graphql}?query=${encodeURIComponent(fields)}`)],
    ['one that is not in order', () => post('{ nope }')],
    ['one that is not in order, as events', () => post('{ nope }', { accept: 'text/event-stream' })],
    ['one with wrong variables', () => post('query ($id: ID!) { poll(id: $id) { id } }')],
    ['the schema', () => post('{ __schema { queryType { name } } }')],
    ['the page', () => fetch(server.graphql, { headers: { accept: 'text/html' } })],
    ['results over plain HTTP', () => fetch(`${server.url}/polls/${pollId}/results`)],
    [
      'subscriptions over SSE',
      () =>
        post(`subscription { pollResults(pollId: "none") ${'{ version '.padEnd(900, 'version ')} } }`, {
          accept: 'text/event-stream',
        }),
    ],
  ])('%s: 429 with Retry-After and the code RATE_LIMITED', async (_, send) => {
    const response = await untilRefused(send);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await response.json()).toMatchObject({
      errors: [
        {
          message: expect.stringMatching(/operations from your address/),
          extensions: { code: 'RATE_LIMITED', retryAfterMs: expect.any(Number) },
        },
      ],
    });
  });

  test('over WebSocket: an error of the operation, and the connection stays', async () => {
    const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
    const inbox = new Inbox<{ type: string; id: string; payload: Answer['errors'] }>();
    socket.on('message', (data) => inbox.push(JSON.parse(String(data))));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send('{"type":"connection_init"}');
    expect(await inbox.next()).toMatchObject({ type: 'connection_ack' });
    const send = (id: string, query: string) =>
      socket.send(JSON.stringify({ id, type: 'subscribe', payload: { query } }));
    for (let index = 0; index < 10; index++) send(`q${index}`, fields);
    for (;;) {
      const message = await inbox.next();
      if (message.type !== 'error') continue;
      expect(message.payload).toMatchObject([{ extensions: { code: 'RATE_LIMITED' } }]);
      break;
    }
    const vote = `mutation { castVote(input: { pollId: "${pollId}", choiceIds: [] }) { __typename } }`;
    send('vote', vote);
    for (;;) {
      const message = await inbox.next();
      if (message.id !== 'vote') continue;
      expect(message).toMatchObject({
        type: 'next',
        payload: { data: { castVote: { __typename: 'InvalidBallotError' } } },
      });
      break;
    }
    socket.terminate();
  });

  test('votes are not counted with them', async () => {
    await untilRefused(() => post(fields));
    const answer = await operate(
      server.graphql,
      `mutation { castVote(input: { pollId: "${pollId}", choiceIds: [] }) { __typename } }`,
    );
    expect(answer).toEqual({ data: { castVote: { __typename: 'InvalidBallotError' } } });
  });
});

describe('what stays open', () => {
  test('WebSockets, streams and long polls share the places of an address; who leaves makes room', async () => {
    await using server = await startServer({ CONNECTION_LIMIT: '3' });
    const poll = await createPoll(server.graphql);
    const wsUrl = server.graphql.replace('http', 'ws');
    const abort = new AbortController();
    const socket = new WebSocket(wsUrl, 'graphql-transport-ws');
    await new Promise((resolve) => socket.once('open', resolve));
    const stream = await fetch(`${server.url}/polls/${poll.id}/stream`, { signal: abort.signal });
    const wait = `query { pollResults(pollId: "${poll.id}", afterVersion: 1, waitMs: 30000) { version } }`;
    const waiting = fetch(server.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: wait }),
      signal: abort.signal,
    }).catch(() => null);
    await eventually(() => server.app.connections().watching === 2, 'the stream and the long poll are there');

    const refusedUpgrade = await new Promise((resolve) => {
      const another = new WebSocket(wsUrl, 'graphql-transport-ws');
      another.on('error', () => {});
      another.on('unexpected-response', (_, response) => resolve(response.statusCode));
      another.on('open', () => resolve(101));
    });
    expect(refusedUpgrade).toBe(429);
    const post = (query: string, accept: string, type = 'application/json') =>
      fetch(server.graphql, {
        method: 'POST',
        headers: { 'content-type': type, accept },
        body: JSON.stringify({ query }),
      });
    for (const refused of [
      await fetch(`${server.url}/polls/${poll.id}/stream`),
      await fetch(`${server.url}/polls/${poll.id}/results?afterVersion=1&waitMs=1000`),
      await post(`subscription { pollResults(pollId: "${poll.id}") { version } }`, 'text/event-stream'),
      await post(wait, 'application/json'),
      // Waits together with something else, or on Yoga's way.
      await post(wait.replace('}', '} viewer { isOrganizer }'), 'application/json'),
      await post(wait, 'application/json', 'application/graphql+json'),
    ]) {
      expect(refused.status).toBe(429);
      expect(await refused.json()).toMatchObject({
        errors: [{ message: expect.stringMatching(/At most 3 connections/), extensions: { code: 'RATE_LIMITED' } }],
      });
    }
    // What does not stay is not stopped.
    expect((await results(server.graphql, poll.id)).version).toBe(1);
    expect(await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).toMatchObject({
      __typename: 'CastVoteSuccess',
    });
    abort.abort();
    socket.terminate();
    await waiting;
    await stream.body?.cancel().catch(() => {});
    await eventually(async () => {
      const again = await fetch(`${server.url}/polls/${poll.id}/results?afterVersion=2&waitMs=1`);
      await again.arrayBuffer();
      return again.status === 304;
    }, 'there is room again');
    expect(await ask(server.graphql, VIEWER)).toEqual({ isOrganizer: false });
  });

  test('long polls that wait behind each other on one connection give their places back with it', async () => {
    await using server = await startServer({ CONNECTION_LIMIT: '3' });
    const poll = await createPoll(server.graphql);
    const { hostname, port } = new URL(server.url);
    const wait = `GET /polls/${poll.id}/results?afterVersion=1&waitMs=30000 HTTP/1.1\r\nhost: x\r\n\r\n`;
    for (let time = 0; time < 3; time++) {
      const socket = connect(Number(port), hostname);
      socket.write(wait.repeat(3));
      await eventually(() => server.app.connections().waiting === 3, 'they wait');
      socket.destroy();
      await eventually(() => server.app.connections().waiting === 0, 'they have left');
    }
    // In turn, and with what comes after them.
    const socket = connect(Number(port), hostname);
    let text = '';
    socket.setEncoding('utf8').on('data', (piece) => (text += piece));
    socket.write(wait.replace('30000', '20').repeat(3));
    await eventually(() => text.split('HTTP/1.1 304 ').length === 4, 'all are answered');
    socket.write(wait.replace('30000', '20'));
    await eventually(() => text.split('HTTP/1.1 304 ').length === 5, 'the next one too');
    socket.destroy();
  });
});
