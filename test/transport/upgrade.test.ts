/** Requests with an `Upgrade` header: other protocols are ignored, WebSocket handshakes are checked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createPoll, results, type TestPoll } from '../support/api.ts';
import { openRaw, rawRequest, statusCodes } from '../support/raw-connection.ts';
import { startServer, type TestServer } from '../support/server.ts';

const H2C = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQAAP__' };
const JSON_TYPE = { 'content-type': 'application/json' };
const WEBSOCKET = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-version': '13',
  'sec-websocket-protocol': 'graphql-transport-ws',
};

let server: TestServer;
let poll: TestPoll;
const logged: object[] = [];
const note = (fields: object, message: string): void => void logged.push({ ...fields, message });
beforeAll(async () => {
  server = await startServer({}, { log: { debug: note, info: note, warn: note, error: note } });
  poll = await createPoll(server.graphql);
});
afterAll(() => server[Symbol.asyncDispose]());

function query(padding = 0): string {
  return JSON.stringify({ query: `{ __typename } #${'x'.repeat(padding)}` });
}

describe('H1 the server ignores an upgrade to h2c', () => {
  test.each([0, 15_000])('should answer a POST with its body and %i bytes more', async (padding) => {
    using connection = await openRaw(server.url);
    connection.socket.write(rawRequest('POST /graphql', { ...H2C, ...JSON_TYPE }, query(padding)));
    const text = await connection.until(/"Query"\}\}/);
    expect(statusCodes(text)).toEqual([200]);
    expect(text).not.toMatch(/connection: close/i);
  });

  test('should read a body that arrives after the head', async () => {
    using connection = await openRaw(server.url);
    const request = rawRequest('POST /graphql', { ...H2C, ...JSON_TYPE }, query());
    connection.socket.write(request.slice(0, -query().length));
    await new Promise(setImmediate);
    for (const byte of query()) connection.socket.write(byte);
    expect(statusCodes(await connection.until(/"Query"\}\}/))).toEqual([200]);
  });

  test('should answer requests without an event stream, and each request of a connection', async () => {
    using connection = await openRaw(server.url);
    const paths = ['/healthz', `/polls/${poll.id}/results`, '/nothing', '/graphql?query={__typename}', '/healthz'];
    for (const [index, path] of paths.entries()) {
      connection.socket.write(rawRequest(`GET ${path}`, H2C));
      await connection.untilCount('\r\n\r\n{', index + 1);
    }
    expect(statusCodes(connection.text())).toEqual([200, 200, 404, 200, 200]);
  });

  test('should answer many requests on one connection without adding listeners', async () => {
    const warnings: Error[] = [];
    const keep = (warning: Error): void => void warnings.push(warning);
    process.on('warning', keep);
    using connection = await openRaw(server.url);
    for (let count = 1; count <= 40; count++) {
      connection.socket.write(rawRequest('POST /graphql', { ...H2C, ...JSON_TYPE }, query()));
      await connection.untilCount('"Query"}}', count);
    }
    await new Promise(setImmediate);
    process.off('warning', keep);
    expect(warnings).toEqual([]);
  });

  test('should start an event stream', async () => {
    using connection = await openRaw(server.url);
    connection.socket.write(rawRequest(`GET /polls/${poll.id}/stream`, { ...H2C, accept: 'text/event-stream' }));
    expect(statusCodes(await connection.until(/event: results/))).toEqual([200]);
  });

  test('should open a WebSocket if the client asks for one besides h2c', async () => {
    using connection = await openRaw(server.url);
    connection.socket.write(rawRequest('GET /graphql', { ...WEBSOCKET, upgrade: 'h2c, WebSocket' }));
    expect(statusCodes(await connection.until(/\r\n\r\n/))).toEqual([101]);
  });
});

describe('H2 a handshake that is not in order gets an error in JSON', () => {
  const POST = 'POST /graphql';
  const GET = 'GET /graphql';
  test.each<[what: string, request: string, status: number, message: RegExp]>([
    ['another method', rawRequest(POST, WEBSOCKET, '{}'), 405, /^method: /],
    ['no key', rawRequest(GET, { ...WEBSOCKET, 'sec-websocket-key': '' }), 400, /^sec-websocket-key: /],
    [
      'another version',
      rawRequest(GET, { ...WEBSOCKET, 'sec-websocket-version': '99' }),
      426,
      /^sec-websocket-version: /,
    ],
    [
      'two equal subprotocols',
      rawRequest(GET, { ...WEBSOCKET, 'sec-websocket-protocol': 'a,a' }),
      400,
      /^sec-websocket-protocol: /,
    ],
    [
      'an empty subprotocol',
      rawRequest(GET, { ...WEBSOCKET, 'sec-websocket-protocol': 'a,,b' }),
      400,
      /^sec-websocket-protocol: /,
    ],
    ['another path', rawRequest('GET /socket', WEBSOCKET), 404, /\/graphql/],
    ['a foreign origin', rawRequest(GET, { ...WEBSOCKET, origin: 'https://evil.example' }), 403, /^origin: /],
  ])('should refuse %s', async (_, request, status, message) => {
    using connection = await openRaw(server.url);
    connection.socket.write(request);
    const text = await connection.closed();
    expect(statusCodes(text)).toEqual([status]);
    expect(text).toMatch(/\r\ncontent-type: application\/json/i);
    const { errors } = JSON.parse(text.slice(text.indexOf('\r\n\r\n')));
    expect(errors).toEqual([{ message: expect.stringMatching(message) }]);
  });
});

describe('H3 a client with another subprotocol can read why it is closed', () => {
  test.each([[['graphql-ws']], [['foreign', 'other']], [['Graphql-Transport-WS']]])(
    'should close %j',
    async (offer) => {
      const socket = new WebSocket(server.graphql.replace('http', 'ws'), offer);
      const end = await new Promise((resolve, reject) => {
        socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }));
        socket.on('error', reject);
      });
      expect(end).toEqual({ code: 4406, reason: 'Subprotocol not acceptable' });
      expect(logged).toContainEqual({
        connectionId: expect.any(String),
        subprotocol: offer[0],
        message: expect.stringContaining('use a client of graphql-transport-ws'),
      });
    },
  );
});

describe('H4 answers go out in the order of the requests', () => {
  const vote = (choice: number): string => {
    const mutation = `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[choice]}"] }) { __typename ... on CastVoteSuccess { voterToken } } }`;
    return rawRequest('POST /graphql', JSON_TYPE, JSON.stringify({ query: mutation }));
  };
  const voted = async (): Promise<number> => Number((await results(server.graphql, poll.id)).ballotCount);

  test.each<[what: string, headers: Record<string, string>]>([
    ['by its header alone', { accept: 'text/event-stream' }],
    ['among other types', { accept: 'text/event-stream, */*' }],
  ])('should start an event stream after the answer to the vote before it (%s)', async (_, headers) => {
    const before = await voted();
    using connection = await openRaw(server.url);
    connection.socket.write(vote(0) + rawRequest(`GET /polls/${poll.id}/stream`, headers));
    const text = await connection.until(/event: results/);
    expect(text.indexOf('CastVoteSuccess')).toBeGreaterThan(0);
    expect(text.indexOf('CastVoteSuccess')).toBeLessThan(text.indexOf('text/event-stream'));
    expect(statusCodes(text)).toEqual([200, 200]);
    expect(await voted()).toBe(before + 1);
  });

  test('should start a GraphQL stream whose body arrives with the vote', async () => {
    using connection = await openRaw(server.url);
    const body = JSON.stringify({ query: `subscription { pollResults(pollId: "${poll.id}") { version } }` });
    const stream = rawRequest('POST /graphql', { ...JSON_TYPE, accept: 'text/event-stream' }, body);
    connection.socket.write(vote(1) + stream);
    const text = await connection.until(/event: next/);
    expect(text.indexOf('CastVoteSuccess')).toBeLessThan(text.indexOf('event: next'));
  });

  test('should answer requests behind a stream that does not start, and none behind one that does', async () => {
    using connection = await openRaw(server.url);
    const stream = (id: string): string => rawRequest(`GET /polls/${id}/stream`, { accept: 'text/event-stream' });
    const before = await voted();
    connection.socket.write(vote(2) + stream('nothing') + vote(3) + stream(poll.id) + vote(0));
    const text = await connection.until(/event: results/);
    expect(statusCodes(text)).toEqual([200, 404, 200, 200]);
    expect(await voted()).toBe(before + 2);
  });

  test('should open a WebSocket after the answers to the requests before it', async () => {
    using connection = await openRaw(server.url);
    connection.socket.write(vote(0) + vote(1) + rawRequest('GET /graphql', WEBSOCKET));
    const text = await connection.until(/HTTP\/1\.1 101/);
    expect(statusCodes(text)).toEqual([200, 200, 101]);
  });

  test('should answer an h2c request after the answers to the requests before it', async () => {
    using connection = await openRaw(server.url);
    connection.socket.write(vote(0) + rawRequest('GET /healthz', H2C));
    const text = await connection.until(/"alive"/);
    expect(statusCodes(text)).toEqual([200, 200]);
    expect(text.indexOf('CastVoteSuccess')).toBeLessThan(text.indexOf('"alive"'));
  });

  test('should open no WebSocket if the client leaves before the answers', async () => {
    using connection = await openRaw(server.url);
    const wait = `/polls/${poll.id}/results?waitMs=20000&afterVersion=${(await results(server.graphql, poll.id)).version}`;
    connection.socket.write(rawRequest(`GET ${wait}`) + rawRequest('GET /graphql', WEBSOCKET));
    await expect.poll(() => server.app.connections()).toMatchObject({ waiting: 1 });
    connection.socket.destroy();
    await expect.poll(() => server.app.connections()).toMatchObject({ waiting: 0, webSockets: 0 });
  });
});
