/** A connection to Redis that is watched: one that hangs is given up and made anew, and nothing waits in it for better times. */
import { isIP } from 'node:net';
import { Redis, type RedisOptions } from 'ioredis';
import type { Clock } from '../../ports/clock.ts';

export interface RedisConnection {
  readonly redis: Redis;
  readonly ready: boolean;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly clock: Clock;
  /** How often it is asked for a sign of life; it is given up at the second question without an answer. Milliseconds. */
  readonly pulseMs: number;
  /** After each change of its state. `reason`: what Redis or the network said last, null while it is ready. */
  readonly onChange: (reason: string | null) => void;
}

const CONNECT_MS = 5_000;
const CLOSE_MS = 1_000;

/** Never throws for want of a Redis: it goes on trying until it is closed. */
export function connect(role: 'listener' | 'speaker', options: ConnectionOptions): RedisConnection {
  const redis = new Redis({
    ...placeOf(options.url),
    connectionName: `pollcast-${role}`,
    disableClientInfo: true,
    connectTimeout: CONNECT_MS,
    disconnectTimeout: 500,
    // At once, then more and more slowly; not all instances in the same moment.
    retryStrategy: (times) => Math.min(2_000, 25 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2),
    // What was said into a broken connection is neither kept nor sent again: a flood of the past would follow an outage.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Subscriptions are kept standing by `standing.ts`.
    autoResubscribe: false,
    // The listener must have no command that fails while a connection is awaited; the speaker's are over with it.
    maxRetriesPerRequest: role === 'listener' ? null : 0,
  });
  /** What went wrong first with this connection: what follows is mostly its consequence. */
  let reason: string | null = null;
  let unanswered = 0;
  redis.on('error', (error: Error) => {
    reason ??= reasonOf(error);
  });
  redis.on('ready', () => {
    unanswered = 0;
    reason = null;
    options.onChange(null);
  });
  redis.on('close', () => {
    unanswered = 0;
    options.onChange(reason ?? 'the connection was closed');
    reason = null;
  });
  const stopPulse = options.clock.every(options.pulseMs, pulse);

  return {
    redis,
    get ready() {
      return redis.status === 'ready';
    },
    async close() {
      stopPulse();
      // Between two attempts there is no socket whose end could be waited for.
      const open = ['connecting', 'connect', 'ready'].includes(redis.status);
      await new Promise<void>((resolve) => {
        const stopWaiting = options.clock.after(open ? CLOSE_MS : 0, resolve);
        redis.once('end', () => {
          stopWaiting();
          resolve();
        });
        redis.disconnect();
      });
    },
  };

  /** A peer that vanished, or a Redis that is frozen, closes no socket. */
  function pulse(): void {
    if (redis.status !== 'ready' && redis.status !== 'connect') return;
    if (unanswered > 1) {
      reason ??= 'no answer';
      redis.disconnect(true);
    }
    unanswered++;
    if (redis.status === 'ready') {
      redis.ping().then(
        () => {
          unanswered = 0;
        },
        () => {},
      );
    }
  }
}

/** What may be logged of an error of Redis: its object holds the command, AUTH with the password included. */
export function reasonOf(error: Error): string {
  const code = 'code' in error ? String(error.code) : '';
  return [code, error.message].filter((text) => text !== '').join(': ') || error.name;
}

/** The number of the database in the URL. Publishing knows no databases, so it goes into the names of channels too. */
export function databaseOf(url: string): number {
  return Number(new URL(url).pathname.slice(1) || '0');
}

function placeOf(text: string): RedisOptions {
  const url = new URL(text);
  // An IPv6 address stands in brackets.
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1') || '127.0.0.1';
  return {
    host,
    port: Number(url.port || '6379'),
    db: databaseOf(text),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.protocol === 'rediss:' ? { tls: isIP(host) === 0 ? { servername: host } : {} } : {}),
  };
}
