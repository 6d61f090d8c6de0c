/** The forms in which HTTP clients write targets, bodies and media types. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPoll, type TestPoll } from '../../support/api.ts';
import { openRaw, rawRequest, statusCodes } from '../../support/raw-connection.ts';
import { startServer, type TestServer } from '../../support/server.ts';

let server: TestServer;
let poll: TestPoll;
beforeAll(async () => {
  server = await startServer();
  poll = await createPoll(server.graphql);
});
afterAll(() => server[Symbol.asyncDispose]());

const QUERY = '{"query":"{ __typename }"}';

function post(body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(server.graphql, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
}

describe('H5 the absolute form', () => {
  test.each([
    ['GET', '/healthz', '"alive"'],
    ['GET', '/polls/{id}/results', '"ballotCount"'],
    ['GET', '/graphql?query=%7B__typename%7D', '"Query"'],
    ['POST', '/graphql', '"Query"'],
  ])('should mean the same as the path (%s %s)', async (method, path, found) => {
    using connection = await openRaw(server.url);
    const body = method === 'POST' ? QUERY : undefined;
    const target = `http://polls.example${path.replace('{id}', poll.id)}`;
    connection.socket.write(rawRequest(`${method} ${target}`, { 'content-type': 'application/json' }, body));
    expect(statusCodes(await connection.untilCount(found, 1))).toEqual([200]);
  });

  test('should open a WebSocket and take the host from the target', async () => {
    using connection = await openRaw(server.url);
    const headers = {
      origin: 'http://polls.example',
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'graphql-transport-ws',
    };
    connection.socket.write(rawRequest('GET HTTP://polls.example/graphql', headers));
    expect(statusCodes(await connection.until(/\r\n\r\n/))).toEqual([101]);
  });

  test('should mean the root if it has no path', async () => {
    using connection = await openRaw(server.url);
    connection.socket.write(rawRequest('GET http://polls.example'));
    expect(statusCodes(await connection.until(/\r\n\r\n/))).toEqual([302]);
  });
});

describe('H6 bodies', () => {
  test('should be refused in a content coding', async () => {
    const response = await post(Uint8Array.from(gzipSync(QUERY)), { 'content-encoding': 'gzip' });
    expect(response.status).toBe(415);
    expect(response.headers.get('accept-encoding')).toBe('identity');
    expect(await response.json()).toEqual({ errors: [{ message: expect.stringMatching(/^content-encoding: /) }] });
    expect((await post(QUERY, { 'content-encoding': 'identity' })).status).toBe(200);
  });

  test.each(['utf-16', 'iso-8859-1', '"utf-16"', 'us-ascii'])(
    'should be refused in the charset %s',
    async (charset) => {
      const response = await post(QUERY, { 'content-type': `application/json; charset=${charset}` });
      expect(response.status).toBe(415);
      expect(await response.json()).toEqual({ errors: [{ message: expect.stringMatching(/^content-type: charset/) }] });
    },
  );

  test('should be read behind a byte order mark', async () => {
    expect(await (await post(`\ufeff${QUERY}`)).json()).toEqual({ data: { __typename: 'Query' } });
    const graphql = await post('\ufeff{ __typename }', { 'content-type': 'application/graphql' });
    expect(await graphql.json()).toEqual({ data: { __typename: 'Query' } });
  });

  test.each(['', '{', '{"query":', 'nonsense', '{"query":"{ __typename }"}}', '\u0000'])(
    'should be refused without the message of a parser: %j',
    async (body) => {
      for (const accept of ['application/json', 'application/graphql-response+json', '*/*']) {
        const response = await post(body, { accept });
        expect(response.status).toBe(400);
        expect(await response.json()).toEqual({ errors: [{ message: 'body: must be JSON in UTF-8.' }] });
      }
    },
  );
});

describe('H7 media types and methods', () => {
  test.each([
    'application/json ; charset=utf-8',
    'Application/JSON;charset="UTF-8"',
    'application/json;charset=utf8',
    'application/json; charset = utf-8 ',
    'application/graphql+json ; charset=utf-8',
  ])('should read a body of the type %s', async (type) => {
    const response = await post(QUERY, { 'content-type': type });
    expect(await response.json()).toEqual({ data: { __typename: 'Query' } });
  });

  test.each(['application/jsonp', 'text/plain', 'application/json,text/plain'])(
    'should refuse a body of the type %s',
    async (type) => {
      const response = await post(QUERY, { 'content-type': type });
      expect(response.status).toBe(415);
      expect(await response.json()).toEqual({ errors: [{ message: 'content-type: must be application/json.' }] });
    },
  );

  test.each(['application/json; charset="utf-8"', 'application/graphql-response+json;charset=utf8'])(
    'should answer in %s, a query and an error',
    async (accept) => {
      const [type = ''] = accept.split(';');
      for (const body of [QUERY, '{"query":"{ nothing }"}', '{"query":7}']) {
        const response = await post(body, { accept });
        expect(response.headers.get('content-type')).toBe(`${type}; charset=utf-8`);
        expect(await response.json()).toBeTypeOf('object');
      }
    },
  );

  test.each([
    '/',
    '/healthz',
    '/readyz',
    '/metrics',
    '/graphql?query=%7B__typename%7D',
    '/polls/{id}/results',
    '/polls/{id}/export.csv',
    '/polls/{id}/export.json',
    '/polls/nothing/stream',
  ])('should answer HEAD %s with the status of GET and no body', async (path) => {
    const url = `${server.url}${path.replace('{id}', poll.id)}`;
    const [got, head] = await Promise.all([
      fetch(url, { redirect: 'manual', headers: poll.manage }),
      fetch(url, { method: 'HEAD', redirect: 'manual', headers: poll.manage }),
    ]);
    expect(head.status).toBe(got.status);
    expect(head.headers.get('content-type')).toBe(got.headers.get('content-type'));
    expect(await head.text()).toBe('');
    await got.text();
  });

  test('should answer HEAD of an event stream with its head alone', async () => {
    const response = await fetch(`${server.url}/polls/${poll.id}/stream`, { method: 'HEAD' });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(server.app.connections().streams).toBe(0);
  });
});
