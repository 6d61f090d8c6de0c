/** What the fuzz has found, one by one. */
import { Agent, request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { Log } from '../../src/ports/log.ts';
import { castVote, createPoll, operate, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';

const CREATE = `mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename
  ... on CreatePollSuccess { poll { opensAt closesAt } } ... on Error { message } } }`;

describe('found by the fuzz', () => {
  const errors: string[] = [];
  const quiet = (): void => {};
  const log: Log = { debug: quiet, info: quiet, warn: quiet, error: (_, message) => void errors.push(message) };
  let server: TestServer;
  let poll: TestPoll;
  beforeAll(async () => {
    server = await startServer({}, { log });
    poll = await createPoll(server.graphql);
  });
  afterAll(async () => {
    expect(errors).toEqual([]);
    await server[Symbol.asyncDispose]();
  });

  const REFUSED = 'The root field of a subscription takes no @skip and no @include.';
  const CONDITIONAL = [
    'subscription ($id: ID!, $on: Boolean!) { pollChanged(pollId: $id) @include(if: $on) { id } }',
    'subscription ($id: ID!) { pollChanged(pollId: $id) @include(if: false) { id } }',
    'subscription ($id: ID!, $on: Boolean!) { ... @skip(if: $on) { pollChanged(pollId: $id) { id } } }',
    'subscription ($id: ID!, $on: Boolean!) { ...F } fragment F on Subscription { pollChanged(pollId: $id) @skip(if: $on) { id } }',
  ];

  // graphql's own validation throws at the variable: it took the process down.
  test.each(CONDITIONAL)(
    'a condition at the root of a subscription is refused, and the server stays: %s',
    async (query) => {
      const variables = { id: poll.id, on: true };
      expect((await operate(server.graphql, query, variables)).errors).toMatchObject([{ message: REFUSED }]);
      const events = await fetch(server.graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({ query, variables }),
      });
      expect(await events.text()).toContain(REFUSED);

      const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
      const said = await new Promise<string>((resolve, reject) => {
        socket.on('open', () => socket.send('{"type":"connection_init"}'));
        socket.on('close', (code, reason) => reject(new Error(`closed: ${code} ${reason}`)));
        socket.on('message', (data) => {
          const text = String(data);
          if (text.includes('connection_ack')) {
            socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query, variables } }));
          } else resolve(text);
        });
      });
      expect(JSON.parse(said)).toMatchObject({ type: 'error', payload: [{ message: REFUSED }] });
      socket.removeAllListeners('close').close();
    },
  );

  test('conditions below the root of a subscription are as ever', async () => {
    const query =
      'subscription ($id: ID!, $on: Boolean!) { pollChanged(pollId: $id) { id @include(if: $on) question @skip(if: $on) } }';
    const { errors } = await operate(server.graphql, query, { id: poll.id, on: true });
    expect(errors?.[0]?.message).toMatch(/A subscription needs/);
  });

  test.each(['//', '///polls', '//[', '/\\'])('a path that is no URL (%s) is not found', async (path) => {
    const { hostname, port } = new URL(server.url);
    const status = await new Promise((resolve, reject) => {
      request({ hostname, port, path }, (answer) => resolve(answer.resume().statusCode))
        .on('error', reject)
        .end();
    });
    expect(status).toBe(404);
  });

  test.each([
    '0000-01-01T00:00:00Z',
    '0099-01-01T00:00:00Z',
    '1970-01-01T00:00:00+14:00',
    '9999-12-31T23:59:59.999-14:00',
  ])('an instant outside the years 1970 to 9999 of UTC (%s) is refused', async (opensAt) => {
    const answer = await operate(server.graphql, CREATE, { input: { question: 'q', choices: ['a', 'b'], opensAt } });
    expect(answer.errors?.[0]?.message).toMatch(/DateTime: must lie in the years 1970 to 9999/);
  });

  test.each(['1970-01-01T00:00:00Z', '9999-12-31T23:59:59.999Z'])(
    'the first and the last instant (%s) are kept',
    async (at) => {
      const times = at.startsWith('1') ? { opensAt: at } : { closesAt: at };
      const answer = await operate(server.graphql, CREATE, { input: { question: 'q', choices: ['a', 'b'], ...times } });
      expect(answer.data?.createPoll).toMatchObject({ __typename: 'CreatePollSuccess' });
      expect(JSON.stringify(answer.data)).toContain(new Date(at).toISOString());
    },
  );

  test.each(['A\0BCDE', '\ud800BCDEF', '\0'])('a join code or an id that is no text (%j) is nobody’s', async (text) => {
    const query =
      'query ($text: String, $id: ID!) { a: poll(joinCode: $text) { id } b: poll(id: $id) { id } c: pollResults(pollId: $id) { version } }';
    expect(await operate(server.graphql, query, { text, id: text })).toEqual({ data: { a: null, b: null, c: null } });
    expect(await castVote(server.graphql, { pollId: text, choiceIds: [] })).toMatchObject({
      __typename: 'NotFoundError',
    });
  });

  test.each(['application/JSON', 'Application/Json; Charset=UTF-8'])('%s is application/json', async (type) => {
    for (const [body, status] of [
      ['{"query":"{ viewer { isOrganizer } }"}', 200],
      ['{', 400],
    ] as const) {
      const answer = await fetch(server.graphql, { method: 'POST', headers: { 'content-type': type }, body });
      expect(answer.status).toBe(status);
      expect(await answer.json()).toHaveProperty(status === 200 ? 'data' : 'errors');
    }
  });

  test('nothing follows the head of a stream that a HEAD asks for, and the connection stays in order', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const { hostname, port } = new URL(server.url);
    const status = (method: string, path: string) =>
      new Promise((resolve, reject) => {
        const asked = request({ hostname, port, agent, method, path }, (answer) => {
          answer.resume().on('end', () => resolve(answer.statusCode));
        });
        asked.on('error', reject).end();
      });
    expect(await status('HEAD', `/polls/${poll.id}/stream`)).toBe(200);
    expect(await status('HEAD', `/polls/${poll.id}/results`)).toBe(200);
    expect(await status('GET', '/healthz')).toBe(200);
    agent.destroy();
  });

  test('a cursor from beyond the years is not one of the list', async () => {
    const after = Buffer.from('999999999999999 abc').toString('base64url');
    const { errors } = await operate(
      server.graphql,
      'query ($after: String) { polls(after: $after) { edges { cursor } } }',
      { after },
      poll.manage,
    );
    expect(errors).toMatchObject([{ extensions: { code: 'INVALID_INPUT' } }]);
  });
});
