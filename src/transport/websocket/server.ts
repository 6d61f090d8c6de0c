/** GraphQL over WebSocket: takes connections in, keeps them honest, and sends them away. What is said on them is the protocol's. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, handleProtocols } from 'graphql-ws';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import type { Services } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import { readId } from '../request/response.ts';
import type { Heartbeat } from '../socket/heartbeat.ts';
import { spread } from '../socket/spread.ts';
import { NO_CREDENTIALS, WebSocketConnection } from './connection.ts';
import { makeProtocol } from './protocol.ts';

/** Bytes that a client may leave unread before it is not read from any more. */
const UNREAD_BYTES = 256 * 1024;
/** How long a connection that is sent away waits for the answers to what it asked. */
const ANSWER_MS = 1_000;
/** How long the other side may take to say goodbye. */
const GOODBYE_MS = 2_000;

export interface WebSockets {
  /**
   * Takes an upgrade request over; without `cookie` who asks is not known by the browser's cookie. `address` is what it is counted
   * by: the place that was taken for it is given back when it is over.
   */
  accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    from: { readonly cookie: boolean; readonly address: string },
  ): void;
  readonly size: number;
  /** How many subscriptions run on them. */
  readonly watching: number;
  /** Closes all connections with `code`, spread over `spreadMs`, and cuts who does not answer. */
  close(code: number, reason: string, spreadMs: number): Promise<void>;
}

export function makeWebSockets(options: {
  readonly engine: Engine;
  readonly services: Services;
  readonly liveness: Heartbeat;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether each connection has its lines at `debug`. */
  readonly logRequests: boolean;
}): WebSockets {
  const { services, liveness, clock, log, logRequests } = options;
  const connections = new Set<WebSocketConnection>();
  /** Set once all are being sent away: called when the last is gone. */
  let whenEmpty: (() => void) | null = null;
  const protocol = makeProtocol(options);
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: LIMITS.messageBytes,
    perMessageDeflate: false,
    handleProtocols,
    WebSocket: WebSocketConnection,
  });

  function open(connection: WebSocketConnection): void {
    if (logRequests) note(connection);
    connections.add(connection);
    liveness.add(connection);
    // One function for all connections each: a closure of its own for everything that may happen adds up.
    connection.on('message', receive);
    connection.on('error', failed);
    connection.on('close', closed);
    if (connection.protocol === '') connection.close(CloseCode.SubprotocolNotAcceptable, 'Subprotocol not acceptable');
    else protocol.onOpen(connection);
  }

  function note(connection: WebSocketConnection): void {
    const opened = clock.now();
    log.debug(connection.logFields, 'a WebSocket opened');
    connection.on('close', (closeCode) => {
      log.debug({ ...connection.logFields, closeCode, ms: clock.now() - opened }, 'a WebSocket closed');
    });
  }

  function receive(this: WebSocket, data: RawData, isBinary: boolean): void {
    if (!(this instanceof WebSocketConnection)) return;
    // What comes after we have closed is not for us any more.
    if (!this.isOpen) return;
    if (isBinary) this.close(CloseCode.BadRequest, 'Text messages only');
    else protocol.receive(this, String(data));
    // Who does not read its answers may not ask for more.
    if (this.socket.writableLength > UNREAD_BYTES && !this.isPaused) {
      this.pause();
      this.socket.once('drain', () => this.resume());
    }
  }

  function failed(this: WebSocket, error: Error): void {
    if (this instanceof WebSocketConnection) log.debug({ err: error, ...this.logFields }, 'a WebSocket failed');
  }

  function closed(this: WebSocket): void {
    if (!(this instanceof WebSocketConnection)) return;
    liveness.remove(this);
    connections.delete(this);
    services.rates.disconnect(this.address);
    protocol.closed(this);
    if (connections.size === 0) whenEmpty?.();
  }

  return {
    accept(request, socket, head, from) {
      const { authorization, cookie } = request.headers;
      const voterToken = request.headers['pollcast-voter'];
      // Nearly all bring nothing, and share it.
      const isKnown = authorization !== undefined || cookie !== undefined || voterToken !== undefined;
      const credentials = !isKnown
        ? NO_CREDENTIALS
        : {
            authorization,
            cookie: from.cookie ? cookie : undefined,
            voterToken: typeof voterToken === 'string' ? voterToken : undefined,
          };
      const id = readId(request.headers['x-request-id']);
      const { address } = from;
      let opened = false;
      server.handleUpgrade(request, socket, head, (connection) => {
        opened = true;
        connection.attach({ socket: request.socket, credentials, address, id });
        open(connection);
      });
      // Nothing here waits: a handshake that was not in order is over by now.
      if (!opened) services.rates.disconnect(address);
    },
    get size() {
      return connections.size;
    },
    get watching() {
      return protocol.watching;
    },
    async close(code, reason, spreadMs) {
      const all = [...connections];
      const gone = all.length === 0 ? null : new Promise<void>((resolve) => (whenEmpty = resolve));
      const stop = spread(clock, all, spreadMs, (connection) => sendAway(connection, code, reason));
      await gone;
      stop();
      server.close();
    },
  };

  /** Takes no more of its messages, answers those that it has, and closes. */
  function sendAway(connection: WebSocketConnection, code: number, reason: string): void {
    let stop: Stop = () => {};
    let closing = false;
    const close = (): void => {
      if (closing) return;
      closing = true;
      stop();
      connection.close(code, reason);
      // Else its goodbye would not be heard.
      connection.resume();
      stop = clock.after(GOODBYE_MS, () => connection.terminate());
    };
    connection.once('close', () => stop());
    if (connection.isAnswered) {
      close();
      return;
    }
    connection.pause();
    stop = clock.after(ANSWER_MS, close);
    connection.whenAnswered = () => void setImmediate(close);
  }
}
