/** A Redis of our own, in a folder that goes away, for tests that break it. */
import { connect } from 'node:net';
import { freePort } from './ports.ts';
import { openSandbox, requireProgram } from './programs.ts';

/** Listens on 127.0.0.1 only and persists nothing; disposing stops it. */
export interface RedisServer extends AsyncDisposable {
  readonly url: string;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** SIGKILL: connections break without a goodbye. */
  kill(): Promise<void>;
  /** Starts it again, empty, on the same port; stops it before if it runs. */
  restart(): Promise<void>;
}

export async function startRedis(): Promise<RedisServer> {
  const program = requireProgram('redis');
  const sandbox = openSandbox('redis', 'SIGTERM');
  const port = await freePort();
  const listen = ['--bind', '127.0.0.1', '--port', String(port), '--dir', sandbox.folder];
  const args = [...listen, '--save', '', '--appendonly', 'no', '--daemonize', 'no'];

  async function start(): Promise<void> {
    sandbox.start(program, args);
    await sandbox.ready(() => ping(port));
  }

  try {
    await start();
  } catch (error) {
    await sandbox[Symbol.asyncDispose]();
    throw error;
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: sandbox.stop,
    kill: sandbox.kill,
    async restart() {
      await sandbox.stop();
      await start();
    },
    [Symbol.asyncDispose]: sandbox[Symbol.asyncDispose],
  };
}

/** The server of TEST_REDIS_URL, which is never stopped. Others may use it: tests must choose names of their own. */
export function testRedis(): (AsyncDisposable & { readonly url: string }) | undefined {
  const url = process.env.TEST_REDIS_URL;
  return url ? { url, [Symbol.asyncDispose]: async () => {} } : undefined;
}

function ping(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.setTimeout(1000, () => socket.destroy(new Error('no answer to PING')));
    socket.once('error', reject);
    socket.once('data', (answer) => {
      socket.destroy();
      if (answer.toString() === '+PONG\r\n') resolve();
      else reject(new Error(`PING was answered by ${answer.toString()}`));
    });
    socket.once('close', () => reject(new Error('closed before an answer')));
  });
}
