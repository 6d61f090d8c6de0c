/**
 * Keeps subscriptions standing on one connection, through every reconnect, and says when each stands.
 *
 * RedisPubSub calls `subscribe` and `unsubscribe` of the connection that it is given. Here they only note what is wanted,
 * and so never fail: a SUBSCRIBE that failed would leave a rejected promise and a dead record behind in RedisPubSub, and
 * ioredis' own resubscription says nothing when it is done, and counts wrong when it is cut off in the middle.
 */
import type { Redis } from 'ioredis';
import type { Clock, Stop } from '../../ports/clock.ts';
import { reasonOf } from './connection.ts';

/** Channels in one SUBSCRIBE: after a reconnect all are asked for again. */
const AT_ONCE = 500;
const ASK_AGAIN_MS = 5_000;

export interface KeptSubscriptions {
  /** Whether it is subscribed to at the moment. */
  stands(channel: string): boolean;
  stop: Stop;
}

export function keepSubscribed(options: {
  readonly redis: Redis;
  readonly clock: Clock;
  /** Each time that a channel stands; MUST NOT throw. */
  readonly onStanding: (channel: string) => void;
  /** Redis did not allow it; it is asked again. */
  readonly onRefused: (reason: string) => void;
}): KeptSubscriptions {
  const { redis, clock } = options;
  const wanted = new Map<string, { standing: boolean }>();
  let unsent = new Set<string>();
  let sending = false;
  let askAgain: Stop | null = null;
  const { subscribe, unsubscribe } = redis;

  redis.subscribe = (...args: unknown[]) => {
    for (const channel of args) {
      if (typeof channel !== 'string' || wanted.has(channel)) continue;
      wanted.set(channel, { standing: false });
      ask([channel]);
    }
    const done = args.at(-1);
    if (typeof done === 'function') done(null, wanted.size);
    return Promise.resolve(wanted.size);
  };
  redis.unsubscribe = (...args: unknown[]) => {
    for (const channel of args) {
      if (typeof channel !== 'string' || !wanted.delete(channel)) continue;
      unsent.delete(channel);
      if (redis.status === 'ready') unsubscribe.call(redis, channel).catch(() => {});
    }
    return Promise.resolve(wanted.size);
  };
  // There are no patterns: they would cost every PUBLISH of everybody.
  redis.punsubscribe = () => Promise.resolve(0);
  redis.on('ready', () => ask(wanted.keys()));
  redis.on('close', () => {
    for (const line of wanted.values()) line.standing = false;
  });

  return {
    stands: (channel) => wanted.get(channel)?.standing ?? false,
    stop: () => askAgain?.(),
  };

  /** All that is asked for in one turn of the loop goes in as few commands as can be. */
  function ask(channels: Iterable<string>): void {
    if (redis.status !== 'ready') return;
    for (const channel of channels) unsent.add(channel);
    if (sending || unsent.size === 0) return;
    sending = true;
    setImmediate(send);
  }

  function send(): void {
    sending = false;
    const channels = [...unsent];
    unsent = new Set();
    if (redis.status !== 'ready') return;
    for (let from = 0; from < channels.length; from += AT_ONCE) subscribeTo(channels.slice(from, from + AT_ONCE));
  }

  function subscribeTo(channels: readonly string[]): void {
    const lines = channels.map((channel) => [channel, wanted.get(channel)] as const);
    subscribe.call(redis, ...channels).then(
      () => {
        for (const [channel, line] of lines) {
          // It may have been given up meanwhile, and wanted anew.
          if (line === undefined || wanted.get(channel) !== line) continue;
          line.standing = true;
          options.onStanding(channel);
        }
      },
      (error: Error) => {
        if (redis.status !== 'ready') return;
        options.onRefused(reasonOf(error));
        askAgain ??= clock.after(ASK_AGAIN_MS, () => {
          askAgain = null;
          ask([...wanted].filter(([, line]) => !line.standing).map(([channel]) => channel));
        });
      },
    );
  }
}
