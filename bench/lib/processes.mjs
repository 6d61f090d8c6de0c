// Servers on one core, load on the other, and no process left behind.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { discardAll } from './scratch.mjs';

export const SERVER_CORE = 0;
export const LOAD_CORE = 1;

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const running = new Map();

/** `lastWord`: the signal that ends it when the driver itself ends before it was stopped. */
export function track(child, lastWord = 'SIGKILL') {
  running.set(child, lastWord);
  child.once('exit', () => running.delete(child));
  return child;
}

process.on('exit', () => {
  for (const [child, signal] of running) child.kill(signal);
  discardAll();
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

/**
 * Starts a server script pinned to the server core and waits for the port it prints. Each has `gc`, made by a preloaded
 * hook, so no server needs code of its own for it. `profile` writes a CPU profile into that folder when the server stops.
 */
export function startServer({ name, script, nodeFlags = [], env = {}, profile, timeoutMs = 60_000 }) {
  const flags = [...nodeFlags, '--expose-gc', '--import', path('./gc-hook.mjs')];
  if (profile !== undefined)
    flags.push('--cpu-prof', `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${name}.${Date.now()}.cpuprofile`);
  const child = track(
    spawn('taskset', ['-c', String(SERVER_CORE), process.execPath, ...flags, script], {
      env: { ...process.env, NODE_ENV: 'production', PORT: '0', HOST: '127.0.0.1', ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    }),
  );
  const said = [];
  const exited = new Promise((resolve) => child.once('exit', resolve));
  let stopping = false;

  return new Promise((resolve, reject) => {
    const hear = (text) => {
      said.push(text);
      if (said.length > 200) said.shift();
      const port = /listening (\d+)|http:\/\/127\.0\.0\.1:(\d+)/.exec(text);
      if (port !== null)
        resolve({ name, pid: child.pid, port: Number(port[1] ?? port[2]), gc, stop, said: () => said.join('') });
    };
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    exited.then((code) => {
      const message = `${name} ended by itself (${code}):\n${said.join('').slice(-3000)}`;
      reject(new Error(message));
      if (!stopping) console.error(message);
    });
    setTimeout(
      () => reject(new Error(`${name} did not say its port within ${timeoutMs} ms:\n${said.join('')}`)),
      timeoutMs,
    ).unref();
  });

  function gc() {
    return new Promise((resolve) => {
      child.once('message', resolve);
      child.send('gc');
    });
  }

  async function stop() {
    stopping = true;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await exited;
    clearTimeout(timer);
  }
}

/** A load process (`watch` or `vote`) pinned to the load core. `call(name, args)` asks it to do something. */
export function startLoad(kind) {
  const child = track(
    spawn('taskset', ['-c', String(LOAD_CORE), process.execPath, path(`../load/${kind}.mjs`)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  );
  const waiting = new Map();
  let id = 0;
  child.on('message', (reply) => {
    const { resolve, reject } = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error === undefined) resolve(reply.value);
    else reject(new Error(`${kind}: ${reply.error}`));
  });
  child.once('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`the load process "${kind}" ended (${code})`));
  });
  return {
    pid: child.pid,
    call: (name, args = {}) =>
      new Promise((resolve, reject) => {
        id += 1;
        waiting.set(id, { resolve, reject });
        child.send({ id, call: name, args });
      }),
    stop: () => child.kill('SIGKILL'),
  };
}
