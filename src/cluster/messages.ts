/** The messages between the primary process and its workers, parsed as they arrive. */

/** What one process has counted. */
export type Snapshot = readonly object[];

export type FromWorker =
  | { readonly type: 'ready'; readonly url: string }
  /** The worker cannot start, and why. */
  | { readonly type: 'failed'; readonly reason: string }
  /** The worker asks for the snapshots of the others. */
  | { readonly type: 'gather'; readonly id: number }
  | { readonly type: 'snapshot'; readonly id: number; readonly snapshot: Snapshot };

export type FromPrimary =
  /** The primary asks this worker for its metrics. */
  | { readonly type: 'report'; readonly id: number }
  | { readonly type: 'gathered'; readonly id: number; readonly snapshots: readonly Snapshot[] };

/** How long the primary waits for the metrics of a worker. Milliseconds. */
export const GATHER_MS = 1_000;

export function readFromWorker(message: unknown): FromWorker | null {
  const { type, id, url, reason, snapshot } = fieldsOf(message);
  if (type === 'ready' && typeof url === 'string') return { type, url };
  if (type === 'failed' && typeof reason === 'string') return { type, reason };
  if (type === 'gather' && typeof id === 'number') return { type, id };
  if (type === 'snapshot' && typeof id === 'number' && isSnapshot(snapshot)) return { type, id, snapshot };
  return null;
}

export function readFromPrimary(message: unknown): FromPrimary | null {
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
