/** A worker's side of WORKERS: reports to the primary and asks it for the metrics of the other workers. */
import cluster from 'node:cluster';
import { type FromWorker, GATHER_MS, readFromPrimary, type Snapshot } from './messages.ts';

/** The worker's connection to its primary. */
export interface PrimaryChannel {
  readonly worker: number;
  /** Tells the primary that this worker listens. `report` gives its metrics when the primary asks. */
  ready(url: string, report: () => Promise<Snapshot>): void;
  /** Resolves when the primary has been told. */
  failed(reason: string): Promise<void>;
  /** The snapshots of all workers. A worker that does not answer in time is left out. */
  gather(own: Snapshot): Promise<readonly Snapshot[]>;
}

/** Null if this process is not a worker. */
export function connectToPrimary(): PrimaryChannel | null {
  const { worker } = cluster;
  if (worker === undefined) return null;
  const waiting = new Map<number, (snapshots: readonly Snapshot[]) => void>();
  let asked = 0;
  let report: (() => Promise<Snapshot>) | null = null;
  const send = (message: FromWorker): boolean => worker.isConnected() && worker.send(message);

  worker.on('message', (raw: unknown) => {
    const message = readFromPrimary(raw);
    if (message?.type === 'gathered') waiting.get(message.id)?.(message.snapshots);
    else if (message?.type === 'report') {
      const { id } = message;
      void report?.().then((snapshot) => send({ type: 'snapshot', id, snapshot }));
    }
  });
  return {
    worker: worker.id,
    ready(url, how) {
      report = how;
      send({ type: 'ready', url });
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
          clearTimeout(timer);
          waiting.delete(id);
          resolve([own, ...others]);
        };
        // The primary answers within GATHER_MS. Twice that means that it cannot answer.
        const timer = setTimeout(done, 2 * GATHER_MS, []);
        waiting.set(id, done);
        send({ type: 'gather', id });
      }),
  };
}
