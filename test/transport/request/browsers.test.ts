/** Pages of other origins, proxies in front, cookies, and what our own page may do. */
import { createServer, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { readConfig } from '../../../src/config/config.ts';
import { makeClientAddresses } from '../../../src/transport/request/client-address.ts';
import { createPoll, type TestPoll } from '../../support/api.ts';
import { launchChromium } from '../../support/chromium.ts';
import { startServer, type TestServer } from '../../support/server.ts';

const LISTED = 'https://polls.example';
const FOREIGN = 'https://evil.example';

describe('the configuration', () => {
  test.each<[Record<string, string>, RegExp]>([
    [{ CORS_ORIGINS: 'polls.example' }, /CORS_ORIGINS: "polls.example" must be an origin/],
    [{ CORS_ORIGINS: 'https://polls.example/' }, /CORS_ORIGINS: "https:\/\/polls.example\/" must be an origin/],
    [{ CORS_ORIGINS: `${LISTED}, *` }, /CORS_ORIGINS: "\*" stands alone/],
    [{ CORS_ORIGINS: 'null' }, /CORS_ORIGINS: "null"/],
    [{ TRUSTED_PROXIES: 'proxy' }, /TRUSTED_PROXIES: "proxy" must be an address or a CIDR/],
    [{ TRUSTED_PROXIES: '10.0.0.0/33' }, /TRUSTED_PROXIES: "10.0.0.0\/33"/],
    [{ TRUSTED_PROXIES: '10.0.0.0/8, ::1/129' }, /TRUSTED_PROXIES: "::1\/129"/],
    [{ TRUSTED_PROXIES: '10.0.0.0/' }, /TRUSTED_PROXIES/],
  ])('%j is refused', (env, message) => {
    expect(() => readConfig(env)).toThrow(message);
  });

  test('lists are read with or without spaces', () => {
    const { access } = readConfig({
      CORS_ORIGINS: `${LISTED}, http://localhost:3000,`,
      TRUSTED_PROXIES: '10.0.0.0/8,::1',
    });
    expect(access.corsOrigins).toEqual([LISTED, 'http://localhost:3000']);
    expect(access.trustedProxies).toEqual(['10.0.0.0/8', '::1']);
    expect(readConfig({ CORS_ORIGINS: '*' }).access.corsOrigins).toBe('*');
  });
});

describe('who asks, behind proxies or not', () => {
  const asked = (remoteAddress: string, forwarded?: string): IncomingMessage => {
    const socket = new Socket();
    Object.defineProperty(socket, 'remoteAddress', { value: remoteAddress });
    const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
    return { socket, headers } as IncomingMessage;
  };

  test.each<[string, string | undefined, string]>([
    ['203.0.113.7', undefined, '203.0.113.7'],
    ['::ffff:203.0.113.7', undefined, '203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', undefined, '2001:db8:1:2::/64'],
    ['2001:db8:1:2::6', undefined, '2001:db8:1:2::/64'],
    ['2001:db8::1', undefined, '2001:db8:0:0::/64'],
    ['::1', undefined, '0:0:0:0::/64'],
    ['fe80::1%eth0', undefined, 'fe80:0:0:0::/64'],
    // Not one of ours: whatever it says, it speaks for itself.
    ['203.0.113.7', '198.51.100.1', '203.0.113.7'],
    ['10.1.1.1', '198.51.100.1', '198.51.100.1'],
    ['::ffff:10.1.1.1', '198.51.100.1', '198.51.100.1'],
    ['fd00::5', '2001:db8:9:9::1', '2001:db8:9:9::/64'],
    // The client wrote the first itself; the last hop before our proxies is what they saw.
    ['10.1.1.1', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['10.1.1.1', '1.1.1.1, 198.51.100.1, 10.2.2.2', '198.51.100.1'],
    ['10.1.1.1', '10.9.9.9, 10.2.2.2', '10.9.9.9'],
    ['10.1.1.1', '198.51.100.1:5123', '198.51.100.1'],
    ['10.1.1.1', '[2001:db8::1]:443', '2001:db8:0:0::/64'],
    ['10.1.1.1', '1.1.1.1, nonsense', '10.1.1.1'],
    ['10.1.1.1', '1.1.1.1, unknown, 10.2.2.2', '10.2.2.2'],
    ['10.1.1.1', '', '10.1.1.1'],
  ])('from %s with X-Forwarded-For %j: %s', (remote, forwarded, expected) => {
    const addresses = makeClientAddresses(['10.0.0.0/8', 'fd00::5']);
    expect(addresses.of(asked(remote, forwarded))).toBe(expected);
  });

  test('without trusted proxies nothing that is forwarded counts', () => {
    expect(makeClientAddresses([]).of(asked('10.1.1.1', '198.51.100.1'))).toBe('10.1.1.1');
  });
});

interface Heard {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** By hand: fetch keeps the headers of a browser to itself. */
function call(url: string, method: string, headers: Record<string, string>, body = ''): Promise<Heard> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => (text += piece));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const POST = { 'content-type': 'application/json' };
const QUERY = JSON.stringify({ query: '{ viewer { isOrganizer } }' });
const PREFLIGHT = {
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type',
};

/** Whether the upgrade is let through: the status that stood in its way, else 101. */
function upgrade(graphql: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws', { headers });
    socket.on('error', () => {});
    socket.on('unexpected-response', (_, response) => {
      resolve(response.statusCode ?? 0);
      socket.terminate();
    });
    socket.on('open', () => {
      resolve(101);
      socket.terminate();
    });
  });
}

describe('pages of other origins', () => {
  let closed: TestServer;
  let listed: TestServer;
  let any: TestServer;
  let poll: TestPoll;
  beforeAll(async () => {
    [closed, listed, any] = await Promise.all([
      startServer(),
      startServer({ CORS_ORIGINS: `${LISTED},http://localhost:3000` }),
      startServer({ CORS_ORIGINS: '*' }),
    ]);
    poll = await createPoll(listed.graphql);
  });
  afterAll(() => Promise.all([closed, listed, any].map((server) => server[Symbol.asyncDispose]())));

  test('by default no other origin reads an answer, is let in by a preflight, or opens a WebSocket', async () => {
    for (const origin of [FOREIGN, LISTED, 'null']) {
      const answer = await call(closed.graphql, 'POST', { ...POST, origin }, QUERY);
      expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
      const preflight = await call(closed.graphql, 'OPTIONS', { origin, ...PREFLIGHT });
      expect(preflight.status).toBe(403);
      expect(preflight.body).toMatch(/not one of CORS_ORIGINS/);
      expect(await upgrade(closed.graphql, { origin })).toBe(403);
    }
  });

  test('our own pages and clients that are no browsers always may', async () => {
    for (const server of [closed, listed, any]) {
      expect(await upgrade(server.graphql, { origin: server.url })).toBe(101);
      expect(await upgrade(server.graphql, {})).toBe(101);
      expect((await call(server.graphql, 'POST', { ...POST, origin: server.url }, QUERY)).status).toBe(200);
    }
  });

  test('a listed origin reads answers of every kind, with its credentials', async () => {
    const stream = JSON.stringify({ query: 'subscription { pollResults(pollId: "nothing") { version } }' });
    const answers = [
      await call(listed.graphql, 'POST', { ...POST, origin: LISTED }, QUERY),
      await call(listed.graphql, 'POST', { 'content-type': 'application/graphql+json', origin: LISTED }, QUERY),
      await call(listed.graphql, 'POST', { ...POST, accept: 'text/event-stream', origin: LISTED }, stream),
      await call(listed.graphql, 'POST', { 'content-type': 'text/plain', origin: LISTED }, QUERY),
      await call(`${listed.url}/polls/${poll.id}/results`, 'GET', { origin: LISTED }),
      await call(`${listed.url}/polls/${poll.id}/results`, 'GET', { origin: LISTED, 'if-none-match': '"v1"' }),
      await call(`${listed.url}/polls/nothing/stream`, 'GET', { origin: LISTED }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 415, 200, 304, 404]);
    for (const { headers } of answers) {
      expect(headers).toMatchObject({
        'access-control-allow-origin': LISTED,
        'access-control-allow-credentials': 'true',
        'access-control-expose-headers': 'ETag, Retry-After',
        vary: 'Origin',
      });
    }
    expect(await upgrade(listed.graphql, { origin: LISTED })).toBe(101);
  });

  test('its preflights are answered for what it asks, and remembered', async () => {
    const { status, headers } = await call(listed.graphql, 'OPTIONS', { origin: LISTED, ...PREFLIGHT });
    expect(status).toBe(204);
    expect(headers).toMatchObject({
      'access-control-allow-origin': LISTED,
      'access-control-allow-methods': 'GET, HEAD, POST',
      'access-control-allow-headers': 'authorization,content-type',
      'access-control-max-age': '7200',
    });
    const odd = await call(listed.graphql, 'OPTIONS', {
      origin: LISTED,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'x; y="z"',
    });
    expect(odd.headers['access-control-allow-headers']).toBeUndefined();
  });

  test('an origin that is not listed gets nothing, and no cache mixes the two', async () => {
    for (const origin of [FOREIGN, `${LISTED}.evil.example`, LISTED.replace('https', 'http'), 'null']) {
      const { headers } = await call(`${listed.url}/polls/${poll.id}/results`, 'GET', { origin });
      expect(headers['access-control-allow-origin']).toBeUndefined();
      expect(headers.vary).toBe('Origin');
      expect(await upgrade(listed.graphql, { origin })).toBe(403);
    }
    const { headers } = await call(`${listed.url}/polls/${poll.id}/results`, 'GET', {});
    expect(headers.vary).toBe('Origin');
  });

  test('with * everybody reads, and nobody with credentials: a cookie counts for nothing on a WebSocket', async () => {
    const answer = await call(any.graphql, 'POST', { ...POST, origin: FOREIGN }, QUERY);
    expect(answer.headers['access-control-allow-origin']).toBe('*');
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined();
    const { headers } = await call(`${any.url}/polls/nothing/results`, 'GET', {});
    expect(headers['access-control-allow-origin']).toBe('*');

    // A browser's own voter, whose ballot another page must not see.
    const own = await createPoll(any.graphql);
    const vote = JSON.stringify({
      query: `mutation { castVote(input: { pollId: "${own.id}", choiceIds: ["${own.choiceIds[0]}"] }) { __typename } }`,
    });
    const voted = await call(any.graphql, 'POST', { ...POST, origin: any.url }, vote);
    const cookie = String(voted.headers['set-cookie']).split(';')[0] ?? '';
    expect(cookie).toMatch(/^pollcast_voter=v1/);
    const ballotFor = async (origin: string): Promise<unknown> => {
      const socket = new WebSocket(any.graphql.replace('http', 'ws'), 'graphql-transport-ws', {
        headers: { origin, cookie },
      });
      const query = `{ poll(id: "${own.id}") { viewerBallot { choiceIds } } }`;
      return new Promise((resolve) => {
        socket.on('open', () => socket.send('{"type":"connection_init"}'));
        socket.on('message', (data) => {
          const message = JSON.parse(String(data));
          if (message.type === 'connection_ack') {
            socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
          } else if (message.type === 'next') {
            socket.terminate();
            resolve(message.payload.data.poll.viewerBallot);
          }
        });
      });
    };
    expect(await ballotFor(any.url)).toEqual({ choiceIds: [own.choiceIds[0]] });
    expect(await ballotFor(FOREIGN)).toBeNull();
  });

  test('health and pages are nobody else’s', async () => {
    for (const path of ['/healthz', '/', '/elsewhere']) {
      const { headers } = await call(`${listed.url}${path}`, 'GET', { origin: LISTED });
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
  });
});

test('in a real browser: a page of a listed origin votes and watches, one that is not listed cannot', async () => {
  const pages = createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'));
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  const { port } = pages.address() as AddressInfo;
  await using server = await startServer({ CORS_ORIGINS: `http://127.0.0.1:${port}` });
  await using chromium = await launchChromium();
  const poll = await createPoll(server.graphql);
  const ask = async (origin: string) => {
    const page = await chromium.browser.newPage();
    await page.goto(origin);
    const answer = await page.evaluate(
      async ({ graphql, query }) => {
        const text = await fetch(graphql, {
          method: 'POST',
          credentials: 'include',
          headers: { 'content-type': 'application/json', authorization: 'Bearer pck_x' },
          body: JSON.stringify({ query }),
        }).then(
          (response) => response.text(),
          (error: unknown) => String(error),
        );
        const socket = new globalThis.WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
        const opened = await new Promise((resolve) => {
          socket.onopen = () => resolve(true);
          socket.onerror = () => resolve(false);
        });
        const source = new EventSource(
          `${graphql.replace('/graphql', '/polls/')}${/pollId: "(\w+)"/.exec(query)?.[1]}/stream`,
        );
        const streamed = await new Promise((resolve) => {
          source.addEventListener('results', () => resolve(true));
          source.onerror = () => resolve(false);
        });
        source.close();
        socket.close();
        return { text, opened, streamed };
      },
      {
        graphql: server.graphql,
        query: `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename ... on CastVoteSuccess { voterToken } } }`,
      },
    );
    await page.close();
    return answer;
  };
  const answers = await ask(`http://127.0.0.1:${port}`);
  expect(answers).toEqual({
    // Another origin keeps no cookie of ours: it gets the token itself.
    text: expect.stringMatching(/"CastVoteSuccess","voterToken":"v1\./),
    opened: true,
    streamed: true,
  });
  expect(await ask(`http://localhost:${port}`)).toEqual({
    text: expect.stringContaining('Failed to fetch'),
    opened: false,
    streamed: false,
  });
  const { ballotCount } = await (await fetch(`${server.url}/polls/${poll.id}/results`)).json();
  expect(ballotCount).toBe(1);
  pages.closeAllConnections();
  pages.close();
}, 60_000);

describe('cookies and pages', () => {
  test('the cookie is Secure where a trusted proxy says that it came by TLS, and only there', async () => {
    const vote = async (server: TestServer, proto: string): Promise<string> => {
      const poll = await createPoll(server.graphql);
      const query = `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename } }`;
      const headers = { ...POST, origin: server.url, 'x-forwarded-proto': proto };
      const answer = await call(server.graphql, 'POST', headers, JSON.stringify({ query }));
      return String(answer.headers['set-cookie']);
    };
    await using behind = await startServer({ TRUSTED_PROXIES: '127.0.0.0/8' });
    expect(await vote(behind, 'https')).toMatch(/HttpOnly; SameSite=Lax; Secure$/);
    expect(await vote(behind, 'http')).toMatch(/HttpOnly; SameSite=Lax$/);
    await using alone = await startServer();
    expect(await vote(alone, 'https')).toMatch(/HttpOnly; SameSite=Lax$/);
  });

  test('the page may run its own scripts only, and nobody may frame it', async () => {
    await using server = await startServer();
    const page = await call(server.graphql, 'GET', { accept: 'text/html' });
    expect(page.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin',
    });
    const policy = String(page.headers['content-security-policy']);
    expect(policy).toMatch(/^default-src 'none'; script-src ('sha256-[\w+/=]+' ?)+; /);
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/script-src[^;]*unsafe/);
    const missing = await call(`${server.url}/elsewhere`, 'GET', {});
    expect(missing.headers['x-content-type-options']).toBe('nosniff');
  });
});
