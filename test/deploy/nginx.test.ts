/** The shipped deploy/nginx.conf, run by a real nginx before two real instances on one Postgres and one Redis. */
import { createServer, type IncomingMessage } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { castVote, createPoll, manage, RESULTS, type ResultsAnswer, results } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { type NginxServer, startNginx } from '../support/nginx.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { scrape } from '../support/scrape.ts';
import { type ServerProcess, spawnServer, TEST_SECRET } from '../support/server.ts';
import { TRANSPORTS } from '../support/transports.ts';

let database: Awaited<ReturnType<typeof freshDatabase>>;
let redis: RedisServer;
let instances: ServerProcess[];
let nginx: NginxServer;
let graphql: string;

const start = () =>
  spawnServer({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    SECRET: TEST_SECRET,
    TRUSTED_PROXIES: '127.0.0.1',
    LIVE_INTERVAL_MS: '10',
  });

beforeAll(async () => {
  [database, redis] = await Promise.all([freshDatabase(), startRedis()]);
  instances = await Promise.all([start(), start()]);
  nginx = await startNginx(instances.map(({ url }) => url));
  graphql = `${nginx.url}/graphql`;
});
afterAll(async () => {
  await nginx[Symbol.asyncDispose]();
  await Promise.all(instances.map((instance) => instance[Symbol.asyncDispose]()));
  await redis[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

const vote = (poll: { id: string; choiceIds: string[] }, n = 0, at = graphql) =>
  castVote(at, { pollId: poll.id, choiceIds: [poll.choiceIds[n]] });

describe('M1 through nginx', () => {
  test.each(TRANSPORTS)('%s: each update arrives when it comes, to the end', async (_, open) => {
    const poll = await createPoll(graphql);
    await using client = await open(nginx.url, poll.id);
    expect(await client.next()).toMatchObject({ type: 'results', results: { ballotCount: 0 } });
    // Each vote waits until the watcher has seen the last one: nothing may stay in a buffer.
    for (let count = 1; count <= 3; count++) {
      await vote(poll, count);
      expect(await client.next()).toMatchObject({ type: 'results', results: { ballotCount: count } });
    }
    await manage(graphql, 'closePoll', poll);
    expect(await client.next()).toMatchObject({ type: 'results', results: { isFinal: true } });
    expect(await client.next()).toEqual({ type: 'end' });
  });

  test('graphql-ws votes and watches on one connection', async () => {
    const poll = await createPoll(graphql);
    const client = createClient({ url: graphql.replace('http', 'ws'), webSocketImpl: WebSocket });
    const query = `subscription ($id: ID!) { pollResults(pollId: $id) { ${RESULTS} } }`;
    const watching = client.iterate<{ pollResults: ResultsAnswer }>({ query, variables: { id: poll.id } });
    expect((await watching.next()).value?.data?.pollResults.ballotCount).toBe(0);
    const mutation = 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }';
    const input = { pollId: poll.id, choiceIds: [poll.choiceIds[0]] };
    for await (const { data } of client.iterate({ query: mutation, variables: { input } })) {
      expect(data).toEqual({ castVote: { __typename: 'CastVoteSuccess' } });
    }
    expect((await watching.next()).value?.data?.pollResults.ballotCount).toBe(1);
    await client.dispose();
  });

  test('a long poll is held until there is something new, and never shared', async () => {
    const poll = await createPoll(graphql);
    const { version } = await results(graphql, poll.id);
    const waiting = async () => {
      const pages = await Promise.all(instances.map(({ url }) => scrape(url)));
      const name = 'pollcast_watchers{transport="long-poll"}';
      return pages.reduce((sum, page) => sum + (page.get(name) ?? 0), 0);
    };
    const url = `${nginx.url}/polls/${poll.id}/results?afterVersion=${version}&waitMs=25000`;
    const held = [fetch(url), fetch(url), fetch(url)];
    // The instances saw three requests for the same URL.
    await eventually(async () => (await waiting()) === 3, 'all three wait');
    const { receipt } = await vote(poll);
    for (const answer of await Promise.all(held)) {
      expect(answer.status).toBe(200);
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(answer.headers.get('pollcast-cache')).toBeNull();
      expect(await answer.json()).toMatchObject({ version: receipt.version, ballotCount: 1 });
    }
  });

  test('a short poll is answered from the cache for a second, then anew', async () => {
    const poll = await createPoll(graphql);
    const url = `${nginx.url}/polls/${poll.id}/results`;
    const poke = async (headers: Record<string, string> = {}) => {
      const answer = await fetch(url, { headers });
      const { status } = answer;
      const text = await answer.text();
      return { status, cache: answer.headers.get('pollcast-cache'), etag: answer.headers.get('etag'), text };
    };
    // The cache counts whole seconds: retry until both requests fall into one.
    await eventually(async () => {
      const first = await poke();
      await vote(poll, 1, `${instances[0]?.url}/graphql`);
      const second = await poke();
      return second.cache === 'HIT' && second.text === first.text && first.status === 200;
    }, 'the second is served what the first was');
    const newest = await results(graphql, poll.id);
    await eventually(async () => (await poke()).etag === `"v${newest.version}"`, 'the newest is served');
    expect(await poke({ 'if-none-match': `"v${newest.version}"` })).toMatchObject({ status: 304, text: '' });
  });

  test('L8 what is not for everyone is never shared', async () => {
    const poll = await createPoll(graphql, { resultsVisibility: 'ORGANIZERS' });
    const url = `${nginx.url}/polls/${poll.id}/results`;
    for (let round = 0; round < 5; round++) {
      const seen = await fetch(url, { headers: poll.manage });
      expect(seen.headers.get('pollcast-cache')).toBeNull();
      expect((await seen.json()).tallies).toHaveLength(4);
      const hidden = await fetch(url);
      expect(hidden.headers.get('pollcast-cache')).not.toBe('HIT');
      expect(hidden.headers.get('cache-control')).toContain('private');
      expect((await hidden.json()).tallies ?? null).toBeNull();
    }
  });

  test('a page of its own origin is known as such: the voter token becomes a cookie', async () => {
    const poll = await createPoll(graphql);
    const answer = await fetch(graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: nginx.url },
      body: JSON.stringify({
        query: 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }',
        variables: { input: { pollId: poll.id, choiceIds: [poll.choiceIds[0]] } },
      }),
    });
    expect(answer.headers.get('set-cookie')).toContain('HttpOnly');
    expect(answer.headers.get('set-cookie')).not.toContain('Secure');
  });

  test('metrics stay inside; a large body is refused', async () => {
    expect((await fetch(`${nginx.url}/metrics`)).status).toBe(404);
    expect((await fetch(`${nginx.url}/readyz`)).status).toBe(200);
    const post = (body: string) =>
      fetch(graphql, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const own = await post(' '.repeat(1_500_000));
    expect([own.status, await own.text()]).toEqual([413, expect.stringContaining('1000000 bytes')]);
    expect((await post(' '.repeat(3_000_000))).status).toBe(413);
  });

  test('over TLS with HTTP/2: twenty event streams on one connection, and cookies are Secure', async () => {
    await using secure = await startNginx(
      instances.map(({ url }) => url),
      true,
    );
    const poll = await createPoll(graphql);
    const session = connectHttp2(secure.url, { rejectUnauthorized: false });
    const streams = Array.from({ length: 20 }, () => session.request({ ':path': `/polls/${poll.id}/stream` }));
    const texts = streams.map(() => '');
    streams.forEach((stream, n) => {
      stream.setEncoding('utf8');
      stream.on('data', (text) => (texts[n] += text));
    });
    await eventually(() => texts.every((text) => text.includes('"ballotCount":0')), 'all have the first results');
    const body = JSON.stringify({
      query: 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }',
      variables: { input: { pollId: poll.id, choiceIds: [poll.choiceIds[0]] } },
    });
    const headers = { 'content-type': 'application/json', origin: secure.url };
    const cast = session.request({ ':path': '/graphql', ':method': 'POST', ...headers });
    const cookie = await new Promise<string>((resolve) => {
      cast.on('response', (answer) => resolve(String(answer['set-cookie'])));
      cast.end(body);
    });
    expect(cookie).toMatch(/HttpOnly.*Secure/);
    await eventually(() => texts.every((text) => text.includes('"ballotCount":1')), 'all have the vote');
    session.destroy();
  });

  test('an instance is killed: the other serves all that is asked, and takes the watchers', async () => {
    const poll = await createPoll(graphql);
    const peers = await Promise.all(
      [overWebSocket, overEvents, overWebSocket, overEvents].map((open) => open(graphql, { pollId: poll.id })),
    );
    for (const peer of peers) await peer.next();
    await instances[1]?.end('SIGKILL');
    const answers = await Promise.all(Array.from({ length: 50 }, () => vote(poll)));
    expect(answers.map(({ receipt }) => receipt.outcome)).toEqual(answers.map(() => 'RECORDED'));
    const cut: Awaited<ReturnType<typeof overEvents>>[] = [];
    for (const peer of peers) {
      let event = await peer.event();
      while (event.type === 'next' && event.results.ballotCount < 50) event = await peer.event();
      if (event.type === 'closed') cut.push(peer);
    }
    // least_conn had spread them.
    expect(cut.length).toBeGreaterThan(0);
    expect(cut.length).toBeLessThan(peers.length);
    await using back = await overWebSocket(graphql, { pollId: poll.id, afterVersion: 1 });
    expect((await back.next()).ballotCount).toBe(50);
    for (const peer of peers) await peer[Symbol.asyncDispose]();
  });
});

describe('what an instance gets to see', () => {
  /** A fake instance that records requests and answers as the test says. */
  async function openEcho(answer: (request: IncomingMessage) => string | null) {
    const requests: IncomingMessage[] = [];
    const server = createServer({ keepAliveTimeout: 72_000 }, (request, response) => {
      requests.push(request);
      const text = answer(request);
      if (text === null) request.socket.destroy();
      else response.end(text);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return {
      url: `http://127.0.0.1:${port}`,
      requests,
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }

  test('the address of the client, which it cannot make up, the host with its port, and one connection', async () => {
    await using echo = await openEcho(() => 'here');
    await using before = await startNginx([echo.url]);
    for (let count = 0; count < 3; count++) {
      const forged = { 'x-forwarded-for': '6.6.6.6', 'x-forwarded-proto': 'https' };
      expect(await (await fetch(`${before.url}/graphql`, { headers: forged })).text()).toBe('here');
    }
    for (const { headers, httpVersion } of echo.requests) {
      expect(headers).toMatchObject({ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' });
      expect(headers.host).toBe(new URL(before.url).host);
      expect(httpVersion).toBe('1.1');
    }
    expect(new Set(echo.requests.map(({ socket }) => socket)).size).toBeLessThan(3);
  });

  test('a POST that may have been carried out is not sent again; a GET is; one that reached nobody goes elsewhere', async () => {
    await using breaking = await openEcho(() => null);
    await using other = await openEcho(() => null);
    await using before = await startNginx([breaking.url, other.url]);
    const seen = () => breaking.requests.length + other.requests.length;
    expect((await fetch(`${before.url}/graphql`, { method: 'POST', body: '{}' })).status).toBe(502);
    expect(seen()).toBe(1);

    await using sound = await openEcho(() => 'here');
    await using half = await startNginx([breaking.url, sound.url]);
    for (let count = 0; count < 4; count++) {
      expect(await (await fetch(`${half.url}/graphql`)).text()).toBe('here');
    }
    await using lame = await startNginx(['http://127.0.0.1:9', sound.url]);
    for (let count = 0; count < 4; count++) {
      const answer = await fetch(`${lame.url}/graphql`, { method: 'POST', body: '{}' });
      expect(await answer.text()).toBe('here');
    }
  });
});
