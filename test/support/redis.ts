/** Starts a Redis in a temporary folder, for tests that break it. */
import { execFileSync } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { openSandbox, requireProgram } from './programs.ts';

/** Listens on 127.0.0.1 only and persists nothing; disposing stops it. */
export interface RedisServer extends AsyncDisposable {
  readonly url: string;
  /** The TLS address and the certificate to trust; only with `tls`. */
  readonly tlsUrl: string;
  readonly certificate: string;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Sends SIGKILL: connections break without a FIN from Redis itself. */
  kill(): Promise<void>;
  /** Restarts it, empty, on the same port. */
  restart(): Promise<void>;
}

export interface RedisSettings {
  /** As in redis.conf: `['--requirepass', 'secret']`. */
  readonly args?: readonly string[];
  /** Also listens for TLS, with a certificate of its own for localhost. */
  readonly tls?: boolean;
}

export async function startRedis({ args: more = [], tls = false }: RedisSettings = {}): Promise<RedisServer> {
  const program = requireProgram('redis');
  const sandbox = openSandbox('redis', 'SIGTERM');
  const port = await freePort();
  const tlsPort = tls ? await freePort() : 0;
  const certificate = join(sandbox.folder, 'certificate.pem');
  const listen = ['--bind', '127.0.0.1', '--port', String(port), '--dir', sandbox.folder];
  const args = [...listen, '--save', '', '--appendonly', 'no', '--daemonize', 'no', ...more];
  if (tls) {
    const key = join(sandbox.folder, 'key.pem');
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const files = ['-keyout', key, '-out', certificate];
    execFileSync(requireProgram('openssl'), ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject, ...files], {
      stdio: 'ignore',
    });
    args.push('--tls-port', String(tlsPort), '--tls-cert-file', certificate, '--tls-key-file', key);
    args.push('--tls-ca-cert-file', certificate, '--tls-auth-clients', 'no');
  }

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
    tlsUrl: `rediss://localhost:${tlsPort}`,
    certificate,
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
      // A request for a password also shows that it runs.
      if (/^(\+PONG|-NOAUTH)/.test(answer.toString())) resolve();
      else reject(new Error(`PING was answered by ${answer.toString()}`));
    });
    socket.once('close', () => reject(new Error('closed before an answer')));
  });
}
