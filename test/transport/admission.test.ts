/** Rules A1 to A4: what one request is charged, and how many places it takes, on every transport. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createPoll, results, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';

/** Costs two points. */
const MISSING_VARIABLE = 'query ($id: ID!) { poll(id: $id) { id } }';
const WAITING = 'query ($id: ID!) { pollResults(pollId: $id, afterVersion: 1, waitMs: 5) { version } }';

type Variables = Record<string, unknown>;
type Ask = (server: TestServer, query: string, variables?: Variables) => Promise<string>;

const post =
  (headers: Record<string, string>): Ask =>
  async ({ graphql }, query, variables = {}) => {
    const body = headers['content-type'] === 'application/graphql' ? query : JSON.stringify({ query, variables });
    return (await fetch(graphql, { method: 'POST', headers, body })).text();
  };

const get =
  (accept: string): Ask =>
  async ({ graphql }, query, variables = {}) => {
    const params = new URLSearchParams({ query, variables: JSON.stringify(variables) });
    return (await fetch(`${graphql}?${params}`, { headers: { accept } })).text();
  };

const overSocket: Ask = ({ graphql }, query, variables = {}) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    socket.on('message', (data) => {
      const text = data.toString();
      if (text.includes('connection_ack')) {
        socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query, variables } }));
        return;
      }
      resolve(text);
      socket.close();
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed without an answer')));
  });

const TRANSPORTS: [string, Ask][] = [
  ['POST', post({ 'content-type': 'application/json' })],
  ['POST that Yoga answers', post({ 'content-type': 'application/graphql+json' })],
  ['POST of a document', post({ 'content-type': 'application/graphql' })],
  ['POST for an event stream', post({ 'content-type': 'application/json', accept: 'text/event-stream' })],
  ['GET', get('application/json')],
  ['GET for an event stream', get('text/event-stream')],
  ['WebSocket', overSocket],
];

describe('A1 A4 a request is charged once', () => {
  let server: TestServer;
  // A limit of n admits a charge of n in a new window only: a second charge would be refused.
  beforeAll(async () => {
    server = await startServer({ OPERATION_COST_LIMIT: '2' });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each(TRANSPORTS)('over %s', async (_, ask) => {
    // The window of the test before may still be open, so ask until the address is admitted.
    await expect.poll(() => ask(server, MISSING_VARIABLE), { timeout: 10_000, interval: 300 }).toContain('$id');
  });

  test.each(TRANSPORTS)('and not for nothing, over %s', async (_, ask) => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(server, MISSING_VARIABLE)));
    expect(answers.filter((answer) => answer.includes('RATE_LIMITED')).length).toBeGreaterThan(0);
  });

  test('also a mutation with a missing variable, which no resolver charges', async () => {
    const mutation = 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }';
    for (const [name, ask] of TRANSPORTS.filter(([transport]) => !transport.startsWith('GET'))) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(server, mutation)));
      expect(answers.filter((answer) => answer.includes('RATE_LIMITED')).length, name).toBeGreaterThan(0);
    }
  });
});

describe('A2 A4 a request takes at most one place', () => {
  let server: TestServer;
  let poll: TestPoll;
  beforeAll(async () => {
    server = await startServer({ CONNECTION_LIMIT: '1' });
    poll = await createPoll(server.graphql);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each(TRANSPORTS)('over %s', async (_, ask) => {
    // A place is released after the answer: ask until the last request has ended.
    await expect.poll(() => ask(server, WAITING), { timeout: 10_000, interval: 50 }).toContain('$id');
  });

  test.each(TRANSPORTS.filter(([name]) => !name.includes('document')))('and gives it back, over %s', async (_, ask) => {
    for (let n = 0; n < 3; n++) {
      await expect
        .poll(() => ask(server, WAITING, { id: poll.id }), { timeout: 10_000, interval: 50 })
        .toContain('"version":1');
    }
  });
});

describe('A3 what is refused has run nothing', () => {
  test('a mutation without a place in the budget of its kind leaves no ballot', async () => {
    await using server = await startServer({ VOTE_RATE_LIMIT: '1' });
    const poll = await createPoll(server.graphql);
    const mutation =
      'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on Error { message } } }';
    const input = { pollId: poll.id, choiceIds: [poll.choiceIds[0]] };
    let counted = 0;
    for (const [, ask] of TRANSPORTS.filter(([name]) => !name.startsWith('GET') && !name.includes('document'))) {
      const answers = await Promise.all(Array.from({ length: 10 }, () => ask(server, mutation, { input })));
      const refused = answers.filter((answer) => answer.includes('RateLimitedError')).length;
      expect(refused).toBeGreaterThan(0);
      const recorded = answers.filter((answer) => answer.includes('CastVoteSuccess')).length;
      expect(recorded + refused).toBe(10);
      counted += recorded;
    }
    expect(await results(server.graphql, poll.id)).toMatchObject({ ballotCount: counted });
  });
});

describe('malformed URL parameters', () => {
  let server: TestServer;
  let logged: string[];
  beforeAll(async () => {
    logged = [];
    const quiet = (): void => {};
    const note = (_: object, message: string): void => void logged.push(message);
    server = await startServer({}, { log: { debug: quiet, info: quiet, warn: note, error: note } });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each(['application/json', 'text/event-stream', 'text/html', '*/*'])(
    'are named with 400 for %s',
    async (accept) => {
      for (const name of ['variables', 'extensions']) {
        for (const value of ['{', '[]', '1', '"x"', 'undefined', '{"a":}']) {
          const params = new URLSearchParams({ query: '{ __typename }', [name]: value });
          const response = await fetch(`${server.graphql}?${params}`, { headers: { accept } });
          expect([response.status, await response.text()], value).toEqual([
            400,
            JSON.stringify({ errors: [{ message: `${name}: must be a JSON object.` }] }),
          ]);
        }
      }
      expect(logged).toEqual([]);
    },
  );

  test('an empty operationName is none', async () => {
    for (const accept of ['application/json', 'text/event-stream']) {
      const answer = await get(accept)(server, 'query Named { viewer { isOrganizer } }');
      const params = new URLSearchParams({ query: 'query Named { viewer { isOrganizer } }', operationName: '' });
      const response = await fetch(`${server.graphql}?${params}`, { headers: { accept } });
      expect(await response.text()).toBe(answer);
      expect(answer).toContain('"isOrganizer":false');
    }
  });
});
