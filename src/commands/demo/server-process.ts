/** A server of the demo's own: on a free port, with data that goes away. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Failure } from './failure.ts';

const START_MS = 60_000;
const STOP_MS = 5_000;

const PROGRAM = fileURLToPath(new URL('../../main.js', import.meta.url));
const LEASH = new URL('./leash.js', import.meta.url).href;

// Nothing else of the caller's environment: its DATABASE_URL is not for a demo, nor are limits for one address.
const PASSED_ON = ['PATH', 'HOME', 'TMPDIR', 'TMP', 'TEMP', 'SystemRoot', 'LANG', 'LD_LIBRARY_PATH'];
const SETTINGS = {
  PORT: '0',
  LOG_LEVEL: 'warn',
  DRAIN_MS: '0',
  VOTE_RATE_LIMIT: '0',
  POLL_CREATION_LIMIT: '0',
  CONNECTION_LIMIT: '0',
  OPERATION_COST_LIMIT: '0',
};

export interface OwnServer {
  /** Of the running server; rejects where it does not start. */
  readonly url: Promise<string>;
  /** Rejects when it ends without having been stopped. */
  readonly lost: Promise<never>;
  /** Resolves when the process and its data are gone. */
  stop(): Promise<void>;
}

export function startServer(): OwnServer {
  const folder = mkdtempSync(join(tmpdir(), 'pollcast-demo-'));
  const env: Record<string, string> = { ...SETTINGS, DATA_DIR: folder };
  for (const name of PASSED_ON) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  const child = spawn(process.execPath, ['--import', LEASH, PROGRAM], {
    env,
    // A group of its own: Ctrl-C reaches the demo alone, which then stops it.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let stopping = false;
  let lastWords = '';
  let startTimer: NodeJS.Timeout | undefined;
  const gone = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(lastWords || (signal ?? `exit ${code}`)));
  });
  const url = new Promise<string>((resolve, reject) => {
    onLine(child.stdout, (line) => {
      const found = /Open (http:\/\/\S+)\/graphql/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    });
    onLine(child.stderr, (line) => {
      // The line of a stack that names the error; the lines below are indented, and Node's version ends it.
      if (/^\S/.test(line) && !line.startsWith('Node.js v')) lastWords = line;
    });
    const late = new Failure(`The server did not start within ${START_MS / 1_000} s.`);
    startTimer = setTimeout(() => reject(late), START_MS);
    void gone.then((words) => reject(new Failure(`The server did not start: ${words}`)));
  });
  url.catch(() => {}).finally(() => clearTimeout(startTimer));
  const lost = new Promise<never>((_, reject) => {
    void gone.then((words) => {
      if (!stopping) reject(new Failure(`The server ended while the demo was running: ${words}`));
    });
  });
  lost.catch(() => {});

  return {
    url,
    lost,
    async stop() {
      stopping = true;
      child.kill('SIGTERM');
      const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await gone;
      clearTimeout(impatience);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function onLine(input: Readable | null, take: (line: string) => void): void {
  if (input !== null) createInterface({ input }).on('line', take);
}
