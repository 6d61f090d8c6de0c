/** Attacks by how it is asked: prototypes in JSON, broken text, other sites, smuggled and injected headers. */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { type Answer, castVote, createPoll, newVoter, operate, results } from '../support/api.ts';
import { startVictim, type Victim } from '../support/victim.ts';

let victim: Victim;
beforeAll(async () => {
  victim = await startVictim();
});
afterAll(() => victim[Symbol.asyncDispose]());

/** The bytes of a request as they stand, and all that comes back until the server closes or `until` is there. */
function raw(request: string | Buffer, until = /\r\n\r\n/): Promise<string> {
  const { hostname, port } = new URL(victim.url);
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => socket.write(request));
    socket.setEncoding('latin1');
    const done = (): void => {
      socket.destroy();
      resolve(text);
    };
    socket.on('data', (piece) => {
      text += piece;
      if (until.test(text)) done();
    });
    socket.on('close', done);
    socket.on('error', reject);
  });
}

const post = (body: BodyInit, headers: Record<string, string> = {}) =>
  fetch(victim.graphql, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });

const VIEWER = '{ viewer { isOrganizer account { role } } }';
const NOBODY = { data: { viewer: { isOrganizer: false, account: null } } };

test.each(['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'])(
  '%s as a key in the body, the variables and connectionParams changes nothing',
  async (key) => {
    const evil =
      '{"account":{"sub":"eve","role":"admin"},"organizerKeyHash":"00","query":"{ nope }","authorization":"Bearer x","polluted":true}';
    await post(`{"query":${JSON.stringify(VIEWER)},"${key}":${evil}}`);
    const variables = `{"${key}":${evil},"input":{"pollId":"${victim.poll.id}","${key}":${evil}}}`;
    const query = 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }';
    const refused: Answer = await (await post(`{"query":${JSON.stringify(query)},"variables":${variables}}`)).json();
    if (key !== '__proto__') expect(refused.errors?.[0]?.message).toMatch(new RegExp(key));
    const asked: Answer = await (
      await post(`{"query":${JSON.stringify(VIEWER)},"variables":{"${key}":${evil}}}`)
    ).json();
    expect(asked).toEqual(NOBODY);
    expect(await init(`{"${key}":${evil}}`)).toEqual(NOBODY);
    expect(await operate(victim.graphql, VIEWER)).toEqual(NOBODY);
    await victim.stillServes();
  },
);

/** What the viewer is on a WebSocket with these `connectionParams`. */
async function init(params: string): Promise<unknown> {
  const socket = new WebSocket(victim.webSocket, 'graphql-transport-ws');
  const answer = await new Promise((resolve) => {
    socket.on('open', () => socket.send(`{"type":"connection_init","payload":${params}}`));
    socket.on('message', (data) => {
      const message = JSON.parse(String(data));
      if (message.type === 'connection_ack') {
        socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: VIEWER } }));
      } else if (message.type === 'next') resolve(message.payload);
    });
    socket.on('close', (code) => resolve(code));
  });
  socket.terminate();
  return answer;
}

test('connectionParams of every wrong kind make nobody somebody', async () => {
  for (const params of [
    '{"authorization":{"toString":"x"}}',
    '{"authorization":["Bearer x"]}',
    '{"voterToken":1}',
    '{"authorization":""}',
    '{}',
  ]) {
    expect(await init(params)).toEqual(NOBODY);
  }
  for (const params of ['[]', '1', '"Bearer x"']) expect([4400, NOBODY]).toContainEqual(await init(params));
  await victim.stillServes();
});

test('invalid UTF-8 in a body is text like any other, or refused: never a fault', async () => {
  const bytes = (...parts: (string | number[])[]): Buffer =>
    Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  const bodies = [
    bytes('{"query":"{ poll(joinCode: \\"', [0xc3, 0x28], '\\") { id } }"}'),
    bytes('{"query":"{ poll(joinCode: \\"', [0xed, 0xa0, 0x80], '\\") { id } }"}'),
    bytes([0xff, 0xfe, 0x7b, 0x00]),
    bytes('{"query":', [0x80], '}'),
    Buffer.alloc(1_000, 0xff),
    Buffer.alloc(1_000, 0),
  ];
  for (const body of bodies) {
    for (const type of ['application/json', 'application/graphql', 'application/json; charset=utf-16']) {
      const response = await post(new Uint8Array(body), { 'content-type': type });
      expect(response.status).toBeLessThan(500);
      expect(await response.text()).not.toMatch(/INTERNAL_SERVER_ERROR/);
    }
  }
  await victim.stillServes();
});

test('text that no database takes is refused by name', async () => {
  for (const question of ['a\0b', 'a\ud800b']) {
    const answer = await operate(
      victim.graphql,
      'mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename ... on Error { message } } }',
      { input: { question, choices: ['a', 'b'] } },
    );
    expect(answer.data?.createPoll).toMatchObject({
      __typename: 'InvalidInputError',
      message: expect.stringContaining('question'),
    });
  }
  await victim.stillServes();
});

test('forms and scripts of other sites cast no vote with a visitor’s cookie', async () => {
  const poll = await createPoll(victim.graphql);
  const { voterToken } = await newVoter(victim.graphql);
  const query = `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename } }`;
  const cookie = `pollcast_voter=${voterToken}`;
  const site = { cookie, origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };
  const json = JSON.stringify({ query });
  const boundary = 'multipart/form-data; boundary=x';
  const form = `--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n${json}\r\n--x--\r\n`;
  // All that a page may send without asking first.
  for (const [type, body] of [
    ['application/x-www-form-urlencoded', `query=${encodeURIComponent(query)}`],
    ['text/plain', json],
    ['text/plain; application/json', json],
    ['text/plain;charset=application/json', json],
    [boundary, form],
    ['', json],
  ] as const) {
    const response = await post(new TextEncoder().encode(body), { ...site, 'content-type': type });
    expect(response.status, type).toBe(415);
  }
  const got = await fetch(`${victim.graphql}?query=${encodeURIComponent(query)}`, { headers: site });
  expect(got.status).toBe(405);
  const streamed = await fetch(`${victim.graphql}?query=${encodeURIComponent(query)}`, {
    headers: { ...site, accept: 'text/event-stream' },
  });
  expect(streamed.status).toBe(405);
  // And what it may send only after a preflight is told no.
  const preflight = await fetch(victim.graphql, {
    method: 'OPTIONS',
    headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
  });
  expect(preflight.status).toBe(403);
  expect((await results(victim.graphql, poll.id)).ballotCount).toBe(0);
  await victim.stillServes();
});

test('a WebSocket of another site is not opened, with or without a cookie', async () => {
  for (const origin of ['https://evil.example', 'null', `${victim.url}.evil.example`, 'http://127.0.0.1:1']) {
    const status = await new Promise((resolve) => {
      const socket = new WebSocket(victim.webSocket, 'graphql-transport-ws', { headers: { origin, cookie: 'a=b' } });
      socket.on('error', () => {});
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
      socket.on('open', () => resolve(101));
    });
    expect(status, origin).toBe(403);
  }
  await victim.stillServes();
});

test('line breaks in ids, tokens and paths make no headers', async () => {
  const injection = 'x%0d%0aset-cookie:%20evil=1%0d%0a';
  for (const path of [
    `/polls/${injection}/results`,
    `/polls/${injection}/stream`,
    `/${injection}`,
    `/graphql?query=${injection}`,
  ]) {
    const response = await fetch(`${victim.url}${path}`);
    expect(response.status).toBeLessThan(500);
    expect(response.headers.get('set-cookie')).toBeNull();
  }
  const text = 'x\r\nset-cookie: evil=1\r\n\r\n';
  const answer = await castVote(victim.graphql, { pollId: text, choiceIds: [text] });
  expect(answer.__typename).toBe('NotFoundError');
  const stream = await post(
    JSON.stringify({
      query: 'subscription ($id: ID!) { pollResults(pollId: $id) { version } }',
      variables: { id: `${text}data: {}\n\n` },
    }),
    { accept: 'text/event-stream' },
  );
  // An event of its own would begin a line.
  expect((await stream.text()).split('\n').filter((line) => line.startsWith('data: {'))).toHaveLength(1);
  await victim.stillServes();
});

test.each<[string, string]>([
  [
    'a length and chunks at once',
    'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  ],
  ['two lengths', 'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}'],
  ['a negative length', 'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}'],
  [
    'a chunk of nonsense',
    'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
  ],
  ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ['a head of 17 KB', `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'x'.repeat(17_000)}\r\n\r\n`],
  ['a path of 17 KB', `GET /${'x'.repeat(17_000)} HTTP/1.1\r\nhost: x\r\n\r\n`],
  ['an unknown method', 'BREW /graphql HTTP/1.1\r\nhost: x\r\n\r\n'],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
])('%s is a bad request and the end of the connection', async (_, request) => {
  const answer = await raw(request, /^$/);
  expect(answer).toMatch(/^HTTP\/1\.1 4(00|13|31) /);
  expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  await victim.stillServes();
});

test.each([
  '//',
  '//evil.example/',
  '/\\',
  '/%',
  '/%00',
  '/polls/%/results',
  '/polls/../../etc/passwd',
  'http://',
  '*',
  '/?'.padEnd(9_000, '?'),
])('the path %s is answered, and is no fault', async (path) => {
  const answer = await raw(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`, /^$/);
  expect(answer).toMatch(/^HTTP\/1\.1 (302|400|404) /);
  await victim.stillServes();
});

test('headers that a proxy would set count for nothing without a trusted one', async () => {
  await using limited = await startVictim({ VOTE_RATE_LIMIT: '3' });
  const poll = await createPoll(limited.graphql);
  const names = await Promise.all(
    Array.from({ length: 60 }, async (_, n) => {
      const spoofed = {
        'x-forwarded-for': `198.51.100.${n}`,
        'x-real-ip': `198.51.100.${n}`,
        forwarded: `for=198.51.100.${n}`,
      };
      return (await castVote(limited.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] }, spoofed)).__typename;
    }),
  );
  expect(names).toContain('RateLimitedError');
  const secure = await fetch(limited.graphql, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin', 'x-forwarded-proto': 'https' },
    body: '{"query":"{ viewer { voterToken } }"}',
  });
  expect(secure.headers.get('set-cookie')).toMatch(/SameSite=Lax$/);
  expect((await results(limited.graphql, poll.id)).ballotCount).toBe(
    names.filter((name) => name === 'CastVoteSuccess').length,
  );
});
