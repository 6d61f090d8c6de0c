// A throwaway Postgres of Debian's: fsync on, everything as shipped but the few settings below.
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { track } from './processes.mjs';
import { discard, scratch } from './scratch.mjs';

/**
 * `core`: the core it is pinned to, or 'any' (default): then the kernel places its processes, in practice mostly beside the load.
 */
export async function startPostgres({ core = 'any' } = {}) {
  const bin = findBinaries();
  const owner = unprivileged();
  const folder = scratch('postgres');
  if (owner.uid !== undefined) chownSync(folder, owner.uid, owner.gid);
  const data = join(folder, 'data');
  execFileSync(join(bin, 'initdb'), ['-D', data, '-U', 'bench', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8'], {
    ...owner,
    cwd: folder,
    stdio: 'pipe',
  });

  const port = await freePort();
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    fsync: 'on',
    synchronous_commit: 'on',
    shared_buffers: '256MB',
    max_connections: 60,
  };
  const args = [
    join(bin, 'postgres'),
    '-D',
    data,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
  const command = core === 'any' ? args : ['taskset', '-c', String(core), ...args];
  const child = track(spawn(command[0], command.slice(1), { ...owner, cwd: folder, stdio: 'ignore' }), 'SIGQUIT');
  const exited = new Promise((resolve) => child.once('exit', resolve));
  await ready(join(bin, 'pg_isready'), port);

  let made = 0;
  return {
    pid: child.pid,
    core,
    folder,
    version: execFileSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' }).trim(),
    /** A new, empty database; its URL. */
    database() {
      made += 1;
      execFileSync(join(bin, 'createdb'), ['-h', '127.0.0.1', '-p', String(port), '-U', 'bench', `bench${made}`]);
      return `postgres://bench@127.0.0.1:${port}/bench${made}`;
    },
    async stop() {
      // SIGINT is Postgres' fast shutdown (and SIGQUIT, above, its immediate one: it leaves no shared memory behind).
      child.kill('SIGINT');
      await exited;
      discard(folder);
    },
  };
}

function findBinaries() {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  if (versions.length > 0) return join(root, versions[0], 'bin');
  try {
    return execFileSync('pg_config', ['--bindir'], { encoding: 'utf8' }).trim();
  } catch {
    throw new Error('no Postgres found: apt-get install postgresql');
  }
}

/** Postgres refuses to run as root. */
function unprivileged() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => {
    try {
      return Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: 'pipe' }));
    } catch {
      return Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
    }
  };
  return { uid: id('-u'), gid: id('-g') };
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function ready(isReady, port) {
  for (let tries = 0; tries < 200; tries += 1) {
    try {
      execFileSync(isReady, ['-h', '127.0.0.1', '-p', String(port), '-q']);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error('Postgres did not become ready within ten seconds');
}
