/** Servers for tests: in this process (`startServer`) or as a process of its own (`spawnServer`), each with its own data. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type App, type Parts, startApp } from '../../src/app.ts';
import { readConfig } from '../../src/config/config.ts';
import { dataFolder, temporaryFolder } from './folders.ts';

export const ROOT = new URL('../..', import.meta.url).pathname;
export const TEST_SECRET = 'a secret of the tests, long enough';

/** All tests share one address, so limits are off unless a test sets them. */
export const NO_LIMITS = {
  VOTE_RATE_LIMIT: '0',
  POLL_CREATION_LIMIT: '0',
  CONNECTION_LIMIT: '0',
  OPERATION_COST_LIMIT: '0',
};

export interface TestServer extends AsyncDisposable {
  readonly app: App;
  readonly url: string;
  readonly graphql: string;
}

/** Starts the app in this process on a free port. It uses an empty PGlite unless the environment names a database. */
export async function startServer(env: Record<string, string> = {}, parts: Parts = {}): Promise<TestServer> {
  const isEmbedded = env.DATABASE_URL === undefined && env.DATA_DIR === undefined;
  const folder = isEmbedded ? dataFolder() : temporaryFolder();
  const config = readConfig({
    PORT: '0',
    DATA_DIR: folder.path,
    SECRET: TEST_SECRET,
    LIVE_INTERVAL_MS: '20',
    LOG_LEVEL: 'error',
    DRAIN_MS: '0',
    ...NO_LIMITS,
    ...env,
  });
  const app = await startApp(config, parts);
  let stopped = false;
  return {
    app,
    url: app.url,
    graphql: `${app.url}/graphql`,
    async [Symbol.asyncDispose]() {
      if (!stopped) await app.stop();
      stopped = true;
      folder[Symbol.dispose]();
    },
  };
}

export interface ServerProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly url: string;
  readonly output: () => string;
  /** Sends the signal and resolves with how it ended. */
  end(signal: NodeJS.Signals): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Starts `node dist/main.js` with only this environment. Resolves when it prints its address, rejects with its output. */
export async function spawnServer(env: Record<string, string>): Promise<ServerProcess> {
  const child = spawn(process.execPath, [join(ROOT, 'dist/main.js')], {
    cwd: env.DATA_DIR ?? tmpdir(),
    env: { PATH: process.env.PATH ?? '', PORT: '0', LOG_LEVEL: 'error', DRAIN_MS: '0', ...NO_LIMITS, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        output += `${line}\n`;
        const found = /Open (http:\/\/\S+)\/graphql/.exec(line)?.[1];
        if (found !== undefined) resolve(found);
      });
    }
    child.once('close', (code) => reject(new Error(`exit ${code}: ${output}`)));
  });
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return ended;
  };
  return {
    child,
    url,
    output: () => output,
    end,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) await end('SIGKILL');
    },
  };
}
