/** The only file that knows every room: builds from the bottom, disposes from the top. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeLocalBus, makeLocalPresence } from './bus/local.ts';
import { openRedisBus, type RedisBusOptions } from './bus/redis/open.ts';
import type { Config } from './config/config.ts';
import { readSecret } from './config/secret.ts';
import { InvalidInputError, UnavailableError } from './core/errors.ts';
import type { Services } from './graphql/context.ts';
import { makeEngine } from './graphql/engine/engine.ts';
import { makeAccounts } from './identity/accounts.ts';
import { makeVoterKeys, secretFingerprint } from './identity/voter-keys.ts';
import { LIMITS } from './limits/limits.ts';
import { makeRateLimits } from './limits/rate-limits.ts';
import { makeHub } from './live/hub.ts';
import { systemClock } from './ops/clock.ts';
import { makeLog } from './ops/log.ts';
import { METRICS_TYPE, makeMetrics, renderMetrics, type Snapshot } from './ops/metrics.ts';
import { makeReadiness } from './ops/readiness.ts';
import { makeAudit } from './polls/audit.ts';
import { type ExportFormat, exportPoll as exportOf, loadWhole, makeExports } from './polls/export.ts';
import { makePollManager } from './polls/manage/polls.ts';
import { makeSchedule } from './polls/manage/schedule.ts';
import { makeVoterCodes } from './polls/manage/voter-codes.ts';
import { makeAnomalies } from './polls/votes/anomalies.ts';
import { makeBatcher } from './polls/votes/batcher.ts';
import { makeVotes } from './polls/votes/cast.ts';
import type { Bus } from './ports/bus.ts';
import type { Clock } from './ports/clock.ts';
import type { Dependency } from './ports/dependency.ts';
import type { Log } from './ports/log.ts';
import type { Metrics } from './ports/metrics.ts';
import type { Presence, SharedCounts } from './ports/presence.ts';
import type { Store } from './ports/store.ts';
import { openStore } from './store/store.ts';
import { makeEventStreams } from './transport/events/streams.ts';
import { makeLongPolls } from './transport/polling/long-polls.ts';
import { makeClientAddresses } from './transport/request/client-address.ts';
import { makeHttpServer } from './transport/server.ts';
import { makeHeartbeat } from './transport/socket/heartbeat.ts';
import { makeWebSockets } from './transport/websocket/server.ts';

/** How often a connection is asked for a sign of life: a dead peer is dropped within two rounds, 50 s. */
const LIVENESS_ROUND_MS = 25_000;

/** How long requests that are under way may take at the end, and batches. */
const ANSWERS_MS = 2_000;
const COMMITS_MS = 10_000;

export interface App {
  readonly url: string;
  readonly services: Services;
  readonly store: Store;
  /** Whether other instances are heard of at once, and what was said. */
  readonly bus: Pick<Bus, 'alone' | 'connected' | 'stats'>;
  /** How many connections are open now. */
  readonly connections: () => {
    readonly webSockets: number;
    readonly streams: number;
    readonly waiting: number;
    readonly watching: number;
  };
  /** What this process has counted. */
  readonly metrics: () => Promise<Snapshot>;
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
  /** Stands in front of the store: to count, to fail, or to do it as others do. */
  readonly storeBehind?: (store: Store) => Store;
  readonly busTimes?: RedisBusOptions['times'];
  /** The snapshots of all workers of this machine, this one's among them. */
  readonly gather?: (own: Snapshot) => Promise<readonly Snapshot[]>;
  readonly patience?: { readonly headersMs: number; readonly requestMs: number };
}

/** Starts. Throws `InvalidInputError` where the configuration is at fault, and leaves nothing running then. */
export async function startApp(config: Config, parts: Parts = {}): Promise<App> {
  const clock = parts.clock ?? systemClock;
  const log = parts.log ?? makeLog(config.logLevel, false);
  const opened = await openStore(config);
  const store = parts.storeBehind?.(opened) ?? opened;
  try {
    return await startOn(store, config, clock, log, parts);
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function startOn(store: Store, config: Config, clock: Clock, log: Log, parts: Parts): Promise<App> {
  const secret = readSecret(config);
  await requireSameSecret(store, secret, config);
  const voters = makeVoterKeys(secret);
  const { stallMs, reconcileMs } = parts;
  // Asked when somebody looks: by then all is there.
  const metrics = makeMetrics(() => ({
    ballotsWaiting: batcher.waiting,
    watchers: {
      websocket: webSockets.watching,
      'graphql-sse': streams.graphql,
      sse: streams.size - streams.graphql,
      'long-poll': polling.size,
    },
    webSockets: webSockets.size,
    database: store.load,
  }));
  const { bus, presence, places, shared } = openBus(config, clock, log, metrics, parts);
  const hub = makeHub({
    store,
    clock,
    log,
    bus,
    presence,
    stats: metrics,
    intervalMs: config.liveIntervalMs,
    votesWait: () => batcher.waiting > 0,
    ...(stallMs === undefined ? {} : { stallMs }),
    ...(reconcileMs === undefined ? {} : { reconcileMs }),
  });
  const batcher = makeBatcher({
    store,
    clock,
    maxWaiting: LIMITS.waitingBallots,
    onCommitted: (changes) => changes.forEach(hub.committed),
    onBatch: metrics.batch,
  });
  const { jwt, pollCreation, corsOrigins, trustedProxies, limits } = config.access;
  const addresses = makeClientAddresses(trustedProxies, (address) =>
    log.warn({ address }, 'X-Forwarded-For from an address that is not in TRUSTED_PROXIES: all behind it count as one'),
  );
  const accounts = jwt === null ? null : makeAccounts(jwt, clock, log);
  const rates = makeRateLimits({
    ...limits,
    log,
    refused: metrics.refused,
    ...(shared === null ? {} : { shared }),
    ...(places === null ? {} : { places }),
  });
  const audit = makeAudit({ store, clock, log });
  const anomalies = makeAnomalies({ clock, onAnomaly: metrics.anomaly });
  const schedule = makeSchedule({ store, hub, clock, log, onOpened: anomalies.opened });
  const votes = makeVotes({ store, hub, batcher, voters, clock, audit, anomalies, onVote: metrics.vote });
  const polls = makePollManager({
    store,
    hub,
    clock,
    audit,
    log,
    onChanged: schedule.notice,
    onOpened: anomalies.opened,
    accounts: accounts !== null,
    creation: pollCreation,
  });
  const codes = makeVoterCodes({ store, hub, clock, voters, audit });
  const exports = makeExports({ store, audit });
  const services: Services = {
    votes,
    polls,
    codes,
    audit,
    anomalies,
    exports,
    hub,
    voters,
    accounts,
    rates,
  };
  const engine = makeEngine(log);
  const logRequests = config.logLevel === 'debug' || config.logLevel === 'trace';
  const liveness = makeHeartbeat(clock, parts.livenessRoundMs ?? LIVENESS_ROUND_MS);
  const streams = makeEventStreams(liveness, clock, rates);
  const polling = makeLongPolls(clock);
  const webSockets = makeWebSockets({ engine, services, liveness, clock, log, logRequests });
  const dependencies: Dependency[] = [{ name: 'database', needed: true, check: () => store.ping() }];
  if (!bus.alone) {
    const check = async (): Promise<void> => {
      if (!bus.connected) throw new UnavailableError('Redis does not answer.');
    };
    dependencies.push({ name: 'redis', needed: false, check });
  }
  const gather = parts.gather ?? (async (own: Snapshot) => [own]);
  const http = makeHttpServer({
    logRequests,
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
    ready: makeReadiness(dependencies, clock, log),
    metrics: async () => ({ type: METRICS_TYPE, text: await renderMetrics(await gather(await metrics.snapshot())) }),
  });
  try {
    await listen(http.server, config);
  } catch (error) {
    http.closeIdle();
    liveness.stop();
    hub.stop();
    metrics.stop();
    await Promise.all([presence.close(), places?.close()]);
    await bus.close();
    throw error;
  }
  schedule.start();
  let stopping: Promise<void> | null = null;
  const { port } = http.server.address() as AddressInfo;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return {
    url: `http://${host}:${port}`,
    services,
    store,
    bus,
    connections: () => ({
      webSockets: webSockets.size,
      streams: streams.size,
      waiting: polling.size,
      watching: hub.watching,
    }),
    metrics: metrics.snapshot,
    stop: () => (stopping ??= stop()),
  };

  async function stop(): Promise<void> {
    const { drainMs } = config;
    const gone = http.drain();
    polling.close();
    streams.close(drainMs);
    const closed = webSockets.close(1001, 'The server is going away', drainMs);
    // Connections without a request stay as long: the next answer on them says that they close.
    await within(drainMs, gone);
    await closed;
    http.closeIdle();
    const answered = await within(ANSWERS_MS, gone);
    if (!(await within(COMMITS_MS, batcher.drain()))) {
      log.error({ ballots: batcher.waiting }, 'the database does not answer: ballots that wait for it stay unanswered');
    }
    if (!answered && !(await within(ANSWERS_MS, gone))) http.closeAll();
    await gone;
    liveness.stop();
    await schedule.stop();
    await audit.stop();
    hub.stop();
    metrics.stop();
    await Promise.all([presence.close(), places?.close()]);
    await bus.close();
    await store.close();
  }

  /** Waits for `done`, at most so long. Whether it was in time. */
  function within(milliseconds: number, done: Promise<void>): Promise<boolean> {
    return new Promise((resolve) => {
      const late = clock.after(milliseconds, () => resolve(false));
      void done.then(() => {
        late();
        resolve(true);
      });
    });
  }
}

/**
 * Voter keys are HMACs with the secret: under another one, a voter who has voted could vote again. So the database keeps
 * a fingerprint of the secret that it was first used with.
 */
async function requireSameSecret(store: Store, secret: string, { secret: given, dataDir }: Config): Promise<void> {
  const fingerprint = secretFingerprint(secret);
  if ((await store.keepFact('secret', fingerprint)) === fingerprint) return;
  const remedy =
    store.kind === 'pglite' && given !== null
      ? `Set SECRET to the former value, or leave it out if ${dataDir}/secret holds it.`
      : 'Set SECRET to the former value, the same for all instances.';
  throw new InvalidInputError(
    `SECRET: is not the one that this database was first used with, so its voters could vote twice. ${remedy}`,
  );
}

/** `places`, `shared`: what the limits of all instances are counted in; null: each counts its own. */
function openBus(
  config: Config,
  clock: Clock,
  log: Log,
  metrics: Metrics,
  { busTimes }: Parts,
): { bus: Bus; presence: Presence; places: SharedCounts | null; shared: object | null } {
  if (config.redisUrl === null)
    return { bus: makeLocalBus(), presence: makeLocalPresence(), places: null, shared: null };
  return openRedisBus({
    url: config.redisUrl,
    clock,
    log,
    metrics,
    ...(busTimes === undefined ? {} : { times: busTimes }),
  });
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

/** Hands the poll's file to `write`, piece by piece. Throws where there is no such poll. */
export async function exportPoll(
  config: Config,
  pollId: string,
  format: ExportFormat,
  write: (pieces: AsyncIterable<string>) => Promise<void>,
): Promise<void> {
  const store = await openStore(config);
  try {
    const state = await loadWhole(store, pollId);
    const at = systemClock.now();
    const note = { at, actor: 'operator', action: 'exportPoll', outcome: 'ACCEPTED', detail: format } as const;
    await store.addAudit(pollId, note);
    await write(exportOf(store, state, format));
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
