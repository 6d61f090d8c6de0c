/**
 * The primary process of WORKERS: starts the workers, replaces those that exit and collects their metrics.
 * `node:cluster` hands each new connection to one worker in turn. The primary knows nothing of polls: votes
 * at one worker reach the watchers of another over the bus, as between machines.
 */
import cluster, { type Worker } from 'node:cluster';
import { InvalidInputError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import { type FromPrimary, GATHER_MS, readFromWorker, type Snapshot } from './messages.ts';
import { closeOrphanOnExit } from './orphaned-connections.ts';

/** A worker that lived this long started well: if it exits, it is replaced after the shortest pause. */
const STEADY_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
export interface Workers {
  /** The URL, once all workers listen. Rejects with `InvalidInputError` if the first worker cannot start. */
  readonly started: Promise<string>;
  /** Lets the workers finish. Resolves when all have exited. */
  stop(): Promise<void>;
}

interface Gathering {
  readonly asker: Worker;
  readonly id: number;
  readonly waiting: Set<number>;
  readonly snapshots: Snapshot[];
  readonly timer: NodeJS.Timeout;
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

  // Start the first worker alone: it migrates the database and reports a wrong configuration once.
  start(FIRST_PAUSE_MS);
  return {
    started,
    stop() {
      stopping = true;
      for (const pause of pauses) clearTimeout(pause);
      const gone = new Promise<void>((resolve) => {
        allGone = resolve;
      });
      // SIGTERM also reaches a worker that is still starting. A second signal does it no harm.
      for (const worker of alive) worker.process.kill('SIGTERM');
      if (alive.size === 0) allGone();
      return gone;
    },
  };

  /** Runs one worker and replaces it when it exits, after `pauseMs` if it exits at once. */
  function start(pauseMs: number): void {
    const worker = cluster.fork();
    const born = performance.now();
    let reason: string | null = null;
    alive.add(worker);
    closeOrphanOnExit(worker);
    worker.on('message', (raw: unknown) => {
      const message = readFromWorker(raw);
      // Other code in the worker may send messages of its own.
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
      log.warn({ worker: worker.id, code, signal, reason, pause }, 'a worker has exited and will be replaced');
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
    const timer = setTimeout(() => finish(key), GATHER_MS);
    const waiting = new Set(others.map((worker) => worker.id));
    gatherings.set(key, { asker, id, waiting, snapshots: [], timer });
    for (const worker of others) send(worker, { type: 'report', id: key });
    if (others.length === 0) finish(key);
  }

  /** Null: the worker has exited. */
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
    clearTimeout(gathering.timer);
    send(gathering.asker, { type: 'gathered', id: gathering.id, snapshots: gathering.snapshots });
  }

  function send(worker: Worker, message: FromPrimary): void {
    if (worker.isConnected()) worker.send(message);
  }
}
