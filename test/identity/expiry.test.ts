/** A token that expires ends what is live in its name, in words that a client can go on from; nothing is lost. */
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { castVote, createPoll, type TestPoll } from '../support/api.ts';
import { type MovableClock, movableClock } from '../support/movableClock.ts';
import { eventually, Inbox } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { bearer, JWT_SECRET, startIssuer, token } from '../support/tokens.ts';

const HOUR_MS = 3_600_000;

let time: MovableClock;
let server: TestServer;
let poll: TestPoll;
beforeAll(async () => {
  time = movableClock();
  server = await startServer({ JWT_SECRET }, { clock: time.clock });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Good until `ms` milliseconds from now, on the clock of the server. */
const goodFor = async (ms: number): Promise<string> => {
  const exp = Math.floor((time.clock.now() + ms) / 1_000);
  return (await token({ exp })) as string;
};
const vote = () => castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
const watching = (count: number) => eventually(() => server.app.connections().watching === count, `${count} watch`);

test('L2 L3 over WebSocket: closed with 4403, and the client of graphql-ws goes on with a new token and misses nothing', async () => {
  poll = await createPoll(server.graphql);
  const seen = new Inbox<number>();
  const closes: unknown[] = [];
  let version: number | undefined;
  let tokens = 0;
  const client = createClient({
    url: server.graphql.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    retryWait: async () => {},
    connectionParams: async () => {
      tokens++;
      return { authorization: `Bearer ${await goodFor(HOUR_MS)}` };
    },
    on: { closed: (event) => closes.push(event) },
  });
  const subscribe = (): void => {
    client.subscribe<{ pollResults: { version: number } }>(
      {
        query: 'subscription ($id: ID!, $after: Int) { pollResults(pollId: $id, afterVersion: $after) { version } }',
        variables: { id: poll.id, after: version },
      },
      {
        next: ({ data }) => {
          version = data?.pollResults.version;
          seen.push(version ?? -1);
        },
        error: () => {},
        complete: () => {},
      },
    );
  };
  subscribe();
  expect(await seen.next()).toBe(1);
  time.pass(HOUR_MS + 10_000);
  await eventually(() => closes.length === 1, 'the connection was closed');
  expect(closes[0]).toMatchObject({ code: 4403, reason: 'Token expired' });
  await vote();
  // graphql-ws subscribes again with what it was given: the current results come at once.
  expect(await seen.next()).toBe(2);
  await vote();
  expect(await seen.next()).toBe(3);
  expect(tokens).toBe(2);
  await client.dispose();
  await watching(0);
});

test('over WebSocket: a vote that arrives while the connection is being closed is not cast', async () => {
  poll = await createPoll(server.graphql, { voterIdentity: 'ACCOUNT' });
  const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
  const inbox = new Inbox<{ type: string }>();
  socket.on('message', (data) => inbox.push(JSON.parse(String(data))));
  await new Promise((resolve) => socket.once('open', resolve));
  socket.send(
    JSON.stringify({ type: 'connection_init', payload: { authorization: `Bearer ${await goodFor(HOUR_MS)}` } }),
  );
  expect(await inbox.next()).toMatchObject({ type: 'connection_ack' });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  time.pass(HOUR_MS + 10_000);
  // The close frame has not been read yet: this side still believes that it is open.
  const query = `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename } }`;
  socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
  expect(await closed).toBe(4403);
  const { ballotCount } = await (await fetch(`${server.url}/polls/${poll.id}/results`)).json();
  expect(ballotCount).toBe(0);
});

test('over WebSocket: a token that does not count is told so by each operation', async () => {
  const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
  const inbox = new Inbox<{ type: string }>();
  socket.on('message', (data) => inbox.push(JSON.parse(String(data))));
  await new Promise((resolve) => socket.once('open', resolve));
  poll = await createPoll(server.graphql);
  const say = (message: object) => socket.send(JSON.stringify(message));
  say({ type: 'connection_init', payload: { authorization: `Bearer ${await goodFor(-HOUR_MS)}` } });
  expect(await inbox.next()).toMatchObject({ type: 'connection_ack' });
  const errors = [{ message: expect.stringContaining('expired'), extensions: { code: 'UNAUTHENTICATED' } }];
  say({ id: 'q', type: 'subscribe', payload: { query: '{ viewer { isOrganizer } }' } });
  expect(await inbox.next()).toEqual({ id: 'q', type: 'next', payload: { errors } });
  expect(await inbox.next()).toMatchObject({ id: 'q', type: 'complete' });
  say({ id: 's', type: 'subscribe', payload: { query: `subscription { pollChanged(pollId: "${poll.id}") { id } }` } });
  expect(await inbox.next()).toEqual({ id: 's', type: 'error', payload: errors });
  say({
    id: 'm',
    type: 'subscribe',
    payload: {
      query: `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename } }`,
    },
  });
  expect(await inbox.next()).toMatchObject({ payload: { data: { castVote: { __typename: 'NotAllowedError' } } } });
  socket.terminate();
});

test('over WebSocket: where accounts cannot be checked, closed with 1013, try again later', async () => {
  await using issuer = await startIssuer();
  await issuer.rotate('one');
  issuer.fail = { status: 500, body: '' };
  await using own = await startServer({ JWKS_URL: issuer.url, LOG_LEVEL: 'silent' });
  const socket = new WebSocket(own.graphql.replace('http', 'ws'), 'graphql-transport-ws');
  await new Promise((resolve) => socket.once('open', resolve));
  const closed = new Promise((resolve) => socket.once('close', (code, reason) => resolve([code, String(reason)])));
  socket.send(
    JSON.stringify({ type: 'connection_init', payload: { authorization: `Bearer ${await issuer.token('one')}` } }),
  );
  expect(await closed).toEqual([1013, expect.stringContaining('cannot be checked now')]);
});

/** The events of a stream as they come; `null` where it ends. */
async function eventsOf(url: string, init: RequestInit): Promise<Inbox<string | null>> {
  const inbox = new Inbox<string | null>();
  const response = await fetch(url, init);
  expect(response.status).toBe(200);
  void (async () => {
    let text = '';
    for await (const piece of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += piece;
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const event = text.slice(0, end);
        text = text.slice(end + 2);
        if (/^event: /m.test(event)) inbox.push(event);
      }
    }
    inbox.push(null);
  })();
  return inbox;
}

test('L2 over SSE: an UNAUTHENTICATED error and the end; the version resumes with a new token', async () => {
  poll = await createPoll(server.graphql);
  const open = async (lastEventId?: string) =>
    eventsOf(server.graphql, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
        ...bearer(await goodFor(HOUR_MS)),
      },
      body: JSON.stringify({ query: `subscription { pollResults(pollId: "${poll.id}") { version } }` }),
    });
  const stream = await open();
  expect(await stream.next()).toMatch(/"version":1/);
  time.pass(HOUR_MS + 10_000);
  expect(await stream.next()).toMatch(/^event: next\ndata: \{"errors":\[\{.*expired.*UNAUTHENTICATED/);
  expect(await stream.next()).toMatch(/^event: complete/);
  expect(await stream.next()).toBeNull();
  await watching(0);
  await vote();
  const again = await open('1');
  expect(await again.next()).toMatch(/^id: 2\nevent: next\n.*"version":2/);
  time.pass(2 * HOUR_MS);
  await watching(0);
});

test('L2 over plain SSE: an event of its own and the end', async () => {
  poll = await createPoll(server.graphql);
  const url = `${server.url}/polls/${poll.id}/stream`;
  const stream = await eventsOf(url, { headers: bearer(await goodFor(HOUR_MS)) });
  expect(await stream.next()).toMatch(/^id: 1\nevent: results/);
  time.pass(HOUR_MS + 10_000);
  expect(await stream.next()).toMatch(/^event: expired\ndata: \{"errors":\[\{.*UNAUTHENTICATED/);
  expect(await stream.next()).toBeNull();
  await vote();
  const again = await eventsOf(url, { headers: { 'last-event-id': '1', ...bearer(await goodFor(HOUR_MS)) } });
  expect(await again.next()).toMatch(/^id: 2\nevent: results/);
  time.pass(2 * HOUR_MS);
  await watching(0);
});

test('a long poll waits no longer than its token counts', async () => {
  poll = await createPoll(server.graphql);
  const headers = bearer(await goodFor(HOUR_MS));
  time.pass(HOUR_MS - 1_000);
  const waiting = fetch(`${server.url}/polls/${poll.id}/results?afterVersion=1&waitMs=30000`, { headers });
  await watching(1);
  // Six seconds later it has expired; the wait had twenty-four more to go.
  time.pass(6_500);
  expect((await waiting).status).toBe(304);
  expect((await fetch(`${server.url}/polls/${poll.id}/results`, { headers })).status).toBe(401);
});
