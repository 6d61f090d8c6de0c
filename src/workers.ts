/**
 * Several processes on this machine that share one port (WORKERS). The primary starts and replaces them, hands connections to
 * them in turn (`node:cluster` does) and passes on what they tell each other. It knows nothing of polls, and a worker nothing
 * of the others: what happens in one reaches the watchers of another over the bus, as between machines.
 */
import cluster, { type Worker } from 'node:cluster';
import { InvalidInputError } from './core/errors.ts';
import type { Log } from './core/ports.ts';

/** What one process has counted. */
type Snapshot = readonly object[];

type FromWorker =
  | { readonly type: 'ready'; readonly url: string }
  /** It cannot start, and why. */
  | { readonly type: 'failed'; readonly reason: string }
  /** It wants the snapshots of the others. */
  | { readonly type: 'gather'; readonly id: number }
  | { readonly type: 'snapshot'; readonly id: number; readonly snapshot: Snapshot };

type FromPrimary =
  /** It wants the snapshot of this one. */
  | { readonly type: 'report'; readonly id: number }
  | { readonly type: 'gathered'; readonly id: number; readonly snapshots: readonly Snapshot[] };

/** A worker that lived so long did not die of how it was started. */
const STEADY_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
/** How long the metrics of a worker that does not answer are waited for. */
const GATHER_MS = 1_000;

/** The worker's end of the line to its primary. */
export interface Line {
  readonly worker: number;
  /** It listens, and can be asked to `report`. */
  ready(url: string, report: () => Promise<Snapshot>): void;
  /** Resolves when the primary has been told. */
  failed(reason: string): Promise<void>;
  /** The snapshots of all workers. One that does not answer in time is left out. */
  gather(own: Snapshot): Promise<readonly Snapshot[]>;
}

/** Null where this process is no worker. */
export function openLine(): Line | null {
  const { worker } = cluster;
  if (worker === undefined) return null;
  const waiting = new Map<number, (snapshots: readonly Snapshot[]) => void>();
  let asked = 0;
  let report: (() => Promise<Snapshot>) | null = null;
  const say = (message: FromWorker): boolean => worker.isConnected() && worker.send(message);

  worker.on('message', (said: unknown) => {
    const message = readFromPrimary(said);
    if (message?.type === 'gathered') waiting.get(message.id)?.(message.snapshots);
    else if (message?.type === 'report') {
      const { id } = message;
      void report?.().then((snapshot) => say({ type: 'snapshot', id, snapshot }));
    }
  });
  return {
    worker: worker.id,
    ready(url, how) {
      report = how;
      say({ type: 'ready', url });
    },
    failed: (reason) =>
      new Promise((resolve) => {
        const message: FromWorker = { type: 'failed', reason };
        worker.process.send?.(message, () => resolve());
      }),
    gather: (own) =>
      new Promise((resolve) => {
        const id = ++asked;
        const done = (others: readonly Snapshot[]): void => {
          clearTimeout(patience);
          waiting.delete(id);
          resolve([own, ...others]);
        };
        // The primary is patient for as long; if it says nothing then, it is in trouble itself.
        const patience = setTimeout(done, 2 * GATHER_MS, []);
        waiting.set(id, done);
        say({ type: 'gather', id });
      }),
  };
}

export interface Workers {
  /** Where they listen, once all do. Rejects with `InvalidInputError` where not even one can start. */
  readonly started: Promise<string>;
  /** Lets them finish. Resolves when all have left. */
  stop(): Promise<void>;
}

interface Gathering {
  readonly asker: Worker;
  readonly id: number;
  readonly waiting: Set<number>;
  readonly snapshots: Snapshot[];
  readonly patience: NodeJS.Timeout;
}

export function startWorkers(count: number, log: Log): Workers {
  const alive = new Set<Worker>();
  const listening = new Set<Worker>();
  const pauses = new Set<NodeJS.Timeout>();
  const gatherings = new Map<number, Gathering>();
  let gathered = 0;
  let forked = false;
  let stopping = false;
  let settled: { resolve: (url: string) => void; reject: (error: Error) => void };
  const started = new Promise<string>((resolve, reject) => {
    settled = { resolve, reject };
  });
  let allGone: () => void = () => {};

  // The first alone: it migrates the database, and what is wrong with the configuration is said once.
  start(FIRST_PAUSE_MS);
  return {
    started,
    stop() {
      stopping = true;
      for (const pause of pauses) clearTimeout(pause);
      const gone = new Promise<void>((resolve) => {
        allGone = resolve;
      });
      // A signal reaches one that is still starting, too. One that heard of it from the terminal does not mind.
      for (const worker of alive) worker.process.kill('SIGTERM');
      if (alive.size === 0) allGone();
      return gone;
    },
  };

  /** Keeps one worker going; `pauseMs` before it is replaced, should it die at once. */
  function start(pauseMs: number): void {
    const worker = cluster.fork();
    const born = performance.now();
    let reason: string | null = null;
    alive.add(worker);
    closeWithIt(worker);
    worker.on('message', (said: unknown) => {
      const message = readFromWorker(said);
      // Whatever was loaded into the worker beside us may talk, too.
      if (message === null) return;
      if (message.type === 'ready') ready(worker, message.url);
      else if (message.type === 'failed') reason = message.reason;
      else if (message.type === 'gather') gather(worker, message.id);
      else collect(message.id, worker, message.snapshot);
    });
    worker.on('error', (error) => log.warn({ err: error, worker: worker.id }, 'a worker cannot be reached'));
    worker.once('exit', (code: number | null, signal: string | null) => {
      alive.delete(worker);
      listening.delete(worker);
      for (const id of [...gatherings.keys()]) collect(id, worker, null);
      if (stopping) {
        if (alive.size === 0) allGone();
        return;
      }
      if (!forked) {
        settled.reject(
          new InvalidInputError(reason ?? `A worker ended while it started (${signal ?? `exit ${code}`}).`),
        );
        return;
      }
      const steady = performance.now() - born > STEADY_MS;
      const pause = steady ? FIRST_PAUSE_MS : pauseMs;
      log.warn({ worker: worker.id, code, signal, reason, pause }, 'a worker has left; another takes its place');
      const timer = setTimeout(() => {
        pauses.delete(timer);
        start(Math.min(LONGEST_PAUSE_MS, 2 * pause));
      }, pause);
      pauses.add(timer);
    });
  }

  function ready(worker: Worker, url: string): void {
    listening.add(worker);
    if (!forked && !stopping) {
      forked = true;
      for (let more = 1; more < count; more++) start(FIRST_PAUSE_MS);
    }
    if (listening.size === count) settled.resolve(url);
  }

  function gather(asker: Worker, id: number): void {
    const others = [...alive].filter((worker) => worker !== asker && listening.has(worker));
    const key = ++gathered;
    const patience = setTimeout(() => finish(key), GATHER_MS);
    const waiting = new Set(others.map((worker) => worker.id));
    gatherings.set(key, { asker, id, waiting, snapshots: [], patience });
    for (const worker of others) tell(worker, { type: 'report', id: key });
    if (others.length === 0) finish(key);
  }

  /** Null: it is gone. */
  function collect(key: number, worker: Worker, snapshot: Snapshot | null): void {
    const gathering = gatherings.get(key);
    if (gathering === undefined || !gathering.waiting.delete(worker.id)) return;
    if (snapshot !== null) gathering.snapshots.push(snapshot);
    if (gathering.waiting.size === 0) finish(key);
  }

  function finish(key: number): void {
    const gathering = gatherings.get(key);
    if (gathering === undefined) return;
    gatherings.delete(key);
    clearTimeout(gathering.patience);
    tell(gathering.asker, { type: 'gathered', id: gathering.id, snapshots: gathering.snapshots });
  }

  function tell(worker: Worker, message: FromPrimary): void {
    if (worker.isConnected()) worker.send(message);
  }
}

/**
 * A connection is handed to a worker, and closed here when the worker says that it has it. Where the worker dies before, Node
 * forgets the connection: it stays open in the primary, and its client waits for ever. It is one at a time, the last one sent.
 */
function closeWithIt(worker: Worker): void {
  const { process: child } = worker;
  let last: unknown = null;
  child.send = new Proxy(child.send, {
    apply(send, self, args: unknown[]) {
      const [, handle] = args;
      if (handle != null) last = handle;
      return Reflect.apply(send, self, args);
    },
  });
  // Closing again what was closed already does nothing.
  worker.once('exit', () => {
    if (typeof last === 'object' && last !== null && 'close' in last && typeof last.close === 'function') last.close();
  });
}

function readFromWorker(message: unknown): FromWorker | null {
  const { type, id, url, reason, snapshot } = fieldsOf(message);
  if (type === 'ready' && typeof url === 'string') return { type, url };
  if (type === 'failed' && typeof reason === 'string') return { type, reason };
  if (type === 'gather' && typeof id === 'number') return { type, id };
  if (type === 'snapshot' && typeof id === 'number' && isSnapshot(snapshot)) return { type, id, snapshot };
  return null;
}

function readFromPrimary(message: unknown): FromPrimary | null {
  const { type, id, snapshots } = fieldsOf(message);
  if (typeof id !== 'number') return null;
  if (type === 'report') return { type, id };
  if (type === 'gathered' && Array.isArray(snapshots) && snapshots.every(isSnapshot)) return { type, id, snapshots };
  return null;
}

function fieldsOf(message: unknown): Record<string, unknown> {
  return typeof message === 'object' && message !== null ? { ...message } : {};
}

function isSnapshot(value: unknown): value is Snapshot {
  return Array.isArray(value) && value.every((each) => typeof each === 'object' && each !== null);
}
