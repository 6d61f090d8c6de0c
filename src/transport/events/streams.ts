/**
 * Server-sent events: GraphQL in the distinct connections mode of graphql-sse (one operation a stream), and plain results.
 * Here streams begin and are kept: each is counted, watched for life, and sent away when its viewer's token or the server ends.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ExecutionResult, GraphQLError } from 'graphql';
import type { RateLimits } from '../../limits/rate-limits.ts';
import type { Subscriber } from '../../live/subscriber.ts';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Heartbeat } from '../socket/heartbeat.ts';
import { spread } from '../socket/spread.ts';
import { serverSentEvent } from './encoding.ts';
import {
  COMPLETE,
  type EventFormat,
  GRAPHQL,
  GRAPHQL_UNCHUNKED,
  MULTIPART,
  MULTIPART_UNCHUNKED,
  PLAIN,
  PLAIN_UNCHUNKED,
} from './formats.ts';
import { STREAM_HEADERS, Stream } from './stream.ts';

export interface EventStreams {
  /** Streams a subscription; what it cannot be begun with becomes the one event (L7). Throws `RateLimitedError`. */
  subscribe(request: IncomingMessage, response: ServerResponse, watcher: StreamRequest): void;
  /**
   * Streams a poll's results as they are, for `EventSource`. Errors are answered as a status, at which `EventSource` gives
   * up; so it does at the 204 of a closed poll whose final results it has. Throws `RateLimitedError`.
   */
  plain(
    request: IncomingMessage,
    response: ServerResponse,
    watcher: StreamRequest,
    refuse: (errors: readonly GraphQLError[]) => void,
  ): void;
  /** A result that is there at once, as a stream of one event. */
  single(response: ServerResponse, result: ExecutionResult): void;
  readonly size: number;
  /** Those that stream GraphQL; the others stream plain results. */
  readonly graphql: number;
  /** Ends all streams, spread over `spreadMs`; each client is told to come back after a pause of its own. */
  close(spreadMs: number): void;
  /** Cuts those that are left. */
  cut(): void;
}

export interface StreamRequest {
  /** Gets the outlet and the version that the client has, and gives the way to leave, or errors. */
  readonly start: (subscriber: Subscriber, after: number | null) => Promise<Stop | readonly GraphQLError[]>;
  /** What it is counted by. */
  readonly address: string;
  /** When the viewer's token expires: the stream says so and ends. */
  readonly expiresAt: number | null;
}

export function makeEventStreams(
  liveness: Heartbeat,
  clock: Clock,
  rates: Pick<RateLimits, 'connect' | 'disconnect'>,
): EventStreams {
  const streams = new Set<Stream>();
  /** Set once it closes: until when, and what ends with the last stream. */
  let closing: { readonly end: number; readonly spreadMs: number } | null = null;
  const timers = new Set<Stop>();

  /** Clients come back within a part of the time that the others take to leave. */
  function sendAway(stream: Stream, spreadMs: number): void {
    stream.sendAway(Math.floor(500 + Math.random() * (spreadMs / 2 + 500)));
  }

  function make(
    request: IncomingMessage,
    response: ServerResponse,
    dialect: EventFormat,
    { address, expiresAt }: StreamRequest,
  ): Stream | null {
    const socket = response.socket;
    // Behind another response on the same connection (pipelining) there is no socket to write to.
    if (socket === null) {
      request.socket.destroy();
      return null;
    }
    rates.connect(address);
    const stream = new Stream(response, socket, dialect, address);
    streams.add(stream);
    liveness.add(stream);
    const stopTimer = expiresAt === null ? null : clock.after(expiresAt - clock.now(), () => stream.expire());
    stream.onClose = () => {
      stopTimer?.();
      rates.disconnect(stream.address);
      liveness.remove(stream);
      streams.delete(stream);
      stream.closed();
      if (closing !== null && streams.size === 0) stopTimers();
    };
    response.on('close', stream.onClose);
    if (closing !== null) {
      const { end, spreadMs } = closing;
      timers.add(clock.after(Math.random() * (end - clock.now()), () => sendAway(stream, spreadMs)));
    }
    return stream;
  }

  return {
    subscribe(request, response, watcher) {
      const stream = make(request, response, graphqlFormat(request), watcher);
      if (stream === null) return;
      // Who comes back with a version may have all there will ever be: then it is told so by a 204.
      const after = lastEventId(request) ?? null;
      if (after === null) stream.open();
      void watcher.start(stream, after).then((started) => {
        if (typeof started !== 'function') return stream.sendErrors(started);
        stream.joined(started);
        stream.open();
      });
    },
    plain(request, response, watcher, refuse) {
      const stream = make(request, response, isOld(request) ? PLAIN_UNCHUNKED : PLAIN, watcher);
      if (stream === null) return;
      void watcher.start(stream, lastEventId(request) ?? null).then((started) => {
        if (typeof started !== 'function') return stream.refuse(started, refuse);
        stream.joined(started);
        stream.open();
      });
    },
    single(response, result) {
      response.writeHead(200, STREAM_HEADERS);
      response.end(Buffer.concat([serverSentEvent('next', JSON.stringify(result)), COMPLETE]));
    },
    get size() {
      return streams.size;
    },
    get graphql() {
      let count = 0;
      for (const stream of streams) if (stream.dialect.isGraphql) count++;
      return count;
    },
    close(spreadMs) {
      closing = { end: clock.now() + spreadMs, spreadMs };
      timers.add(spread(clock, [...streams], spreadMs, (stream) => sendAway(stream, spreadMs)));
    },
    cut() {
      for (const stream of streams) stream.cut();
    },
  };

  function stopTimers(): void {
    for (const stop of timers) stop();
    timers.clear();
  }
}

/** Whether the client asks for subscriptions in Apollo's multipart protocol. */
export function asksForMultipart({ headers }: IncomingMessage): boolean {
  return /multipart\/mixed\s*;[^,]*subscriptionspec\s*=\s*"?1\.0/i.test(headers.accept ?? '');
}

function graphqlFormat(request: IncomingMessage): EventFormat {
  if (asksForMultipart(request)) return isOld(request) ? MULTIPART_UNCHUNKED : MULTIPART;
  return isOld(request) ? GRAPHQL_UNCHUNKED : GRAPHQL;
}

function isOld({ httpVersionMajor, httpVersionMinor }: IncomingMessage): boolean {
  return httpVersionMajor === 1 && httpVersionMinor === 0;
}

/** The cursor that a client comes back with. */
function lastEventId(request: IncomingMessage): number | undefined {
  const id = request.headers['last-event-id'];
  return typeof id === 'string' && /^\d{1,10}$/.test(id) ? Number(id) : undefined;
}
