/**
 * Server-sent events: GraphQL in the distinct connections mode of graphql-sse (one operation a stream). The bytes of
 * an update are the same for all of a group, chunk framing included, so they go to the socket as they are.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ExecutionResult, GraphQLError } from 'graphql';
import type { Rates } from '../access/rates.ts';
import { sessionExpired } from '../access/viewer.ts';
import type { PollcastError } from '../core/errors.ts';
import type { Clock, Stop } from '../core/ports.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import { Outlet, type Update } from '../live/mailbox.ts';
import { writeDirect } from './direct.ts';
import { Guest } from './door.ts';
import { chunk, serverSentEvent } from './frames.ts';
import type { Liveness, Peer } from './liveness.ts';
import { spread } from './spread.ts';

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const;

/** Of a stream that has its connection to itself. */
const OWN_HEADERS = { ...HEADERS, connection: 'close' } as const;
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

const BEAT = Buffer.from(':\n\n');

export interface EventStreams {
  /** Streams a subscription; what it cannot be begun with becomes the one event (L7). Throws `RateLimitedError`. */
  subscribe(request: IncomingMessage, response: ServerResponse, watcher: Watcher): void;
  /**
   * Streams a poll's results as they are, for `EventSource`. Errors are answered as a status, at which `EventSource` gives
   * up; so it does at the 204 of a closed poll whose final results it has. Throws `RateLimitedError`.
   */
  plain(
    request: IncomingMessage,
    response: ServerResponse,
    watcher: Watcher,
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

export interface Watcher {
  /** Gets the outlet and the version that the client has, and gives the way to leave, or errors. */
  readonly start: (outlet: Outlet, after: number | null) => Promise<Stop | readonly GraphQLError[]>;
  /** What it is counted by. */
  readonly address: string;
  /** When the viewer's token expires: the stream says so and ends. */
  readonly expiresAt: number | null;
}

/** How the events of a stream read: GraphQL in distinct connections mode, or plain results. */
interface Dialect {
  readonly isGraphql: boolean;
  /** What goes around whatever is written. */
  readonly frame: (data: Buffer) => Buffer;
  readonly bytes: (update: Update) => Buffer;
  readonly failure: (errors: readonly GraphQLError[]) => Buffer;
  /** The viewer's token has expired: what comes next takes a new one. */
  readonly expiry: (error: GraphQLError) => Buffer;
  // One after the other is served the same update: its bytes, chunk framing included, are at hand without a look-up.
  lastUpdate: Update | null;
  lastBytes: Buffer;
}

const COMPLETE = serverSentEvent('complete', '');

const GRAPHQL: Dialect = {
  isGraphql: true,
  frame: chunk,
  bytes: ({ payload, cursor }) => serverSentEvent('next', payload, cursor),
  failure: (errors) => Buffer.concat([serverSentEvent('next', JSON.stringify({ errors })), COMPLETE]),
  expiry: (error) => GRAPHQL.failure([error]),
  lastUpdate: null,
  lastBytes: COMPLETE,
};

const PLAIN: Dialect = {
  isGraphql: false,
  frame: chunk,
  bytes: ({ payload, cursor }) => serverSentEvent('results', payload, cursor),
  failure: (errors) => serverSentEvent('failed', JSON.stringify({ errors })),
  // No `failed`: a client that has a new token goes on with its version.
  expiry: (error) => serverSentEvent('expired', JSON.stringify({ errors: [error] })),
  lastUpdate: null,
  lastBytes: COMPLETE,
};

/** For HTTP/1.0, as some proxies speak it unless they are told otherwise: there are no chunks, the body ends with its connection. */
const bare = (dialect: Dialect): Dialect => ({ ...dialect, frame: (data) => data });
const GRAPHQL_BARE = bare(GRAPHQL);
const PLAIN_BARE = bare(PLAIN);

class Stream extends Outlet implements Peer {
  slot = -1;
  /** Null once the stream has its connection to itself. */
  private response: ServerResponse | null;
  private socket: Socket | Guest;
  readonly dialect: Dialect;
  readonly address: string;
  /** Called at the end of the connection. */
  onClose: Stop = () => {};
  private lastBacklog = 0;
  private leave: Stop | null = null;
  private isOpen = false;
  private isOver = false;

  constructor(response: ServerResponse, socket: Socket | Guest, dialect: Dialect, address: string) {
    super();
    this.address = address;
    this.response = response;
    this.socket = socket;
    this.dialect = dialect;
  }

  open(): void {
    const { response } = this;
    if (this.isOpen || this.isOver || response === null) return;
    this.isOpen = true;
    const guest = this.socket instanceof Guest ? this.socket : null;
    response.writeHead(200, guest === null ? HEADERS : OWN_HEADERS);
    response.flushHeaders();
    // Unless something is still on its way through it, or it has just gone: then it stays what it is.
    if (guest !== null && guest.writableLength === 0 && !guest.destroyed) {
      response.off('close', this.onClose);
      this.response = null;
      this.socket = guest.leave();
      this.socket.on('close', this.onClose);
    }
    this.socket.setNoDelay(true);
    this.socket.setKeepAlive(true, 5_000);
    this.write(hello());
  }

  joined(leave: Stop): void {
    this.leave = leave;
    // It may have ended, or the client left, before there was a way to leave.
    if (this.isOver) leave();
  }

  backlog(): number {
    return this.socket.writableLength;
  }

  send(update: Update): boolean {
    if (this.isOver) return true;
    if (!this.isOpen) this.open();
    const { socket, dialect } = this;
    if (dialect.lastUpdate !== update) {
      dialect.lastUpdate = update;
      dialect.lastBytes = dialect.frame(dialect.bytes(update));
    }
    return writeDirect(socket, dialect.lastBytes);
  }

  private write(data: Buffer): void {
    this.socket.write(this.dialect.frame(data));
  }

  end(): void {
    this.finish(COMPLETE);
  }

  fail(error: PollcastError): void {
    this.sayErrors([asGraphQLError(error)]);
  }

  sayErrors(errors: readonly GraphQLError[]): void {
    this.open();
    this.finish(this.dialect.failure(errors));
  }

  /** Says by `status` that it cannot be begun, unless it has been begun or ended meanwhile: an answer has one head. */
  refuse(errors: readonly GraphQLError[], status: (errors: readonly GraphQLError[]) => void): void {
    if (this.isOpen || this.isOver) {
      this.sayErrors(errors);
      return;
    }
    this.isOver = true;
    status(errors);
  }

  expire(): void {
    this.open();
    this.finish(this.dialect.expiry(asGraphQLError(sessionExpired())));
  }

  finish(last?: Buffer): void {
    if (this.isOver) return;
    this.isOver = true;
    this.leave?.();
    const { response } = this;
    if (response !== null && !this.isOpen) {
      // Nothing was sent and nothing will be: 204 tells an EventSource not to come back.
      response.writeHead(204).end();
      return;
    }
    if (last !== undefined) this.write(last);
    if (response !== null) {
      response.end();
      return;
    }
    if (this.dialect.frame === chunk) this.socket.write(LAST_CHUNK);
    this.socket.destroySoon();
  }

  /** Ends it so that the client comes back, to whoever takes it then. */
  sendAway(retryMs: number): void {
    if (this.isOver) return;
    // Also one that is still being let in: the 204 of a stream that never opened would end it for good.
    this.open();
    this.write(Buffer.from(`retry: ${retryMs}\n\n`));
    this.finish();
    this.socket.destroySoon();
  }

  closed(): void {
    this.isOver = true;
    this.leave?.();
  }

  drop(): void {
    this.socket.destroy();
  }

  cut(): void {
    this.drop();
  }

  /** A comment is both heartbeat and probe: while nothing moves, the kernel finds out about a peer that is gone. */
  look(): boolean {
    if (!this.isOpen) return true;
    const backlog = this.backlog();
    const stuck = backlog > 0 && backlog === this.lastBacklog;
    this.lastBacklog = backlog;
    if (backlog === 0 && !this.isOver) this.write(BEAT);
    return !stuck;
  }
}

/** Some browsers do not open a stream on headers alone. The pause before they come back differs, so that not all do at once. */
function hello(): Buffer {
  return Buffer.from(`retry: ${1_000 + Math.floor(Math.random() * 2_000)}\n:\n\n`);
}

export function makeEventStreams(
  liveness: Liveness,
  clock: Clock,
  rates: Pick<Rates, 'connect' | 'disconnect'>,
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
    dialect: Dialect,
    { address, expiresAt }: Watcher,
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
      const stream = make(request, response, isOld(request) ? GRAPHQL_BARE : GRAPHQL, watcher);
      if (stream === null) return;
      // Who comes back with a version may have all there will ever be: then it is told so by a 204.
      const after = lastEventId(request) ?? null;
      if (after === null) stream.open();
      void watcher.start(stream, after).then((started) => {
        if (typeof started !== 'function') return stream.sayErrors(started);
        stream.joined(started);
        stream.open();
      });
    },
    plain(request, response, watcher, refuse) {
      const stream = make(request, response, isOld(request) ? PLAIN_BARE : PLAIN, watcher);
      if (stream === null) return;
      void watcher.start(stream, lastEventId(request) ?? null).then((started) => {
        if (typeof started !== 'function') return stream.refuse(started, refuse);
        stream.joined(started);
        stream.open();
      });
    },
    single(response, result) {
      response.writeHead(200, HEADERS);
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

function isOld({ httpVersionMajor, httpVersionMinor }: IncomingMessage): boolean {
  return httpVersionMajor === 1 && httpVersionMinor === 0;
}

/** The cursor that a client comes back with. */
function lastEventId(request: IncomingMessage): number | undefined {
  const id = request.headers['last-event-id'];
  return typeof id === 'string' && /^\d{1,10}$/.test(id) ? Number(id) : undefined;
}
