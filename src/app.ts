/** The only file that knows every room: builds from the bottom, disposes from the top. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeAccounts } from './access/accounts.ts';
import { LIMITS } from './access/limits.ts';
import { makeRates } from './access/rates.ts';
import { makeVoters } from './access/voters.ts';
import { makeLocalPresence } from './bus/local.ts';
import { type Config, readSecret } from './config.ts';
import { InvalidInputError } from './core/errors.ts';
import type { Clock, Log, Store } from './core/ports.ts';
import type { Services } from './graphql/builder.ts';
import { makeEngine } from './graphql/engine.ts';
import { makeHub } from './live/hub.ts';
import { systemClock } from './ops/clock.ts';
import { makeLog } from './ops/log.ts';
import { makeBatcher } from './polls/batcher.ts';
import { makeIntake } from './polls/intake.ts';
import { makeManage } from './polls/manage.ts';
import { openStore } from './store/store.ts';
import { makeAddresses } from './transport/address.ts';
import { makeHttpServer } from './transport/http.ts';
import { makeLiveness } from './transport/liveness.ts';
import { makePolling } from './transport/polling.ts';
import { makeEventStreams } from './transport/sse.ts';
import { makeWebSockets } from './transport/ws.ts';

/** How often a connection is asked for a sign of life: a dead peer is dropped within two rounds, 50 s. */
const LIVENESS_ROUND_MS = 25_000;

export interface App {
  readonly url: string;
  readonly services: Services;
  readonly store: Store;
  /** How many connections are open now. */
  readonly connections: () => {
    readonly webSockets: number;
    readonly streams: number;
    readonly waiting: number;
    readonly watching: number;
  };
  /** Takes nothing more, finishes what it took, closes all connections, and resolves when nothing is left running. */
  stop(): Promise<void>;
}

/** What a test may bring along in place of the real thing. */
export interface Parts {
  readonly clock?: Clock;
  readonly log?: Log;
  readonly livenessRoundMs?: number;
  readonly stallMs?: number;
  readonly reconcileMs?: number;
  readonly patience?: { readonly headersMs: number; readonly requestMs: number };
}

/** Starts. Throws `InvalidInputError` where the configuration is at fault, and leaves nothing running then. */
export async function startApp(config: Config, parts: Parts = {}): Promise<App> {
  const clock = parts.clock ?? systemClock;
  const log = parts.log ?? makeLog(config.logLevel, false);
  const store = await openStore(config);
  try {
    return await startOn(store, config, clock, log, parts);
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function startOn(store: Store, config: Config, clock: Clock, log: Log, parts: Parts): Promise<App> {
  const voters = makeVoters(readSecret(config));
  const { stallMs, reconcileMs } = parts;
  const hub = makeHub({
    store,
    clock,
    log,
    presence: makeLocalPresence(),
    intervalMs: config.liveIntervalMs,
    ...(stallMs === undefined ? {} : { stallMs }),
    ...(reconcileMs === undefined ? {} : { reconcileMs }),
  });
  const batcher = makeBatcher({
    store,
    clock,
    maxWaiting: LIMITS.waitingBallots,
    onCommitted: (changes) => changes.forEach(hub.committed),
  });
  const intake = makeIntake({ store, hub, batcher, voters, clock });
  const { jwt, pollCreation, corsOrigins, trustedProxies, limits } = config.access;
  const addresses = makeAddresses(trustedProxies, (address) =>
    log.warn({ address }, 'X-Forwarded-For from an address that is not in TRUSTED_PROXIES: all behind it count as one'),
  );
  const accounts = jwt === null ? null : makeAccounts(jwt, clock, log);
  const manage = makeManage({ store, hub, clock, accounts: accounts !== null, creation: pollCreation });
  const rates = makeRates({ ...limits, log });
  const services: Services = { intake, manage, hub, voters, accounts, rates };
  const engine = makeEngine(log);
  const liveness = makeLiveness(clock, parts.livenessRoundMs ?? LIVENESS_ROUND_MS);
  const streams = makeEventStreams(liveness, clock);
  const polling = makePolling(clock);
  const webSockets = makeWebSockets({ engine, services, liveness, clock, log });
  const server = makeHttpServer({
    engine,
    services,
    streams,
    polling,
    webSockets,
    addresses,
    corsOrigins,
    ...(parts.patience === undefined ? {} : { patience: parts.patience }),
    clock,
    log,
    ready: () => store.ping(),
  });
  try {
    await listen(server, config);
  } catch (error) {
    liveness.stop();
    hub.stop();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return {
    url: `http://${host}:${port}`,
    services,
    store,
    connections: () => ({
      webSockets: webSockets.size,
      streams: streams.size,
      waiting: polling.size,
      watching: hub.watching,
    }),
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await batcher.drain();
      streams.close();
      polling.close();
      await webSockets.close(1001, 'The server is going away', 0);
      server.closeIdleConnections();
      const patience = setTimeout(() => server.closeAllConnections(), 2_000);
      await closed;
      clearTimeout(patience);
      liveness.stop();
      hub.stop();
      await store.close();
    },
  };
}

/** Counts all ballots again; see `Store.recount`. */
export async function recount(config: Config): ReturnType<Store['recount']> {
  const store = await openStore(config);
  try {
    return await store.recount();
  } finally {
    await store.close();
  }
}

export { makeLog };

function listen(server: Server, config: Config): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(reasonOf(error, config))));
    server.listen(config.port, config.host, resolve);
  });
}

function reasonOf(error: Error, { host, port }: Config): string {
  const code = 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE')
    return `PORT: ${port} on ${host} is taken by another program. Set PORT to another one, or to 0 for any.`;
  if (code === 'EACCES') return `PORT: listening on ${port} needs more rights. Set PORT to one above 1023.`;
  return `HOST, PORT: cannot listen on ${host}:${port}: ${error.message}`;
}
