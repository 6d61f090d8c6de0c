/**
 * Server-sent events: GraphQL in the distinct connections mode of graphql-sse (one operation a stream). The bytes of
 * an update are the same for all of a group, chunk framing included, so they go to the socket as they are.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ExecutionResult, GraphQLError } from 'graphql';
import type { PollcastError } from '../core/errors.ts';
import type { Stop } from '../core/ports.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import type { Outlet, Update } from '../live/mailbox.ts';
import { chunk, serverSentEvent } from './frames.ts';
import type { Liveness } from './liveness.ts';

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const;

// Some browsers do not open a stream on headers alone.
const HELLO = chunk(Buffer.from(':\n\n'));

export interface EventStreams {
  /** Streams a subscription; `start` gets the outlet and gives the way to leave, or errors, which become the one event (L7). */
  subscribe(
    request: IncomingMessage,
    response: ServerResponse,
    start: (outlet: Outlet) => Promise<Stop | readonly GraphQLError[]>,
  ): void;
  /** A result that is there at once, as a stream of one event. */
  single(response: ServerResponse, result: ExecutionResult): void;
  readonly size: number;
  /** Ends all streams. */
  close(): void;
}

class Stream implements Outlet {
  private readonly response: ServerResponse;
  private readonly socket: Socket;
  private lastBacklog = 0;
  leave: Stop | null = null;
  ended = false;

  constructor(response: ServerResponse, socket: Socket) {
    this.response = response;
    this.socket = socket;
  }

  backlog(): number {
    return this.socket.writableLength;
  }

  send(update: Update): void {
    let bytes = update.shared.get('graphql-sse');
    if (bytes === undefined) {
      bytes = chunk(serverSentEvent('next', update.payload, update.cursor));
      update.shared.set('graphql-sse', bytes);
    }
    if (!this.ended) this.socket.write(bytes);
  }

  end(): void {
    this.finish(serverSentEvent('complete', ''));
  }

  fail(error: PollcastError): void {
    this.sayErrors([asGraphQLError(error)]);
  }

  sayErrors(errors: readonly GraphQLError[]): void {
    this.finish(Buffer.concat([serverSentEvent('next', JSON.stringify({ errors })), serverSentEvent('complete', '')]));
  }

  finish(last?: Buffer): void {
    if (this.ended) return;
    this.ended = true;
    this.leave?.();
    if (last !== undefined) this.socket.write(chunk(last));
    this.response.end();
  }

  drop(): void {
    this.socket.destroy();
  }

  /** A comment is both heartbeat and probe: while nothing moves, the kernel finds out about a peer that is gone. */
  beat(): boolean {
    const backlog = this.backlog();
    const stuck = backlog > 0 && backlog === this.lastBacklog;
    this.lastBacklog = backlog;
    if (backlog === 0) this.socket.write(HELLO);
    return !stuck;
  }
}

export function makeEventStreams(liveness: Liveness): EventStreams {
  const streams = new Set<Stream>();

  function open(request: IncomingMessage, response: ServerResponse): Stream | null {
    const socket = response.socket;
    // Behind another response on the same connection (pipelining) there is no socket to write to.
    if (socket === null) {
      request.socket.destroy();
      return null;
    }
    response.writeHead(200, HEADERS);
    response.flushHeaders();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 5_000);
    socket.write(HELLO);
    const stream = new Stream(response, socket);
    streams.add(stream);
    const forget = liveness.add({ look: () => stream.beat(), cut: () => stream.drop() });
    response.on('close', () => {
      forget();
      streams.delete(stream);
      stream.ended = true;
      stream.leave?.();
    });
    return stream;
  }

  return {
    subscribe(request, response, start) {
      const stream = open(request, response);
      if (stream === null) return;
      void start(stream).then((started) => {
        if (typeof started !== 'function') return stream.sayErrors(started);
        stream.leave = started;
        // It may have ended, or the client left, before there was a way to leave.
        if (stream.ended) started();
      });
    },
    single(response, result) {
      response.writeHead(200, HEADERS);
      response.end(Buffer.concat([serverSentEvent('next', JSON.stringify(result)), serverSentEvent('complete', '')]));
    },
    get size() {
      return streams.size;
    },
    close() {
      for (const stream of streams) stream.finish();
    },
  };
}
