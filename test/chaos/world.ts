/** The system under chaos: instances as processes on their own Postgres and Redis, each behind a faulty network. */
import { Redis } from 'ioredis';
import postgres from 'postgres';
import { freePort } from '../support/ports.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { startProxy, type TcpProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { type ServerProcess, spawnServer, TEST_SECRET } from '../support/server.ts';

export interface Instance {
  readonly url: string;
  /** Whether clients use this instance: it runs and is not stopping. */
  isUp: boolean;
  start(): Promise<void>;
  end(signal: NodeJS.Signals): ReturnType<ServerProcess['end']>;
}

export interface World extends AsyncDisposable {
  readonly instances: readonly Instance[];
  /** The URLs of those that are up. */
  readonly urls: () => readonly string[];
  readonly postgres: PostgresServer;
  /** Past the network. */
  readonly databaseUrl: string;
  readonly admin: postgres.Sql;
  readonly postgresNetwork: TcpProxy;
  readonly redis: RedisServer;
  /** Past the network. */
  readonly redisAdmin: Redis;
  readonly redisNetwork: TcpProxy;
}

/** All instances start at once, on an empty database. */
export async function openWorld(count: number): Promise<World> {
  const closing: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const stop of closing.splice(0).reverse()) await stop();
  };
  try {
    return await build(count, closing, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(count: number, closing: (() => unknown)[], close: () => Promise<void>): Promise<World> {
  const own = <T extends AsyncDisposable>(resource: T): T => {
    closing.push(() => resource[Symbol.asyncDispose]());
    return resource;
  };
  const server = own(await startPostgres());
  const redis = own(await startRedis());
  const databaseUrl = await server.createDatabase();
  const postgresNetwork = own(await startProxy(databaseUrl));
  const redisNetwork = own(await startProxy(redis.url));
  const admin = postgres(server.url, { max: 1, onnotice: () => {} });
  closing.push(() => admin.end({ timeout: 1 }));
  const redisAdmin = new Redis(redis.url, { maxRetriesPerRequest: null });
  redisAdmin.on('error', () => {});
  closing.push(() => redisAdmin.disconnect());
  const env = {
    DATABASE_URL: postgresNetwork.url,
    REDIS_URL: redisNetwork.url,
    SECRET: TEST_SECRET,
    LIVE_INTERVAL_MS: '20',
    LOG_LEVEL: 'fatal',
    DRAIN_MS: '500',
  };
  const instances = await Promise.all(Array.from({ length: count }, async () => makeInstance(await freePort(), env)));
  for (const instance of instances) closing.push(() => instance.end('SIGKILL'));
  await Promise.all(instances.map((instance) => instance.start()));
  return {
    instances,
    urls: () => instances.filter(({ isUp }) => isUp).map(({ url }) => url),
    postgres: server,
    databaseUrl,
    admin,
    postgresNetwork,
    redis,
    redisAdmin,
    redisNetwork,
    [Symbol.asyncDispose]: close,
  };
}

function makeInstance(port: number, env: Record<string, string>): Instance {
  let running: ServerProcess | null = null;
  const instance: Instance = {
    url: `http://127.0.0.1:${port}`,
    isUp: false,
    async start() {
      running = await spawnServer({ ...env, PORT: String(port) });
      instance.isUp = true;
    },
    async end(signal) {
      instance.isUp = false;
      const ending = running;
      running = null;
      return ending === null ? { code: null, signal: null } : ending.end(signal);
    },
  };
  return instance;
}
