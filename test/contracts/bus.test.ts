/** One contract, every Bus: what the hub relies on; and what only a bus between machines must bear. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeLocalBus } from '../../src/bus/local.ts';
import { openRedisBus } from '../../src/bus/redis/open.ts';
import { systemClock } from '../../src/ops/clock.ts';
import type { Bus, PollNews } from '../../src/ports/bus.ts';
import type { Log } from '../../src/ports/log.ts';
import type { Presence } from '../../src/ports/presence.ts';
import { eventually, Inbox } from '../support/peers.ts';
import { freePort } from '../support/ports.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

/** Everything that was logged, to be searched for what must or must not be there. */
function makeTestLog() {
  const lines: string[] = [];
  const write = (level: string) => (fields: object, message: string) =>
    void lines.push(JSON.stringify({ level, message, ...fields }));
  const log: Log = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
  return { log, lines };
}

interface Instance {
  readonly bus: Bus;
  readonly presence: Presence;
  readonly lines: readonly string[];
}

const opened: Instance[] = [];
afterEach(async () => {
  for (const { bus, presence } of opened.splice(0)) {
    await presence.close();
    await bus.close();
  }
});

const TIMES = { pulseMs: 200, beatMs: 100, lifeMs: 400, reportMs: 20 };

function openInstance(url: string): Instance {
  const { log, lines } = makeTestLog();
  const instance = { ...openRedisBus({ url, clock: systemClock, log, times: TIMES }), lines };
  opened.push(instance);
  return instance;
}

/** A client of the test's own, which does what the instances do not. */
function adminOf(url: string, password?: string): Redis & Disposable {
  const client = new Redis(url, password === undefined ? {} : { password });
  // It outlives nothing that the test breaks.
  client.on('error', () => {});
  return Object.assign(client, { [Symbol.dispose]: () => client.disconnect() });
}

/** Listens to a poll; resolves when the subscription stands. */
async function listen(bus: Bus, pollId: string) {
  const inbox = new Inbox<PollNews>();
  const standing = new Inbox<true>();
  const stop = bus.subscribe(
    pollId,
    (news) => inbox.push(news),
    () => standing.push(true),
  );
  await standing.next();
  return { next: () => inbox.next(), standing, stop, inbox };
}

const counts = (pollId: string, version: number, more: Partial<PollNews & { kind: 'counts' }> = {}): PollNews => ({
  kind: 'counts',
  pollId,
  version,
  revision: 1,
  ballotCount: version - 1,
  updatedAt: 1_700_000_000_000,
  counts: new Map([['1', version - 1]]),
  ...more,
});

let redis: RedisServer;
let admin: Redis & Disposable;
beforeAll(async () => {
  redis = await startRedis();
  admin = adminOf(redis.url);
});
afterAll(async () => {
  admin[Symbol.dispose]();
  await redis[Symbol.asyncDispose]();
});

describe.each<[string, () => Bus]>([
  ['in this process', makeLocalBus],
  ['Redis', () => openInstance(redis.url).bus],
])('the bus: %s', (_, open) => {
  test('a subscription says when it stands, and not after its stop', async () => {
    const bus = open();
    const { stop } = await listen(bus, 'p');
    stop();
    let called = 0;
    bus.subscribe(
      'q',
      () => called++,
      () => called++,
    )();
    // Another one's turn comes after it.
    await listen(bus, 'r');
    expect(called).toBe(0);
  });

  test('what an instance says does not come back to it', async () => {
    const bus = open();
    const { inbox } = await listen(bus, 'p');
    // What is said while the other connection is not there yet is not sent.
    if (!bus.alone) await eventually(async () => bus.connected, 'both connections stand');
    bus.publish(counts('p', 2));
    bus.publish({ kind: 'gone', pollId: 'p' });
    if (!bus.alone) await eventually(async () => bus.stats.published === 2, 'both are out');
    // Redis answers in order: a second subscription stands after they came.
    await listen(bus, 'q');
    await listen(bus, 's');
    expect(inbox.size).toBe(0);
    expect(bus.stats.received).toBe(0);
  });

  test('publishing never throws, also when it is closed', async () => {
    const bus = open();
    bus.publish(counts('p', 2));
    await bus.close();
    bus.publish(counts('p', 3));
    bus.subscribe(
      'p',
      () => {},
      () => {},
    )();
    await bus.close();
  });
});

describe('the bus between instances', () => {
  test('M2 news arrives whole, as it was sent, at those who listen to that poll', async () => {
    const [one, two] = [openInstance(redis.url), openInstance(redis.url)];
    const a = await listen(two.bus, 'a');
    const b = await listen(two.bus, 'b');
    await eventually(() => one.bus.connected, 'the sender is connected');
    const sent: PollNews[] = [
      counts('a', 7, { counts: new Map([...Array(100).keys()].map((n) => [`${n + 1}`, n + 1])), revision: 3 }),
      counts('a', 8, { counts: new Map([['3,1,2', 5]]) }),
      counts('a', 9, { counts: new Map([['-4', 5]]), ballotCount: 5 }),
      counts('a', 1, { counts: new Map(), ballotCount: 0 }),
      { kind: 'look', pollId: 'a', version: 0, revision: 0 },
      { kind: 'gone', pollId: 'a' },
    ];
    for (const news of sent) one.bus.publish(news);
    one.bus.publish(counts('b', 2));
    for (const news of sent) expect(await a.next()).toEqual(news);
    expect(await b.next()).toEqual(counts('b', 2));
    expect(a.inbox.size).toBe(0);
    expect(two.bus.stats).toMatchObject({ received: sent.length + 1, malformed: 0, lagMs: expect.any(Number) });
  });

  test('M2 its own news, and only its own, is passed over', async () => {
    const [one, two] = [openInstance(redis.url), openInstance(redis.url)];
    const [own, other] = [await listen(one.bus, 'a'), await listen(two.bus, 'a')];
    await eventually(() => one.bus.connected && two.bus.connected, 'both are connected');
    one.bus.publish(counts('a', 2));
    expect(await other.next()).toEqual(counts('a', 2));
    two.bus.publish(counts('a', 3));
    expect(await own.next()).toEqual(counts('a', 3));
    expect(one.bus.stats.received).toBe(1);
  });

  test('counts of very many keys are left out: who wants them looks', async () => {
    const [one, two] = [openInstance(redis.url), openInstance(redis.url)];
    const { next } = await listen(two.bus, 'a');
    await eventually(() => one.bus.connected, 'the sender is connected');
    const many = (size: number) => new Map([...Array(size).keys()].map((n) => [`${n},1`, 1]));
    one.bus.publish(counts('a', 2, { counts: many(2_000) }));
    one.bus.publish(counts('a', 3, { counts: many(2_001), revision: 4 }));
    expect(await next()).toMatchObject({ kind: 'counts', version: 2 });
    expect(await next()).toEqual({ kind: 'look', pollId: 'a', version: 3, revision: 4 });
  });

  test('after the stop nothing comes; listened to anew, it stands and hears again', async () => {
    const [one, two] = [openInstance(redis.url), openInstance(redis.url)];
    await eventually(() => one.bus.connected, 'the sender is connected');
    const first = await listen(two.bus, 'a');
    first.stop();
    const second = await listen(two.bus, 'a');
    one.bus.publish(counts('a', 2));
    expect(await second.next()).toEqual(counts('a', 2));
    expect(first.inbox.size).toBe(0);
    second.stop();
    await eventually(
      async () => (await admin.pubsub('NUMSUB', 'pollcast:0:poll:a'))[1] === 0,
      'Redis has no subscription',
    );
  });

  test('M2 what is malformed is counted and logged quietly, and costs nothing that comes after it', async () => {
    const two = openInstance(redis.url);
    const { next } = await listen(two.bus, 'a');
    const good = { format: 1, from: 'x', sentAt: 1, ...counts('a', 2), counts: [['1', 1]] };
    const bad: unknown[] = [
      null,
      42,
      'text',
      [],
      {},
      { ...good, format: 0 },
      { ...good, format: 'one' },
      { ...good, from: '' },
      { ...good, from: 7 },
      { ...good, sentAt: -1 },
      { ...good, kind: 'votes' },
      { ...good, pollId: 'b' },
      { ...good, version: 0 },
      { ...good, version: 1.5 },
      { ...good, version: '2' },
      { ...good, version: 2 ** 60 },
      { ...good, revision: null },
      { ...good, ballotCount: -1 },
      { ...good, updatedAt: 'now' },
      { ...good, counts: { 1: 1 } },
      { ...good, counts: [['1']] },
      { ...good, counts: [['1', -1]] },
      { ...good, counts: [['1', 0]] },
      { ...good, counts: [['__proto__', 1]] },
      {
        ...good,
        counts: [
          ['1', 1],
          ['1', 2],
        ],
      },
      { ...good, counts: Array(3_000).fill(['1', 1]) },
      { ...good, format: 2, version: undefined },
      { format: 1, from: 'x', sentAt: 1, kind: 'look', pollId: 'a' },
      { format: 1, from: 'x', sentAt: 1, kind: 'audience', pollId: 'a', seq: 1, watching: 'all' },
    ];
    const raw = ['', '{', '\u0000', '{"format":1', ...bad.map((value) => JSON.stringify(value))];
    for (const text of raw) await admin.publish('pollcast:0:poll:a', text);
    await admin.publish('pollcast:0:poll:a', Buffer.from([0xff, 0xfe, 0x00]));
    await admin.publish('pollcast:0:poll:a', JSON.stringify(good));
    expect(await next()).toEqual(counts('a', 2));
    expect(two.bus.stats).toMatchObject({ received: 1, malformed: raw.length + 1 });
    const told = two.lines.filter((line) => /not understood/.test(line));
    expect(told).toHaveLength(raw.length + 1);
    expect(told.filter((line) => !line.includes('"level":"debug"'))).toEqual([]);
  });

  test('M2 a newer format that names a version is a hint to look, with what can be read of it', async () => {
    const { next } = await listen(openInstance(redis.url).bus, 'a');
    const say = (fields: object) => admin.publish('pollcast:0:poll:a', JSON.stringify({ pollId: 'a', ...fields }));
    await say({ format: 2, version: 9, kind: 'delta', counts: 'packed' });
    await say({ format: 3, version: 10, revision: 4 });
    expect(await next()).toEqual({ kind: 'look', pollId: 'a', version: 9, revision: 0 });
    expect(await next()).toEqual({ kind: 'look', pollId: 'a', version: 10, revision: 4 });
  });

  test('the number of the database keeps two deployments on one Redis apart', async () => {
    const [zero, three, also] = ['', '/3', '/3'].map((path) => openInstance(redis.url + path)) as [
      Instance,
      Instance,
      Instance,
    ];
    const [atZero, atThree] = [await listen(zero.bus, 'a'), await listen(three.bus, 'a')];
    await eventually(() => also.bus.connected, 'the sender is connected');
    also.bus.publish(counts('a', 2));
    expect(await atThree.next()).toEqual(counts('a', 2));
    expect(atZero.inbox.size).toBe(0);
  });
});

describe('M3 trouble with Redis', () => {
  const OWN: (readonly [string, RegExp, (server: RedisServer, admin: Redis) => Promise<unknown>])[] = [
    ['its subscribers are cut off', /Redis is back/, (_, admin) => admin.client('KILL', 'TYPE', 'pubsub')],
    [
      'all its clients are cut off',
      /Redis is back/,
      (_, admin) => admin.client('KILL', 'SKIPME', 'yes', 'TYPE', 'normal'),
    ],
    ['it hangs', /no answer/, (_, admin) => admin.client('PAUSE', 1_500)],
    [
      'it is killed and comes back empty',
      /Redis is back/,
      async (server) => {
        await server.kill();
        await server.restart();
      },
    ],
  ];

  test.each(OWN)('%s: subscriptions stand again and say so, and news flows', async (_, said, trouble) => {
    await using server = await startRedis();
    using own = adminOf(server.url);
    const [one, two] = [openInstance(server.url), openInstance(server.url)];
    const polls = await Promise.all(['a', 'b', 'c'].map((id) => listen(two.bus, id)));
    await eventually(() => one.bus.connected, 'the sender is connected');
    await trouble(server, own);
    // It stood once more for each that was cut off; then everything said arrives.
    let version = 1;
    await eventually(() => {
      one.bus.publish(counts('a', ++version));
      return polls[0]?.inbox.size !== 0;
    }, 'news arrives again');
    await eventually(() => one.bus.connected && two.bus.connected, 'both are connected');
    expect(two.lines.join('\n')).toMatch(said);
    for (const [index, id] of ['a', 'b', 'c'].entries()) one.bus.publish(counts(id, 1_000_000 + index));
    for (const [index, poll] of polls.entries()) {
      for (;;) {
        const news = await poll.next();
        if (news.kind === 'counts' && news.version === 1_000_000 + index) break;
      }
    }
  });

  test('what was said while it was away is not said later', async () => {
    await using server = await startRedis();
    const [one, two] = [openInstance(server.url), openInstance(server.url)];
    const { next, standing } = await listen(two.bus, 'a');
    await eventually(() => one.bus.connected, 'the sender is connected');
    await server.stop();
    await eventually(() => !one.bus.connected && !two.bus.connected, 'both know');
    for (let version = 2; version < 100; version++) one.bus.publish(counts('a', version));
    expect(one.bus.stats.dropped).toBe(98);
    await server.restart();
    await standing.next();
    await eventually(() => one.bus.connected, 'the sender is back');
    one.bus.publish(counts('a', 100));
    expect(await next()).toEqual(counts('a', 100));
  });

  test('it starts without Redis, says so once, and is there when Redis is', async () => {
    await using server = await startRedis();
    await server.stop();
    const one = openInstance(server.url);
    const two = openInstance(server.url);
    const listening = listen(two.bus, 'a');
    await eventually(() => one.lines.some((line) => /Redis is away/.test(line)), 'it says so');
    one.bus.publish(counts('a', 2));
    expect(one.bus.stats).toMatchObject({ published: 0, dropped: 1 });
    await server.restart();
    const { next } = await listening;
    await eventually(() => one.bus.connected, 'the sender is connected');
    one.bus.publish(counts('a', 3));
    expect(await next()).toEqual(counts('a', 3));
    const said = one.lines.filter((line) => /"level":"(info|warn|error)"/.test(line));
    expect(said.map((line) => JSON.parse(line).message)).toEqual([
      expect.stringMatching(/^Redis is away/),
      'Redis is back',
    ]);
  });

  test('it ends in any state: before the first connection, and while it tries', async () => {
    const port = await freePort();
    const never = openInstance(`redis://127.0.0.1:${port}`);
    void listen(never.bus, 'a').catch(() => {});
    await never.presence.close();
    await never.bus.close();
    const trying = openInstance(`redis://127.0.0.1:${port}`);
    await eventually(() => trying.lines.length > 0, 'it has tried');
    await trying.presence.close();
    await trying.bus.close();
  });

  test('user and password: percent-encoded in the URL, never in the log', async () => {
    await using server = await startRedis({ args: ['--requirepass', 'p@ss/wörd'] });
    using own = adminOf(server.url, 'p@ss/wörd');
    await own.acl('SETUSER', 'li:sa@x', 'on', '>s:cr#t', '~pollcast:*', '&pollcast:*', '+@all');
    const url = (user: string, password: string) =>
      server.url.replace('redis://', `redis://${encodeURIComponent(user)}:${encodeURIComponent(password)}@`);
    const one = openInstance(url('', 'p@ss/wörd'));
    const two = openInstance(`${url('li:sa@x', 's:cr#t')}/5`);
    const wrong = openInstance(`${url('li:sa@x', 'hidden-word')}/5`);
    await listen(one.bus, 'a');
    const { next } = await listen(two.bus, 'a');
    await own.publish('pollcast:5:poll:a', JSON.stringify({ format: 2, pollId: 'a', version: 4 }));
    expect(await next()).toMatchObject({ kind: 'look', version: 4 });
    await eventually(() => wrong.lines.some((line) => /WRONGPASS/.test(line)), 'it says what is wrong');
    expect(wrong.bus.connected).toBe(false);
    expect([one, two, wrong].flatMap(({ lines }) => lines).join()).not.toMatch(/hidden-word|s:cr#t|p@ss/);
  });

  test('a subscription that Redis refuses is said so, and asked for again', async () => {
    await using server = await startRedis();
    using own = adminOf(server.url);
    await own.acl('SETUSER', 'deaf', 'on', '>secret', '~*', 'resetchannels', '+@all');
    const { bus, lines } = openInstance(server.url.replace('redis://', 'redis://deaf:secret@'));
    const listening = listen(bus, 'a');
    await eventually(() => lines.some((line) => /refuses a subscription.*NOPERM/.test(line)), 'it says so');
    await own.acl('SETUSER', 'deaf', 'allchannels');
    await listening;
  });
});

describe('presence over Redis', () => {
  const total = (instance: Instance, wanted: number) =>
    eventually(() => instance.presence.total('p') === wanted, `${wanted} are seen`);

  test('each counts all; who comes later sees who is there; who leaves is not counted', async () => {
    const [one, two] = [openInstance(redis.url), openInstance(redis.url)];
    const changes = new Inbox<string>();
    one.presence.listen((pollId) => changes.push(pollId));
    const stop = one.presence.follow('p');
    one.presence.report('p', 3);
    expect(one.presence.total('p')).toBe(3);
    two.presence.report('p', 4);
    await total(one, 7);
    expect(await changes.next()).toBe('p');
    const three = openInstance(redis.url);
    three.presence.follow('p');
    await total(three, 7);
    for (let watching = 5; watching < 50; watching++) two.presence.report('p', watching);
    await Promise.all([total(one, 52), total(three, 52)]);
    two.presence.report('p', 0);
    await Promise.all([total(one, 3), total(three, 3)]);
    stop();
    expect(one.presence.total('p')).toBe(3);
    one.presence.report('p', 0);
    await eventually(async () => (await admin.exists('pollcast:0:audience:p')) === 0, 'nothing is left in Redis');
  });

  test('an instance that ends takes its numbers back; one that dies runs out', async () => {
    const [one, two, three] = [openInstance(redis.url), openInstance(redis.url), openInstance(redis.url)];
    one.presence.follow('p');
    two.presence.report('p', 10);
    three.presence.report('p', 100);
    await total(one, 110);
    await two.presence.close();
    await total(one, 100);
    // Without a goodbye: its connections are cut and it says nothing more.
    await three.bus.close();
    await total(one, 0);
    await eventually(async () => (await admin.exists('pollcast:0:audience:p')) === 0, 'nothing is left in Redis');
  });

  test('M3 after a restart of Redis everything is reported again', async () => {
    await using server = await startRedis();
    const [one, two] = [openInstance(server.url), openInstance(server.url)];
    for (const { presence } of [one, two]) presence.follow('p');
    one.presence.report('p', 1);
    two.presence.report('p', 20);
    await Promise.all([total(one, 21), total(two, 21)]);
    await server.kill();
    one.presence.report('p', 2);
    expect(one.presence.total('p')).toBe(22);
    await server.restart();
    await Promise.all([total(one, 22), total(two, 22)]);
    using own = adminOf(server.url);
    await eventually(async () => (await own.hlen('pollcast:0:audience:p')) === 2, 'both are there again');
  });
});
