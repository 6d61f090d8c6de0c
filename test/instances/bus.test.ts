/**
 * Instances over one Postgres and one Redis. Where it is the bus that must bring the news, watched polls are not compared
 * with the database by the clock (`reconcileMs` of an hour): what arrives came over the bus, or was looked up because of it.
 */
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Parts } from '../../src/app.ts';
import { ask, castVote, createPoll, manage, newVoter, results } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overEvents, overWebSocket, type Peer } from '../support/peers.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { spawnServer, startServer, TEST_SECRET, type TestServer } from '../support/server.ts';

const HOUR = 3_600_000;
const TIMES = { pulseMs: 500, beatMs: 100, lifeMs: 1_000, reportMs: 20 };

let database: Awaited<ReturnType<typeof freshDatabase>>;
let redis: RedisServer;
let admin: Redis;
beforeAll(async () => {
  [database, redis] = await Promise.all([freshDatabase(), startRedis()]);
  admin = new Redis(redis.url);
});
afterAll(async () => {
  admin.disconnect();
  await redis[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

function start(redisUrl: string, parts: Parts = {}): Promise<TestServer> {
  const env = { DATABASE_URL: database.url, REDIS_URL: redisUrl, LIVE_INTERVAL_MS: '10' };
  return startServer(env, { reconcileMs: HOUR, busTimes: TIMES, ...parts });
}

const connected = (...servers: TestServer[]) =>
  eventually(() => servers.every(({ app }) => app.bus.connected), 'all instances are connected to Redis');

/** How many are subscribed to the polls' channels, at Redis. */
async function subscribed(pollId: string, database = 0): Promise<number> {
  const [, count] = await admin.pubsub('NUMSUB', `pollcast:${database}:poll:${pollId}`);
  return Number(count);
}

async function watch(server: TestServer, pollId: string, connect = overWebSocket): Promise<Peer> {
  const peer = await connect(server.graphql, { pollId });
  await peer.next();
  return peer;
}

describe('two instances on one bus', () => {
  let one: TestServer;
  let two: TestServer;
  beforeAll(async () => {
    [one, two] = await Promise.all([start(redis.url), start(redis.url)]);
    await connected(one, two);
  });
  afterAll(async () => {
    expect((await one.app.store.recount()).differences).toEqual([]);
    await Promise.all([one[Symbol.asyncDispose](), two[Symbol.asyncDispose]()]);
  });

  test.each([
    ['WebSocket', overWebSocket],
    ['SSE', overEvents],
  ])('M1 %s watchers of one see the votes, the end and the deletion that happen at the other', async (_, connect) => {
    const poll = await createPoll(one.graphql);
    const gone = await createPoll(one.graphql);
    await using watching = await watch(two, poll.id, connect);
    await using losing = await watch(two, gone.id, connect);
    await eventually(
      async () => (await subscribed(poll.id)) + (await subscribed(gone.id)) === 2,
      'both are subscribed',
    );
    // Nobody watches it where these votes are cast.
    for (let count = 1; count <= 5; count++) {
      await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[count % 4]] });
      const { last } = await watching.until(({ ballotCount }) => ballotCount === count);
      expect(last).toEqual(await results(one.graphql, poll.id));
    }
    // Its own commits come between those of the other.
    const { receipt } = await castVote(two.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[2]] });
    expect(receipt.version).toBe(7);
    expect((await watching.until(({ version }) => version === 7)).last.ballotCount).toBe(6);
    await manage(one.graphql, 'closePoll', poll);
    const { last } = await watching.until(({ isFinal }) => isFinal);
    expect(last).toEqual(await results(one.graphql, poll.id));
    expect(await watching.event()).toEqual({ type: 'complete' });
    await manage(one.graphql, 'deletePoll', gone);
    if (connect === overWebSocket) {
      expect(await losing.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
    } else expect((await losing.event()).type).not.toBe('next');
  });

  test('M1 changes of the poll itself, a reset and a retracted vote arrive too', async () => {
    const poll = await createPoll(one.graphql, { allowVoteChange: true });
    await using watching = await watch(two, poll.id);
    await eventually(async () => (await subscribed(poll.id)) === 1, 'it is subscribed');
    const { voterToken } = await newVoter(one.graphql);
    await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken });
    await watching.until(({ ballotCount }) => ballotCount === 1);
    await ask(one.graphql, 'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename } }', {
      input: { pollId: poll.id, voterToken },
    });
    await watching.until(({ ballotCount }) => ballotCount === 0);
    await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] });
    await watching.until(({ ballotCount }) => ballotCount === 1);
    await manage(one.graphql, 'resetPoll', poll);
    const { last } = await watching.until(({ ballotCount }) => ballotCount === 0);
    expect(last).toEqual(await results(one.graphql, poll.id));

    const changed = await fetch(two.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ query: `subscription { pollChanged(pollId: "${poll.id}") { question } }` }),
    });
    const reader = changed.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    const reads = async (wanted: string) => {
      while (!text.includes(wanted)) {
        const { value, done } = (await reader?.read()) ?? { value: '', done: true };
        if (done) throw new Error(`The stream ended without ${wanted}: ${text}`);
        text += value;
      }
    };
    await reads('Which?');
    await ask(
      one.graphql,
      'mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename ... on Error { message } } }',
      { input: { pollId: poll.id, question: 'Which now?' } },
      poll.manage,
    );
    await reads('Which now?');
    await reader?.cancel();
  });

  test('M1 a RANKED poll of thousands of orders: its counts are read where they are wanted', async () => {
    const poll = await createPoll(one.graphql, { kind: 'RANKED', choices: [...'ABCDEFG'] });
    await using watching = await watch(two, poll.id);
    await eventually(async () => (await subscribed(poll.id)) === 1, 'it is subscribed');
    const orders = permutations(poll.choiceIds).slice(0, 3_000);
    for (let from = 0; from < orders.length; from += 1_000) {
      const ballots = orders
        .slice(from, from + 1_000)
        .map((choiceIds, index) => ({ voterId: `${from + index}`, choiceIds }));
      await ask(
        one.graphql,
        'mutation ($input: CastVotesInput!) { castVotes(input: $input) { __typename } }',
        { input: { pollId: poll.id, ballots } },
        poll.manage,
      );
    }
    const { last } = await watching.until(({ ballotCount }) => ballotCount === 3_000);
    expect(last).toEqual(await results(one.graphql, poll.id));
  });

  test('L2 L3 M1 votes flood in at both: everybody ends on the newest version, nothing goes back', async () => {
    const poll = await createPoll(one.graphql);
    const peers = await Promise.all(
      [one, two].flatMap((server) => [watch(server, poll.id), watch(server, poll.id, overEvents)]),
    );
    await eventually(async () => (await subscribed(poll.id)) === 2, 'both are subscribed');
    await Promise.all(
      Array.from({ length: 600 }, (_, index) =>
        castVote((index % 2 === 0 ? one : two).graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[index % 4]] }),
      ),
    );
    const end = await results(one.graphql, poll.id);
    expect(end.ballotCount).toBe(600);
    for (const peer of peers) {
      const { last, versions } = await peer.until(({ version }) => version >= end.version);
      expect(last).toEqual(end);
      expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
      await peer[Symbol.asyncDispose]();
    }
  });

  test('L4 many votes are few messages: at most one a poll an interval', async () => {
    await using slow = await startServer(
      { DATABASE_URL: database.url, REDIS_URL: redis.url, LIVE_INTERVAL_MS: '60000' },
      { reconcileMs: HOUR, busTimes: TIMES },
    );
    await connected(slow);
    const poll = await createPoll(one.graphql);
    const before = slow.app.bus.stats.published;
    for (let count = 0; count < 50; count++) {
      await castVote(slow.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    }
    expect(slow.app.bus.stats.published - before).toBe(1);
  });

  test('M2 malformed, repeated, late, foreign and newer messages do no harm', async () => {
    const poll = await createPoll(one.graphql);
    const channel = `pollcast:0:poll:${poll.id}`;
    await using watching = await watch(two, poll.id);
    await eventually(async () => (await subscribed(poll.id)) === 1, 'it is subscribed');
    const seen: string[] = [];
    const listener = new Redis(redis.url);
    await listener.subscribe(channel);
    listener.on('message', (_, text) => seen.push(text));
    const vote = () => castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });

    await vote();
    expect((await watching.until(({ ballotCount }) => ballotCount === 1)).last.version).toBe(2);
    await vote();
    expect((await watching.until(({ ballotCount }) => ballotCount === 2)).last.version).toBe(3);
    await eventually(() => seen.filter((text) => text.includes('"counts"')).length >= 2, 'both were told');
    const base = { format: 1, from: 'stranger', sentAt: Date.now(), pollId: poll.id };
    const { malformed } = two.app.bus.stats;
    const harmless = [
      // Late, and repeated.
      ...seen,
      ...seen,
      'not a message',
      JSON.stringify({
        ...base,
        kind: 'counts',
        version: 50,
        revision: 1,
        ballotCount: 'many',
        updatedAt: 1,
        counts: [],
      }),
      // Whoever looks finds that none of it is so.
      JSON.stringify({ ...base, kind: 'look', version: 1_000_000, revision: 0 }),
      JSON.stringify({ ...base, kind: 'look', version: 1, revision: 1_000_000 }),
      JSON.stringify({ ...base, kind: 'counts', version: 9, revision: 77, ballotCount: 7, updatedAt: 1, counts: [] }),
      JSON.stringify({ ...base, kind: 'gone' }),
      JSON.stringify({ ...base, format: 2, kind: 'erase', version: 12 }),
      JSON.stringify({ ...base, kind: 'counts', version: 1, revision: 1, ballotCount: 0, updatedAt: 1, counts: [] }),
    ];
    for (const text of harmless) await admin.publish(channel, text);
    await eventually(() => two.app.bus.stats.malformed === malformed + 2, 'what is malformed was counted');
    await vote();
    const { last, versions } = await watching.until(({ ballotCount }) => ballotCount === 3);
    expect(versions).toEqual([4]);
    expect(last).toEqual(await results(one.graphql, poll.id));
    expect(await results(two.graphql, poll.id)).toEqual(last);
    listener.disconnect();
  });

  test('M2 what was lost while the subscriptions were cut is found when they stand again', async () => {
    const poll = await createPoll(one.graphql);
    await using watching = await watch(two, poll.id);
    await eventually(async () => (await subscribed(poll.id)) === 1, 'it is subscribed');
    for (let round = 1; round <= 5; round++) {
      const cut = admin.client('KILL', 'TYPE', 'pubsub');
      await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
      await cut;
      expect((await watching.until(({ ballotCount }) => ballotCount === round)).last.version).toBe(round + 1);
    }
  });

  test('who watches is counted over both, and a poll that nobody watches is not subscribed to', async () => {
    const poll = await createPoll(one.graphql);
    const audience = () => one.app.services.hub.known(poll.id)?.watching();
    const here = await watch(one, poll.id);
    const there = await Promise.all(Array.from({ length: 20 }, () => watch(two, poll.id)));
    await eventually(() => audience() === 21, 'all are counted');
    await Promise.all(there.map((peer) => peer[Symbol.asyncDispose]()));
    await eventually(() => audience() === 1, 'one is left');
    await here[Symbol.asyncDispose]();
    await eventually(async () => (await subscribed(poll.id)) === 0, 'nobody is subscribed');
  });
});

describe('processes', () => {
  test('M1 a killed instance is no longer counted as watching, and its votes stay', { timeout: 120_000 }, async () => {
    const env = { DATABASE_URL: database.url, REDIS_URL: redis.url, SECRET: TEST_SECRET };
    await using one = await start(redis.url);
    await using other = await spawnServer(env);
    const graphql = `${other.url}/graphql`;
    const poll = await createPoll(graphql);
    await using watching = await watch(one, poll.id);
    const there = await Promise.all(Array.from({ length: 10 }, () => overEvents(graphql, { pollId: poll.id })));
    const audience = () => one.app.services.hub.known(poll.id)?.watching();
    await eventually(() => audience() === 11, 'all are counted');
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[3]] });
    await watching.until(({ ballotCount }) => ballotCount === 1);

    await other.end('SIGKILL');
    const lives = await admin.keys('pollcast:0:instance:audience:*');
    const left = await Promise.all(lives.map((key) => admin.pttl(key)));
    // It wrote its sign of life with the times of production; the rest of them is not waited for here.
    expect(left.filter((ms) => ms > 1_000 && ms <= 30_000)).toHaveLength(1);
    await Promise.all(lives.filter((_, index) => Number(left[index]) > 1_000).map((key) => admin.pexpire(key, 1)));
    await eventually(() => audience() === 1, 'those of the dead are gone');
    expect((await results(one.graphql, poll.id)).ballotCount).toBe(1);
    for (const peer of there) await peer[Symbol.asyncDispose]();
  });

  test('TLS, user, password and the number of a database in REDIS_URL', { timeout: 120_000 }, async () => {
    await using secure = await startRedis({
      tls: true,
      args: ['--user', 'poll', 'on', '>open:sesame', '~*', '&*', '+@all'],
    });
    const url = secure.tlsUrl.replace('rediss://', 'rediss://poll:open%3Asesame@');
    const env = { DATABASE_URL: database.url, REDIS_URL: `${url}/7`, SECRET: TEST_SECRET, LOG_LEVEL: 'info' };
    const listener = new Redis(secure.url);
    const seen: string[] = [];
    listener.on('message', (_, text) => seen.push(text));
    {
      await using trusting = await spawnServer({ ...env, NODE_EXTRA_CA_CERTS: secure.certificate });
      await eventually(() => /Redis is connected/.test(trusting.output()), 'it is connected');
      const poll = await createPoll(`${trusting.url}/graphql`);
      await listener.subscribe(`pollcast:7:poll:${poll.id}`);
      await castVote(`${trusting.url}/graphql`, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
      await eventually(() => seen.some((text) => JSON.parse(text).ballotCount === 1), 'the vote was told');
      expect((await trusting.end('SIGTERM')).code).toBe(0);
    }
    // Whom it does not trust it does not talk to; it serves all the same.
    await using wary = await spawnServer(env);
    await eventually(() => /Redis is away/.test(wary.output()), 'it says so');
    expect(wary.output()).toMatch(/SELF_SIGNED/);
    expect(wary.output()).not.toMatch(/sesame/);
    const poll = await createPoll(`${wary.url}/graphql`);
    await castVote(`${wary.url}/graphql`, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    listener.disconnect();
  });
});

describe('without Redis', () => {
  test('M3 Redis dies and comes back while votes flow: none fails, watchers go on and recover', async () => {
    await using own = await startRedis();
    await using one = await start(own.url, { reconcileMs: 200 });
    await using two = await start(own.url, { reconcileMs: 200 });
    await connected(one, two);
    const poll = await createPoll(one.graphql);
    const peers = await Promise.all([watch(one, poll.id), watch(two, poll.id), watch(two, poll.id, overEvents)]);
    let cast = 0;
    let stopped = false;
    const flood = Array.from({ length: 8 }, async (_, worker) => {
      while (!stopped) {
        const { graphql } = worker % 2 === 0 ? one : two;
        const answer = await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[worker % 4]] });
        expect(answer.receipt.outcome).toBe('RECORDED');
        cast++;
      }
    });
    const more = async (count: number) => {
      const from = cast;
      await eventually(() => cast >= from + count, `${count} more votes`);
    };
    await more(200);
    for (const kill of [true, false]) {
      await (kill ? own.kill() : own.stop());
      await eventually(() => !one.app.bus.connected && !two.app.bus.connected, 'both have lost it');
      await more(200);
      // Watchers go on meanwhile.
      const { ballotCount } = await results(one.graphql, poll.id);
      for (const peer of peers) await peer.until((seen) => seen.ballotCount >= ballotCount);
      await own.restart();
      await connected(one, two);
      const { received } = two.app.bus.stats;
      await eventually(() => two.app.bus.stats.received > received, 'news comes over the bus again');
      await more(200);
    }
    stopped = true;
    await Promise.all(flood);
    const end = await results(one.graphql, poll.id);
    expect(end.ballotCount).toBe(cast);
    for (const peer of peers) {
      const { last, versions } = await peer.until(({ version }) => version >= end.version);
      expect(last).toEqual(end);
      expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
      await peer[Symbol.asyncDispose]();
    }
    expect((await one.app.store.recount()).differences).toEqual([]);
  });

  test('M3 an instance starts while Redis is away, serves, and hears of the other when Redis comes', async () => {
    await using own = await startRedis();
    await own.stop();
    await using one = await start(own.url);
    await using two = await start(own.url);
    const poll = await createPoll(one.graphql);
    await using watching = await watch(two, poll.id);
    await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    expect(one.app.bus.connected).toBe(false);
    await own.restart();
    // What was missed is read when the subscription stands; what comes then is heard.
    await watching.until(({ ballotCount }) => ballotCount === 1);
    await connected(one, two);
    await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] });
    await watching.until(({ ballotCount }) => ballotCount === 2);
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]),
  );
}
