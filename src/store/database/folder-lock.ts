/**
 * One process a data folder: PGlite has no lock of its own, and two processes on one folder destroy it.
 *
 * The lock is a file that names its holder. It is created by `link`, which fails where the name exists, so of two
 * processes one wins. A holder that is gone (kill -9) is recognised by its process id and start time, and its file is moved
 * aside by `rename`; who finds that it moved a living holder's file puts it back. On another host (a shared volume)
 * life cannot be checked, so there the file's age decides: a living holder touches it every `TOUCH_MS`.
 */
import { linkSync, readFileSync, renameSync, statSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { InvalidInputError } from '../../core/errors.ts';

const TOUCH_MS = 5_000;
const FOREIGN_STALE_MS = 30_000;

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Clock ticks since boot, so that a process id that was given again is not taken for the holder. Null: unknown. */
  readonly started: string | null;
  readonly since: string;
}

/** Takes the folder or throws `InvalidInputError` that names who holds it. Returns the release. */
export function lockFolder(folder: string): () => void {
  const path = join(folder, 'pollcast.lock');
  const own = join(folder, `pollcast.lock.${process.pid}`);
  const me: Holder = {
    pid: process.pid,
    host: hostname(),
    started: startOf(process.pid),
    since: new Date().toISOString(),
  };
  writeFileSync(own, JSON.stringify(me));
  try {
    take(path, own);
  } finally {
    unlinkSync(own);
  }
  const touch = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(path, now, now);
    } catch {
      // The folder is gone; what it held is beyond help from here.
    }
  }, TOUCH_MS);
  touch.unref();
  return () => {
    clearInterval(touch);
    if (sameHolder(readHolder(path), me)) unlinkSync(path);
  };
}

function take(path: string, own: string): void {
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      linkSync(own, path);
      return;
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
    }
    const holder = readHolder(path);
    if (holder === null) continue;
    if (isAlive(holder, path)) {
      throw new InvalidInputError(
        `The data folder is in use by process ${holder.pid} on ${holder.host} since ${holder.since}. ` +
          'Stop that process, or set DATA_DIR to another folder.',
      );
    }
    const aside = `${own}.stale`;
    try {
      renameSync(path, aside);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error;
      continue;
    }
    if (!sameHolder(readHolder(aside), holder)) {
      // Another process was quicker and this is its lock.
      renameSync(aside, path);
      continue;
    }
    unlinkSync(aside);
  }
  throw new InvalidInputError('The data folder is being taken by another process at this moment.');
}

function isAlive(holder: Holder, path: string): boolean {
  if (holder.host !== hostname()) return Date.now() - modified(path) < FOREIGN_STALE_MS;
  // In a container every start may have the same process id: a lock of "ours" from before is a stale one.
  if (holder.pid === process.pid || holder.pid <= 0) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if (isCode(error, 'ESRCH')) return false;
  }
  const started = startOf(holder.pid);
  return started === null || holder.started === null || started === holder.started;
}

function modified(path: string): number {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return 0;
  }
}

function startOf(pid: number): string | null {
  try {
    // The 22nd field; the second may hold spaces, so count after its closing bracket.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

function readHolder(path: string): Holder | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof value !== 'object' || value === null) throw new SyntaxError();
    const { pid, host, started, since } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof host !== 'string') throw new SyntaxError();
    return { pid, host, started: typeof started === 'string' ? started : null, since: String(since) };
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null;
    // Links are whole or not there: half a file is what a crashed disk left.
    return { pid: 0, host: hostname(), started: '', since: 'unknown' };
  }
}

function sameHolder(a: Holder | null, b: Holder): boolean {
  return a !== null && a.pid === b.pid && a.host === b.host && a.since === b.since;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
