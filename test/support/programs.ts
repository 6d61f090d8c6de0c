/** Finds or installs the programs that tests need, and runs each in a folder of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

// A vitest worker outlives a killed vitest and would keep its programs running.
process.once('disconnect', () => process.exit(1));

const CATALOG = {
  postgres: { commands: ['postgres'], debian: 'postgresql', env: 'TEST_DATABASE_URL' },
  redis: { commands: ['redis-server'], debian: 'redis-server', env: 'TEST_REDIS_URL' },
  chromium: { commands: ['chromium', 'chromium-browser', 'google-chrome'], debian: 'chromium', env: 'CHROMIUM_PATH' },
  openssl: { commands: ['openssl'], debian: 'openssl', env: '' },
  nginx: { commands: ['nginx'], debian: 'nginx', env: '' },
} as const;
export type ProgramName = keyof typeof CATALOG;

/** Ensures that each program or its environment variable exists. Throws the line that a person must run. */
export function ensurePrograms(
  names: readonly ProgramName[] = ['postgres', 'redis', 'openssl', 'chromium', 'nginx'],
): void {
  install(names.filter((name) => !process.env[CATALOG[name].env] && findProgram(name) === undefined));
}

/** The path of a program, installed if it was missing. `initdb` lies beside `postgres`. */
export function requireProgram(name: ProgramName): string {
  const path = findProgram(name);
  if (path !== undefined) return path;
  install([name]);
  return requireProgram(name);
}

/** The path of a program, if this machine has it. */
export function findProgram(name: ProgramName): string | undefined {
  if (name === 'chromium' && process.env.CHROMIUM_PATH) return process.env.CHROMIUM_PATH;
  const onPath = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const folders = name === 'postgres' ? [...onPath, ...postgresFolders()] : [...onPath, '/usr/sbin', '/usr/local/sbin'];
  const paths = folders.flatMap((folder) => CATALOG[name].commands.map((command) => join(folder, command)));
  return paths.find((path) => isExecutable(path) && (name !== 'postgres' || isExecutable(join(path, '../initdb'))));
}

/** Debian keeps the servers of Postgres off the PATH; the newest comes first. */
function* postgresFolders(): Generator<string> {
  const root = '/usr/lib/postgresql';
  const versions = fs.existsSync(root) ? fs.readdirSync(root) : [];
  for (const version of versions.sort((a, b) => Number(b) - Number(a))) yield join(root, version, 'bin');
  const asked = spawnSync('pg_config', ['--bindir'], { encoding: 'utf8' });
  if (asked.status === 0) yield asked.stdout.trim();
}

function isExecutable(path: string): boolean {
  try {
    fs.accessSync(path, fs.constants.X_OK);
    return fs.statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Installs all of `names` in one call, or throws the line that does it. */
function install(names: readonly ProgramName[]): void {
  if (names.length === 0) return;
  const packages = names.map((name) => CATALOG[name].debian);
  const line = `sudo apt-get install -y ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !fs.existsSync('/etc/debian_version')) throw new Error(line);
  console.log(`Installing what the tests need with apt-get: ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Ignore a failed update: another package source may be down.
  spawnSync('apt-get', ['-qq', 'update'], { env, stdio: 'ignore' });
  const args = ['-qq', 'install', '-y', '--no-install-recommends', ...packages];
  const done = spawnSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  const complete = names.every((name) => findProgram(name) !== undefined);
  if (!complete) throw new Error(line, { cause: done.error ?? done.stderr });
}

// Outlives this process however that ends, SIGKILL too: its input then closes, it ends the program whose id it was told
// last, and removes the folder.
const GUARDIAN = `pid=; while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -s "$1" "$pid"; n=0
  while [ $n -lt 50 ] && kill -0 "$pid"; do sleep 0.1; n=$((n+1)); done
  kill -s KILL -- "-$pid"
fi
rm -rf -- "$2"`;
const START_MS = 30_000;
const STOP_MS = 10_000;

/** A temporary folder with at most one program running in it. Disposing ends the program and removes the folder. */
export interface Sandbox extends AsyncDisposable {
  readonly folder: string;
  start(command: string, args: readonly string[]): void;
  /** Resolves once `probe` does; throws what the program printed if it ends before, or after 30 s. */
  ready(probe: () => Promise<unknown>): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** SIGKILL to the program and to everything that it started, at once. */
  kill(): Promise<void>;
}
export type User = { readonly uid: number; readonly gid: number };

/** `endSignal` ends the program fast and cleanly; `user` owns the folder and runs the program. */
export function openSandbox(name: string, endSignal: 'SIGTERM' | 'SIGQUIT', user?: User): Sandbox {
  const folder = fs.mkdtempSync(join(tmpdir(), `pollcast-${name}-`));
  const logFile = join(folder, 'log');
  if (user) fs.chownSync(folder, user.uid, user.gid);
  const guardianArgs = ['-c', GUARDIAN, 'guardian', endSignal.slice(3), folder];
  const guardian = spawn('/bin/sh', guardianArgs, { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  guardian.stdin.on('error', () => {});
  guardian.unref();
  const guardianEnded = endOf(guardian);
  let program: ChildProcess | undefined;
  let ended: Promise<unknown> = Promise.resolve();
  const runningPid = () => (program?.exitCode === null && program.signalCode === null ? program.pid : undefined);

  function start(command: string, args: readonly string[]): void {
    if (runningPid() !== undefined) throw new Error(`${name} runs already`);
    const log = fs.openSync(logFile, 'a');
    const env = { PATH: process.env.PATH ?? '', HOME: folder, LC_ALL: 'C' };
    program = spawn(command, args, { ...user, cwd: folder, env, detached: true, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    program.unref();
    guardian.stdin.write(`${program.pid ?? ''}\n`);
    ended = endOf(program).then(() => guardian.stdin.write('\n'));
  }

  async function ready(probe: () => Promise<unknown>): Promise<void> {
    const deadline = Date.now() + START_MS;
    for (;;) {
      const answered = await probe()
        .then(() => true)
        .catch(() => false);
      if (answered && runningPid() !== undefined) return;
      if (runningPid() === undefined || Date.now() > deadline)
        throw new Error(`${name} did not start:\n${fs.readFileSync(logFile, 'utf8').slice(-4000)}`);
      await sleep(20);
    }
  }

  async function stop(signal: NodeJS.Signals = endSignal): Promise<void> {
    if (runningPid() !== undefined) program?.kill(signal);
    if (!(await within(STOP_MS, ended))) await kill();
  }

  async function kill(): Promise<void> {
    const pid = runningPid();
    if (pid === undefined) return;
    program?.kill('SIGSTOP'); // So that it starts nothing while we list what it started.
    const tree = processTree(pid);
    spawnSync('/bin/sh', ['-c', 'kill -s KILL "$@"', 'kill', ...tree.map(String)]); // Skips those gone already.
    const deadline = Date.now() + STOP_MS;
    while (tree.some(isAlive) && Date.now() < deadline) await sleep(5);
    if (tree.some(isAlive) || !(await within(STOP_MS, ended))) throw new Error(`${name} survived SIGKILL`);
  }

  async function dispose(): Promise<void> {
    await stop();
    guardian.stdin.end();
    if (!(await within(STOP_MS, guardianEnded))) throw new Error(`the guardian of ${name} does not end`);
  }

  return { folder, start, ready, stop, kill, [Symbol.asyncDispose]: dispose };
}

function endOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
}

async function within(ms: number, promise: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false);
  const inTime = await Promise.race([promise.then(() => true), late]);
  timer.abort();
  return inTime;
}

/** `root` and every process below it now. Needs Linux; elsewhere only `root`. */
export function processTree(root: number): number[] {
  const found = [root];
  const entries = fs.existsSync('/proc/self/stat') ? fs.readdirSync('/proc') : [];
  const parents = entries.map((entry) => ({ pid: Number(entry), parent: statOf(Number(entry))?.parent }));
  for (const pid of found) for (const child of parents) if (child.parent === pid) found.push(child.pid);
  return found;
}

/** Whether a process still runs; one that ended but was not yet reaped does not. */
export function isAlive(pid: number): boolean {
  return !['Z', 'X', undefined].includes(statOf(pid)?.state);
}

function statOf(pid: number): { state: string | undefined; parent: number } | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state, parent: Number(parent) };
  } catch {
    return undefined;
  }
}
