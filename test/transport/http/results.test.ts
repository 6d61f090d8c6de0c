/** Plain HTTP as a CDN, `curl` and a crowd see it, and who counts as watching. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, results, type TestPoll } from '../../support/api.ts';
import { freshDatabase } from '../../support/database.ts';
import { eventually, overEvents, overWebSocket } from '../../support/peers.ts';
import { startServer, type TestServer } from '../../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ LIVE_INTERVAL_MS: '10' });
});
afterAll(() => server[Symbol.asyncDispose]());

const get = (path: string, init: RequestInit = {}) => fetch(`${server.url}${path}`, init);
const vote = (poll: TestPoll) => castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });

describe('short polling', () => {
  test('the plain results are the GraphQL results, with all their fields', async () => {
    const poll = await createPoll(server.graphql, { kind: 'RANKED' });
    await vote(poll);
    const response = await get(`/polls/${poll.id}/results`);
    expect(response.headers.get('etag')).toBe('"v2"');
    expect(response.headers.get('cache-control')).toBe('public, max-age=1');
    const all = await ask<object>(
      server.graphql,
      `query ($id: ID!) { pollResults(pollId: $id) { pollId version status isFinal ballotCount tallies { choiceId label votes share }
        runoff { rounds { number tallies { choiceId label votes share } eliminated { id label position } exhausted } winner { id label position } }
        rating { mean median histogram { value votes } } updatedAt } }`,
      { id: poll.id },
    );
    expect(await response.json()).toEqual(all);
  });

  test('under way when the server stops, it is answered whole: 304 would name a version that the client never had', async () => {
    await using database = await freshDatabase();
    await using stopping = await startServer({ DATABASE_URL: database.url });
    const poll = await createPoll(stopping.graphql);
    const { store } = stopping.app;
    const load = store.loadPoll;
    let release = (): void => {};
    const asked = new Promise<void>((seen) => {
      const held = new Promise<void>((resolve) => (release = resolve));
      Object.assign(store, {
        loadPoll: async (...args: Parameters<typeof load>) => {
          seen();
          await held;
          return load(...args);
        },
      });
    });
    const answer = fetch(`${stopping.url}/polls/${poll.id}/results`);
    await asked;
    const stopped = stopping.app.stop();
    release();
    expect((await answer).status).toBe(200);
    await stopped;
  });

  test('If-None-Match answers 304 while nothing is newer, weak tags and nonsense too', async () => {
    const poll = await createPoll(server.graphql);
    const path = `/polls/${poll.id}/results`;
    const status = async (tag: string) => (await get(path, { headers: { 'if-none-match': tag } })).status;
    expect([await status('"v1"'), await status('W/"v1"'), await status('"v0"'), await status('"x"')]).toEqual([
      304, 304, 200, 200,
    ]);
    await vote(poll);
    expect([await status('"v1"'), await status('"v2"')]).toEqual([200, 304]);
    expect([await status('"x", W/"v2"'), await status('*'), await status('"v02"')]).toEqual([304, 304, 200]);
    const head = await get(path, { method: 'HEAD' });
    expect([head.status, await head.text(), head.headers.get('etag')]).toEqual([200, '', '"v2"']);
  });

  test.each([
    ['?waitMs=30001', 400, /waitMs: .{1,2}30001.{1,2} must be a whole number from 0 to 30000/],
    ['?waitMs=-1', 400, /waitMs/],
    ['?afterVersion=x', 400, /afterVersion: .{1,2}x/],
    ['?waitMs=10', 400, /takes afterVersion/],
  ])('%s is refused', async (query, status, message) => {
    const poll = await createPoll(server.graphql);
    const response = await get(`/polls/${poll.id}/results${query}`);
    expect(response.status).toBe(status);
    expect(await response.text()).toMatch(message);
  });

  test('nothing there is 404, another method 405', async () => {
    expect((await get('/polls/nothing/results')).status).toBe(404);
    expect((await get('/polls/nothing/stream')).status).toBe(404);
    const posted = await get('/polls/nothing/results', { method: 'POST' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  });

  test('HEAD answers wherever GET does', async () => {
    const poll = await createPoll(server.graphql);
    for (const path of ['results', 'stream', 'export.csv', 'export.json']) {
      const head = await get(`/polls/${poll.id}/${path}`, { method: 'HEAD', headers: poll.manage });
      expect([path, head.status, await head.text()]).toEqual([path, 200, '']);
    }
    for (const path of ['/healthz', '/readyz', '/metrics', '/graphql?query={__typename}']) {
      const head = await get(path, { method: 'HEAD' });
      expect([path, head.status, await head.text()]).toEqual([path, 200, '']);
    }
  });

  test('the largest version is one that can be named', async () => {
    const poll = await createPoll(server.graphql);
    expect((await get(`/polls/${poll.id}/results?afterVersion=${Number.MAX_SAFE_INTEGER}`)).status).toBe(200);
    expect((await get(`/polls/${poll.id}/results?afterVersion=9007199254740992`)).status).toBe(400);
  });

  test('L8 the tag differs between those who see the tallies and those who do not', async () => {
    const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE' });
    const { voterToken } = await vote(poll);
    const path = `/polls/${poll.id}/results`;
    const hidden = await get(path);
    const tag = hidden.headers.get('etag') ?? '';
    expect(await hidden.json()).toMatchObject({ version: 2, tallies: null });
    const headers = { 'if-none-match': tag, 'pollcast-voter': voterToken ?? '' };
    const shown = await get(path, { headers });
    expect(shown.status).toBe(200);
    expect((await shown.json()).tallies).toHaveLength(4);
    expect(shown.headers.get('etag')).not.toBe(tag);
    expect((await get(path, { headers: { 'if-none-match': tag } })).status).toBe(304);
  });
});

describe('long polling', () => {
  test('a wait that ran out is a 304 here, and the current results in GraphQL', async () => {
    const poll = await createPoll(server.graphql);
    const plain = await get(`/polls/${poll.id}/results?afterVersion=1&waitMs=30`);
    expect([plain.status, plain.headers.get('etag'), plain.headers.get('cache-control')]).toEqual([
      304,
      '"v1"',
      'no-store',
    ]);
    const current = await ask<{ version: number }>(
      server.graphql,
      `{ pollResults(pollId: "${poll.id}", afterVersion: 1, waitMs: 30) { version } }`,
    );
    expect(current).toEqual({ version: 1 });
    // Beside another field it waits by itself.
    const two = await ask<{ version: number }>(
      server.graphql,
      `{ pollResults(pollId: "${poll.id}", afterVersion: 1, waitMs: 30) { version } viewer { isOrganizer } }`,
    );
    expect(two).toEqual({ version: 1 });
  });

  test('three hundred that wait are woken together, all with the same bytes', async () => {
    const poll = await createPoll(server.graphql);
    const waiting = Array.from({ length: 300 }, () => get(`/polls/${poll.id}/results?afterVersion=1&waitMs=20000`));
    await eventually(() => server.app.connections().waiting === 300, '300 wait');
    await vote(poll);
    const bodies = await Promise.all(waiting.map(async (response) => (await response).text()));
    expect(new Set(bodies).size).toBe(1);
    expect(JSON.parse(bodies[0] ?? '')).toMatchObject({ version: 2, ballotCount: 1 });
    expect(server.app.connections().waiting).toBe(0);
  });

  test('who hangs up while waiting leaves nothing behind', async () => {
    const poll = await createPoll(server.graphql);
    const abort = new AbortController();
    const waiting = get(`/polls/${poll.id}/results?afterVersion=1&waitMs=20000`, { signal: abort.signal }).catch(
      () => null,
    );
    await eventually(() => server.app.connections().waiting === 1, 'one waits');
    abort.abort();
    await waiting;
    await eventually(() => server.app.connections().waiting === 0, 'nobody waits');
  });
});

describe('the audience', () => {
  const AUDIENCE = 'subscription ($pollId: ID!) { pollResults: pollAudience(pollId: $pollId) { watching } }';
  const watching = (event: object) => (event as { watching: number }).watching;

  test('everyone on every transport counts, who waits too; who only counts does not; at most one update a second', async () => {
    const poll = await createPoll(server.graphql);
    await using counter = await overWebSocket(server.graphql, { pollId: poll.id }, AUDIENCE);
    expect(watching(await counter.next())).toBe(0);
    const started = performance.now();
    const peers = [
      await overWebSocket(server.graphql, { pollId: poll.id }),
      await overEvents(server.graphql, { pollId: poll.id }),
    ];
    for (const peer of peers) await peer.next();
    const stream = new AbortController();
    await get(`/polls/${poll.id}/stream`, { signal: stream.signal });
    const waits = get(`/polls/${poll.id}/results?afterVersion=1&waitMs=20000`);
    let updates = 0;
    for (let count = 0; count !== 4; updates++) count = watching(await counter.next());
    // The first change went at once; four came within two updates, or the machine took its time.
    expect(updates).toBeLessThanOrEqual(2 + Math.floor((performance.now() - started) / 1_000));
    // Answered, the long poll is expected back: it still counts, and once only when it comes.
    await vote(poll);
    await waits;
    const again = get(`/polls/${poll.id}/results?afterVersion=2&waitMs=20000`);
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    stream.abort();
    for (let count = 4; count !== 1; ) {
      count = watching(await counter.next());
      expect(count).toBeLessThanOrEqual(4);
    }
    await manage(server.graphql, 'closePoll', poll);
    expect((await (await again).json()).isFinal).toBe(true);
    expect((await results(server.graphql, poll.id)).isFinal).toBe(true);
  });

  test('L1 who comes back with a number of another process is told how many watch now', async () => {
    const poll = await createPoll(server.graphql);
    const query = `subscription { pollAudience(pollId: "${poll.id}") { watching } }`;
    const abort = new AbortController();
    const response = await get(`/graphql?query=${encodeURIComponent(query)}`, {
      headers: { accept: 'text/event-stream', 'last-event-id': '0' },
      signal: AbortSignal.any([abort.signal, AbortSignal.timeout(5_000)]),
    });
    let text = '';
    for await (const piece of response.body ?? []) {
      text += Buffer.from(piece).toString();
      if (text.includes('"watching":0')) break;
    }
    abort.abort();
    expect(text).toContain('"watching":0');
  });
});
