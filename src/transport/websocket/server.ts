/** Opens, watches and closes WebSocket connections. `protocol.ts` answers their messages. */
import type { IncomingMessage } from 'node:http';
import { CloseCode, GRAPHQL_TRANSPORT_WS_PROTOCOL } from 'graphql-ws';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import type { Services } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import { credentialsOf } from '../request/context.ts';
import { readId } from '../request/response.ts';
import type { Heartbeat } from '../socket/heartbeat.ts';
import { spread } from '../socket/spread.ts';
import { WebSocketConnection } from './connection.ts';
import { chooseSubprotocol } from './handshake.ts';
import { makeProtocol } from './protocol.ts';

/** With this many bytes unsent to a client, the server stops reading its messages. */
const UNREAD_BYTES = 256 * 1024;
/** How long the server waits for running queries and mutations before it closes a connection. */
const ANSWER_MS = 1_000;
/** How long a client may take to answer the close frame. */
const CLOSE_MS = 2_000;

const WRONG_SUBPROTOCOL =
  'a WebSocket client asked for a subprotocol that the server does not speak; ' +
  'use a client of graphql-transport-ws, such as the npm package graphql-ws (subscriptions-transport-ws is the old one)';

export interface WebSockets {
  /**
   * Opens a WebSocket on the socket of a valid upgrade request. `from.cookie`: whether the voter
   * cookie counts. The caller has counted the connection under `from.address`; this undoes it
   * when the connection ends.
   */
  accept(request: IncomingMessage, head: Buffer, from: { readonly cookie: boolean; readonly address: string }): void;
  readonly size: number;
  /** The number of subscriptions on all connections. */
  readonly watching: number;
  /** Closes all connections with `code`, spread over `spreadMs`. Cuts those that do not answer. */
  close(code: number, reason: string, spreadMs: number): Promise<void>;
}

export function makeWebSockets(options: {
  readonly engine: Engine;
  readonly services: Services;
  readonly liveness: Heartbeat;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the server logs each connection at `debug`. */
  readonly logRequests: boolean;
}): WebSockets {
  const { services, liveness, clock, log, logRequests } = options;
  const connections = new Set<WebSocketConnection>();
  /** Set by `close`; called when the last connection is closed. */
  let whenEmpty: (() => void) | null = null;
  const protocol = makeProtocol(options);
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: LIMITS.messageBytes,
    perMessageDeflate: false,
    handleProtocols: chooseSubprotocol,
    WebSocket: WebSocketConnection,
  });

  function open(connection: WebSocketConnection): void {
    if (logRequests) logConnection(connection);
    connections.add(connection);
    liveness.add(connection);
    // All connections share these functions: closures for each would cost memory.
    connection.on('message', receive);
    connection.on('error', failed);
    connection.on('close', closed);
    if (connection.protocol === GRAPHQL_TRANSPORT_WS_PROTOCOL) protocol.onOpen(connection);
    else refuseSubprotocol(connection);
  }

  function refuseSubprotocol(connection: WebSocketConnection): void {
    const subprotocol = connection.protocol || null;
    log.debug({ ...connection.logFields, subprotocol }, WRONG_SUBPROTOCOL);
    connection.close(CloseCode.SubprotocolNotAcceptable, 'Subprotocol not acceptable');
  }

  function logConnection(connection: WebSocketConnection): void {
    const opened = clock.now();
    log.debug(connection.logFields, 'a WebSocket opened');
    connection.on('close', (closeCode) => {
      log.debug({ ...connection.logFields, closeCode, ms: clock.now() - opened }, 'a WebSocket closed');
    });
  }

  function receive(this: WebSocket, data: RawData, isBinary: boolean): void {
    if (!(this instanceof WebSocketConnection)) return;
    // Ignore messages that arrive after the close frame was sent.
    if (!this.isOpen) return;
    if (isBinary) this.close(CloseCode.BadRequest, 'Text messages only');
    else protocol.receive(this, String(data));
    // Stop reading from a client that does not read its answers.
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
    accept(request, head, from) {
      const { socket } = request;
      const { address } = from;
      const credentials = credentialsOf(request, from.cookie);
      const id = readId(request.headers['x-request-id']);
      let opened = false;
      server.handleUpgrade(request, socket, head, (connection) => {
        opened = true;
        connection.attach({ socket, credentials, address, id });
        open(connection);
      });
      // `ws` opens the connection at once or not at all.
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

  /** Stops reading messages, waits for the running queries and mutations, then closes. */
  function sendAway(connection: WebSocketConnection, code: number, reason: string): void {
    let stop: Stop = () => {};
    let closing = false;
    const close = (): void => {
      if (closing) return;
      closing = true;
      stop();
      connection.close(code, reason);
      // A paused connection would not read the client's close frame.
      connection.resume();
      stop = clock.after(CLOSE_MS, () => connection.terminate());
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
