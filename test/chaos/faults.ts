/** The faults. Each breaks something, checks that votes go on if they must, and repairs it. */
import { expect } from 'vitest';
import type { Storm } from '../support/storm.ts';
import type { Instance, World } from './world.ts';

export interface Scene {
  readonly world: World;
  readonly storm: Storm;
  /** A whole number below. */
  readonly random: (below: number) => number;
  /** How long an outage lasts, in milliseconds. */
  readonly outage: { readonly redis: number; readonly postgres: number };
}

export type Fault = (scene: Scene) => Promise<void>;

const SOME = 30;

async function killInstance({ world, storm, random }: Scene): Promise<void> {
  const one = pick(world.instances, random);
  expect(await one.end('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' });
  await storm.more(SOME);
  await one.start();
  await storm.more(SOME);
}

async function drainInstance({ world, storm, random }: Scene): Promise<void> {
  const one = pick(world.instances, random);
  expect(await one.end('SIGTERM')).toEqual({ code: 0, signal: null });
  await storm.more(SOME);
  await one.start();
  await storm.more(SOME);
}

/** One after the other: no vote needs more than a second try. */
async function rollingRestart({ world, storm }: Scene): Promise<void> {
  await storm.more(SOME);
  storm.mostTries();
  for (const one of world.instances) {
    expect(await one.end('SIGTERM')).toEqual({ code: 0, signal: null });
    await one.start();
    await storm.more(SOME);
  }
  expect(storm.mostTries()).toBeLessThanOrEqual(2);
}

/** M3: no vote waits for Redis or is refused because Redis is down. */
async function withoutRedis({ storm }: Scene, breaks: () => Promise<void>): Promise<void> {
  const before = [...storm.refused.values()].reduce((sum, count) => sum + count, 0);
  await breaks();
  await storm.more(SOME);
  expect([...storm.refused.values()].reduce((sum, count) => sum + count, 0)).toBe(before);
}

async function killRedis(scene: Scene): Promise<void> {
  const { redis } = scene.world;
  await withoutRedis(scene, async () => {
    await redis.kill();
    await scene.storm.more(SOME);
    await redis.restart();
  });
}

async function loseRedis(scene: Scene): Promise<void> {
  const { redisNetwork } = scene.world;
  await withoutRedis(scene, async () => {
    redisNetwork.swallow();
    await votesFor(scene, scene.outage.redis);
    redisNetwork.heal();
  });
}

async function dropSubscribers(scene: Scene): Promise<void> {
  await withoutRedis(scene, async () => {
    for (let round = 0; round < 3; round++) {
      await scene.world.redisAdmin.client('KILL', 'TYPE', 'pubsub');
      await scene.storm.more(SOME);
    }
  });
}

/** M2: malformed, of a newer format, repeated, and late. */
async function badMessages(scene: Scene): Promise<void> {
  const { world, storm } = scene;
  const channels = storm.polls.map(({ id }) => `pollcast:0:poll:${id}`);
  const overheard: [channel: string, message: string][] = [];
  const ear = world.redisAdmin.duplicate();
  ear.on('error', () => {});
  ear.on('message', (channel, message) => overheard.push([channel, message]));
  await ear.subscribe(...channels);
  await withoutRedis(scene, async () => {
    await storm.more(SOME);
    for (const [n, channel] of channels.entries()) {
      const pollId = storm.polls[n]?.id;
      const newer = { format: 9, from: 'tomorrow', pollId, version: 2 ** 40, shape: 'unknown' };
      for (const text of ['', 'nonsense', '{"format":1', '[]', '{"format":1,"from":"x"}', JSON.stringify(newer)]) {
        await world.redisAdmin.publish(channel, text);
      }
      await world.redisAdmin.publish(channel, Buffer.from([0xff, 0x00, 0xfe]));
    }
    // Old messages arrive again, the newest first, after much newer ones.
    for (const [channel, message] of overheard.splice(0).reverse()) await world.redisAdmin.publish(channel, message);
  });
  ear.disconnect();
}

async function restartPostgres({ world, storm }: Scene): Promise<void> {
  await world.postgres.stop();
  await storm.moreRefused(SOME);
  await world.postgres.restart();
  await storm.more(SOME);
}

async function killPostgres({ world, storm }: Scene): Promise<void> {
  await world.postgres.kill();
  await storm.moreRefused(SOME);
  await world.postgres.restart();
  await storm.more(SOME);
}

async function terminateSessions({ world, storm }: Scene): Promise<void> {
  for (const { pid } of await world.admin`SELECT pid FROM pg_stat_activity WHERE application_name = 'pollcast'`) {
    await world.admin`SELECT pg_terminate_backend(${pid})`;
    await storm.more(3);
  }
}

async function losePostgres(scene: Scene): Promise<void> {
  const { postgresNetwork } = scene.world;
  postgresNetwork.swallow();
  await new Promise((resolve) => setTimeout(resolve, scene.outage.postgres));
  postgresNetwork.heal();
  await scene.storm.more(SOME);
}

async function cutNetwork({ world, storm, random }: Scene): Promise<void> {
  for (const network of [world.postgresNetwork, world.redisNetwork]) {
    network.delay(random(20));
    network.cut();
    await storm.more(SOME);
    network.delay(0);
  }
}

/** Two at once: an instance dies, and starts again, while Redis is away. */
async function killWithoutRedis(scene: Scene): Promise<void> {
  const { redis, redisNetwork } = scene.world;
  await redis.kill();
  redisNetwork.cut();
  await killInstance(scene);
  await redis.restart();
  await scene.storm.more(SOME);
}

export const FAULTS = {
  'an instance is killed': killInstance,
  'an instance is drained': drainInstance,
  'a rolling restart': rollingRestart,
  'Redis is killed': killRedis,
  'Redis is out of reach': loseRedis,
  'subscribers of Redis are dropped': dropSubscribers,
  'bad messages on the bus': badMessages,
  'an instance is killed while Redis is away': killWithoutRedis,
  'Postgres is restarted': restartPostgres,
  'Postgres is killed': killPostgres,
  'sessions of Postgres are terminated': terminateSessions,
  'Postgres is out of reach': losePostgres,
  'connections are cut, and slow': cutNetwork,
} as const satisfies Record<string, Fault>;

export type FaultName = keyof typeof FAULTS;

async function votesFor({ storm }: Scene, milliseconds: number): Promise<void> {
  const end = Date.now() + milliseconds;
  while (Date.now() < end) await storm.more(SOME);
}

function pick(instances: readonly Instance[], random: Scene['random']): Instance {
  const one = instances[random(instances.length)];
  if (one === undefined) throw new Error('There are instances.');
  return one;
}
