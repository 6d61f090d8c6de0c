/**
 * Accepts TCP connections. Node keeps 11 KB per HTTP connection, too much for an idle watcher.
 * If the first request asks for an event stream, Node reads it through a temporary duplex.
 * Once the stream has started, the duplex and Node's HTTP objects are freed and only the
 * socket stays.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../ports/clock.ts';
import { DetachableSocket } from './events/detached-socket.ts';

/** The header alone: a client that also accepts other types asks for more than streams. */
const ASKS_FOR_STREAM = /\r\naccept:[ \t]*text\/event-stream[ \t]*\r\n/i;

const REQUEST_TIMEOUT = 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n';

export interface ConnectionListener {
  /** Lets Node's HTTP server read requests from an accepted socket again, `bytes` first. */
  readAgain(socket: Socket, bytes: Buffer): void;
  /** Closes the connections that have sent nothing. Call it once the server has stopped listening. */
  closeIdle(): void;
}

/**
 * `admit` returns false if the address has too many connections. A connection that sends
 * nothing for `headersMs` is closed.
 */
export function listenForConnections(
  server: Server,
  headersMs: number,
  clock: Clock,
  admit: (socket: Socket) => boolean,
): ConnectionListener {
  const [serve, ...others] = server.listeners('connection');
  if (serve === undefined || others.length > 0) throw new Error('The HTTP server must have one connection listener.');
  server.removeAllListeners('connection');
  /** The connections that have sent nothing, oldest first, and when each was accepted. */
  const silent = new Map<Socket, number>();

  server.on('connection', (socket: Socket) => {
    if (!admit(socket)) {
      socket.destroy();
      return;
    }
    silent.set(socket, clock.now());
    socket.on('error', ignore);
    socket.on('end', destroySoon);
    socket.once('data', startRequest);
  });

  function startRequest(this: Socket, data: Buffer): void {
    silent.delete(this);
    this.off('error', ignore);
    this.off('end', destroySoon);
    const asksForStream = ASKS_FOR_STREAM.test(data.toString('latin1'));
    serve?.call(server, asksForStream ? new DetachableSocket(this) : this);
    this.unshift(data);
  }

  // One timer for all: a socket would keep its own timer as long as it lives.
  const stop = clock.every(Math.max(100, headersMs / 4), () => {
    const latest = clock.now() - headersMs;
    for (const [socket, since] of silent) {
      if (since > latest && !socket.destroyed) continue;
      silent.delete(socket);
      if (socket.writable) socket.write(REQUEST_TIMEOUT);
      socket.destroySoon();
    }
  });

  return {
    readAgain(socket, bytes) {
      serve.call(server, socket);
      socket.unshift(bytes);
      socket.resume();
    },
    closeIdle() {
      for (const socket of silent.keys()) socket.destroy();
      silent.clear();
      stop();
    },
  };
}

function destroySoon(this: Socket): void {
  this.destroySoon();
}

function ignore(): void {}
