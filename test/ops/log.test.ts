/** Log lines name the request or the connection, and never hold a secret. */
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { secretsIn } from '../../src/config/redact.ts';
import { castVote, createPoll, manage, newVoter, operate } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { startRelay } from '../support/relay.ts';
import { spawnServer, startServer } from '../support/server.ts';

interface Line {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

function collect() {
  const lines: Line[] = [];
  const at = (level: string) => (fields: object, message: string) => void lines.push({ ...fields, level, message });
  return { lines, log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') } };
}

const UUID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/;

describe('ids', () => {
  test('an id that the request brings is taken over, a bad one is replaced, none is made where nobody asks', async () => {
    await using server = await startServer();
    const idOf = async (id?: string, path = '/healthz') => {
      const response = await fetch(`${server.url}${path}`, id === undefined ? {} : { headers: { 'x-request-id': id } });
      await response.arrayBuffer();
      return response.headers.get('x-request-id');
    };
    expect(await idOf()).toBeNull();
    expect(await idOf('a')).toBe('a');
    expect(await idOf(`Az-09_.${'x'.repeat(57)}`)).toBe(`Az-09_.${'x'.repeat(57)}`);
    for (const bad of ['x'.repeat(65), 'two words', '{"a":1}', 'ü', ' ']) expect(await idOf(bad)).toMatch(UUID);
    // On each way to an answer.
    for (const path of [
      '/nothing',
      '/metrics',
      '/readyz',
      '/polls/x/results',
      '/polls/x/stream',
      '/graphql?query={x}',
    ]) {
      expect(await idOf('mine', path)).toBe('mine');
    }
    const { headers } = await fetch(server.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': 'mine' },
      body: '{"query":"{ viewer { isOrganizer } }"}',
    });
    expect(headers.get('x-request-id')).toBe('mine');
  });

  test('a fault is logged with its number and the request or connection it came from', async () => {
    const { lines, log } = collect();
    await using server = await startServer({}, { log });
    Object.assign(server.app.store, { findPollId: () => Promise.reject(new Error('in a bad mood')) });
    const query = '{ poll(joinCode: "XXXXXX") { id } }';
    const ask = (headers: Record<string, string>, path = '') =>
      fetch(server.graphql + path, {
        method: path === '' ? 'POST' : 'GET',
        headers: { 'content-type': 'application/json', ...headers },
        ...(path === '' ? { body: JSON.stringify({ query }) } : {}),
      });
    const faults = () => lines.filter(({ message }) => message === 'an operation failed');
    for (const [index, response] of [
      await ask({ 'x-request-id': 'mine' }),
      await ask({}),
      await ask({}, `?query=${encodeURIComponent(query)}`),
    ].entries()) {
      const { errors }: { errors: { extensions: { id: string } }[] } = await response.json();
      const requestId = response.headers.get('x-request-id');
      expect(requestId).toMatch(index === 0 ? /^mine$/ : UUID);
      expect(faults()[index]).toMatchObject({ id: errors[0]?.extensions.id, requestId, level: 'error' });
    }
    expect(faults()).toHaveLength(3);
    for (const [id, expected] of [
      ['line.7', /^line\.7$/],
      ['line 7', UUID],
    ] as const) {
      const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws', {
        headers: { 'x-request-id': id },
      });
      const heard = (type: string) =>
        new Promise<void>((resolve) =>
          socket.on('message', (data) => {
            if (JSON.parse(String(data)).type === type) resolve();
          }),
        );
      await new Promise((resolve) => socket.once('open', resolve));
      socket.send('{"type":"connection_init"}');
      await heard('connection_ack');
      socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
      await heard('next');
      expect(faults().at(-1)?.connectionId).toMatch(expected);
      socket.close();
    }
    expect(faults()).toHaveLength(5);
  });

  test('at debug, a line for each request without what stands behind the question mark, and for each WebSocket', async () => {
    const { lines, log } = collect();
    await using server = await startServer({ LOG_LEVEL: 'debug' }, { log });
    const response = await fetch(`${server.url}/polls/abc/results?key=hidden`, { headers: { 'x-request-id': 'mine' } });
    expect(response.status).toBe(404);
    const poll = await createPoll(server.graphql);
    await eventually(() => lines.length === 2, 'two lines');
    expect(lines).toEqual([
      {
        level: 'debug',
        message: 'a request',
        requestId: 'mine',
        method: 'GET',
        path: '/polls/abc/results',
        status: 404,
        ms: expect.any(Number),
      },
      expect.objectContaining({
        requestId: expect.stringMatching(UUID),
        method: 'POST',
        path: '/graphql',
        status: 200,
      }),
    ]);
    const watching = await overWebSocket(server.graphql, { pollId: poll.id });
    await watching.next();
    await watching[Symbol.asyncDispose]();
    await eventually(() => lines.length === 4, 'two lines more');
    const connectionId = lines[2]?.connectionId;
    expect(lines.slice(2)).toMatchObject([
      { message: 'a WebSocket opened', connectionId: expect.stringMatching(UUID) },
      { message: 'a WebSocket closed', connectionId, closeCode: 1006 },
    ]);
  });
});

describe('secrets', () => {
  test('of the environment: what is a password, and what is long enough to be searched for', () => {
    expect(
      secretsIn({
        SECRET: 'a secret',
        JWT_SECRET: '',
        DATABASE_URL: 'postgres://me:p%40ss%20word@h/x',
        REDIS_URL: 'rediss://:other-word@h:6379',
      }),
    ).toEqual(['a secret', 'p%40ss%20word', 'p@ss word', 'other-word']);
    expect(secretsIn({ DATABASE_URL: 'postgres://me:1@h/x', REDIS_URL: 'redis://h' })).toEqual([]);
  });

  test('none is in any line at trace, whatever is asked and whatever breaks', async () => {
    await using database = await freshDatabase();
    await using relay = await startRelay(database.url);
    const url = new URL(relay.url);
    url.password = 'p%C3%A4ssw0rd-of-the-database';
    const SECRET = 'the secret that signs everything';
    await using server = await spawnServer({ DATABASE_URL: url.href, SECRET, LOG_LEVEL: 'trace' });
    const graphql = `${server.url}/graphql`;
    const secrets = [
      SECRET,
      'ssw0rd-of-the-database',
      'ABCDEF-the-code',
      'sesame-the-cookie',
      'eyJhbGciOi.eyJzdWIi.c2ln',
    ];

    // All kinds of requests, with all kinds of credentials.
    const poll = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    secrets.push(poll.organizerKey, voterToken);
    const vote = { pollId: poll.id, choiceIds: [poll.choiceIds[0]] };
    await castVote(graphql, { ...vote, voterToken });
    await castVote(graphql, vote, { 'pollcast-voter': voterToken });
    await castVote(graphql, vote, { cookie: `pollcast_voter=${voterToken}; session=sesame-the-cookie` });
    await castVote(graphql, { ...vote, voterToken: `${voterToken}x` });
    await castVote(graphql, vote, { authorization: 'Bearer eyJhbGciOi.eyJzdWIi.c2ln' });
    const inUrl = `{ viewer(organizerKey: "${poll.organizerKey}", code: "ABCDEF-the-code") { isOrganizer } }`;
    await fetch(`${graphql}?query=${encodeURIComponent(inUrl)}&token=${voterToken}`);
    await operate(graphql, inUrl, { voterToken, code: 'ABCDEF-the-code' }, poll.manage);
    await operate(
      graphql,
      `mutation { castVote(input: { pollId: "x", choiceIds: [], code: "ABCDEF-the-code" }) { __typename } }`,
    );
    await fetch(`${server.url}/polls/${poll.id}/results?key=${poll.organizerKey}`, { headers: poll.manage });
    await fetch(graphql, {
      method: 'POST',
      body: `nonsense ${poll.organizerKey}`,
      headers: { 'content-type': 'application/json' },
    });
    const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws', {
      headers: { cookie: `pollcast_voter=${voterToken}`, 'x-request-id': poll.organizerKey },
    });
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(JSON.stringify({ type: 'connection_init', payload: { ...poll.manage, voterToken } }));
    socket.send(`nonsense ${poll.organizerKey}`);
    await new Promise((resolve) => socket.once('close', resolve));
    await using watching = await overWebSocket(graphql, { pollId: poll.id });
    await using streaming = await overEvents(graphql, { pollId: poll.id });
    await Promise.all([watching.next(), streaming.next()]);

    // A fault of ours in the middle of it: statements fail, with their parameters in the driver's words.
    const admin = postgres(database.url, { max: 1, onnotice: () => {} });
    await admin`alter table ballots rename to elsewhere`;
    expect(
      (
        await operate(graphql, `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }`, {
          input: { ...vote, voterToken },
        })
      ).errors?.[0]?.message,
    ).toMatch(/report the number/);
    await admin`alter table polls rename to somewhere`;
    expect((await operate(graphql, '{ poll(joinCode: "ABCDEF") { id } }')).errors?.[0]?.message).toMatch(
      /report the number/,
    );
    expect(
      (await operate(graphql, '{ polls { edges { node { id } } } }', {}, poll.manage)).errors?.[0]?.message,
    ).toMatch(/report the number/);
    await admin`alter table elsewhere rename to ballots`;
    await admin`alter table somewhere rename to polls`;
    await admin.end();
    await manage(graphql, 'closePoll', poll);

    // And the database goes away.
    relay.hang();
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    await relay[Symbol.asyncDispose]();
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    await castVote(graphql, vote).catch(() => {});
    expect((await server.end('SIGTERM')).code).toBe(0);

    const output = server.output();
    for (const secret of secrets) expect(output).not.toContain(secret);
    expect(output).not.toMatch(/pck_|v1\.[\w-]{22}|eyJ|Bearer [^*]/);
    // They were there to be seen: lines of requests, faults and of what is missing.
    for (const said of [
      '"a request"',
      '"an operation failed"',
      'Failed query: ',
      'params: ***',
      '"a dependency is missing"',
      '"a WebSocket closed"',
    ]) {
      expect(output).toContain(said);
    }
    for (const line of output.split('\n').filter((each) => each.startsWith('{'))) JSON.parse(line);
  }, 60_000);
});
