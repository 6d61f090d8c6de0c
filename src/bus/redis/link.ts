/** Two connections to one Redis, since one that listens may say nothing: RedisPubSub over both, and what both are up to. */
import { randomBytes } from 'node:crypto';
import { RedisPubSub } from 'graphql-redis-subscriptions';
import type { Redis } from 'ioredis';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import { connect, databaseOf } from './connection.ts';
import { keepSubscribed } from './subscriptions.ts';

export interface RedisLink {
  /** The name of this instance: a new one each time it starts. */
  readonly id: string;
  readonly connected: boolean;
  /** A key or channel of ours. The number of the database is in it. */
  name(...parts: readonly string[]): string;
  /** False: not sent, since Redis is away or behind. Never throws, and keeps nothing for later. */
  publish(channel: string, payload: string): boolean;
  /** Once a channel at a time. `onMessage` MUST NOT keep the buffer. */
  listen(channel: string, onMessage: (payload: Buffer) => void, onStanding: () => void): Stop;
  /** Whether a channel is subscribed to at the moment. */
  stands(channel: string): boolean;
  /** For commands of libraries that look after its state themselves. */
  readonly commands: Redis;
  /** For commands; null while it is away. */
  readonly speaker: Redis | null;
  /** Called each time that the speaker is back. */
  onSpeaker(run: () => void): void;
  close(): Promise<void>;
}

export interface LinkOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly pulseMs?: number;
}

/** Bytes on their way to Redis; what is said beyond is dropped: a Redis that hangs must not fill our memory. */
const MOST_UNDERWAY = 16 * 2 ** 20;

/** Starts without Redis too, says so in the log, and is there when Redis is. */
export function openRedisLink({ url, clock, log, pulseMs = 5_000 }: LinkOptions): RedisLink {
  const prefix = `pollcast:${databaseOf(url)}`;
  const lines = new Map<string, () => void>();
  const speakerRuns: (() => void)[] = [];
  let said: 'nothing' | 'connected' | 'away' = 'nothing';
  let refused: string | null = null;
  let closing = false;
  let underway = 0;

  const connection = { url, clock, pulseMs, onChange };
  const listener = connect('listener', connection);
  const speaker = connect('speaker', connection);
  const standing = keepSubscribed({
    redis: listener.redis,
    clock,
    onStanding: (channel) => lines.get(channel)?.(),
    onRefused(reason) {
      if (reason !== refused) log.warn({ reason }, 'Redis refuses a subscription; it is asked again');
      refused = reason;
    },
  });
  const pubsub = new RedisPubSub({
    subscriber: listener.redis,
    publisher: speaker.redis,
    messageEventName: 'messageBuffer',
    // Texts go out and bytes come in as they are: what is not understood must be seen, not delivered as something else.
    serializer: String,
    deserializer: (payload) => payload,
  });
  speaker.redis.on('ready', () => {
    for (const run of speakerRuns) run();
  });

  return {
    id: randomBytes(9).toString('base64url'),
    get connected() {
      return listener.ready && speaker.ready;
    },
    name: (...parts) => [prefix, ...parts].join(':'),
    publish(channel, payload) {
      if (!speaker.ready || underway > MOST_UNDERWAY) return false;
      underway += payload.length;
      const over = (): void => {
        underway -= payload.length;
      };
      // A message that is lost on its way is no fault: whoever misses it looks at the database.
      pubsub.publish(channel, payload).then(over, over);
      return true;
    },
    listen(channel, onMessage, onStanding) {
      if (lines.has(channel)) throw new Error(`${channel} is listened to already.`);
      lines.set(channel, onStanding);
      const receive = (payload: Buffer): void => {
        try {
          onMessage(payload);
        } catch (error) {
          log.error({ err: error, channel }, 'a message could not be taken in');
        }
      };
      const id = pubsub.subscribe<Buffer>(channel, receive);
      // It may stand still from a listener that has just left.
      queueMicrotask(() => {
        if (lines.get(channel) === onStanding && standing.stands(channel)) onStanding();
      });
      return () => {
        lines.delete(channel);
        void id.then((number) => pubsub.unsubscribe(number));
      };
    },
    stands: standing.stands,
    commands: speaker.redis,
    get speaker() {
      return speaker.ready ? speaker.redis : null;
    },
    onSpeaker: (run) => void speakerRuns.push(run),
    async close() {
      closing = true;
      standing.stop();
      await Promise.all([listener.close(), speaker.close()]);
    },
  };

  /** One line a change, whatever either connection goes through in between. */
  function onChange(reason: string | null): void {
    if (closing) return;
    if (listener.ready && speaker.ready) {
      if (said !== 'connected') log.info({}, said === 'away' ? 'Redis is back' : 'Redis is connected');
      said = 'connected';
      refused = null;
    } else if (reason !== null && said !== 'away') {
      log.warn({ reason }, 'Redis is away: other instances are heard of through the database until it is back');
      said = 'away';
    }
  }
}
