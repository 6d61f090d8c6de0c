/**
 * Where TCP connections come in. Node keeps a parser, a request and a response for each HTTP connection as long as it is
 * open: 11 KB for a watcher who only listens (`bench/README.md`). So whoever begins by asking for an event stream is let in
 * as a guest: Node's HTTP server reads the request from a stand-in for the connection, and the stand-in goes, with all that
 * was made for it, once the stream has begun. Everybody else is given to the HTTP server as ever.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../ports/clock.ts';
import { DetachableSocket } from './events/detached-socket.ts';

/** A header of its own, and nothing else in it: clients that would also take an event stream ask for many other things. */
const ASKS_FOR_STREAM = /\r\naccept:[ \t]*text\/event-stream[ \t]*\r\n/i;

const TOO_LATE = 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n';

export interface ConnectionListener {
  /** Cuts the connections that have not said anything yet; called once, when the server listens no more. */
  closeIdle(): void;
}

/** `admit`: whether there is a place for one more; `headersMs`: how long one may stay without a word. */
export function listenForConnections(
  server: Server,
  headersMs: number,
  clock: Clock,
  admit: (line: Socket) => boolean,
): ConnectionListener {
  const [serve, ...others] = server.listeners('connection');
  if (serve === undefined || others.length > 0) throw new Error('Node listens to its connections with one function.');
  server.removeAllListeners('connection');
  /** Those that have not said anything yet, the oldest first, and since when. */
  const waiting = new Map<Socket, number>();

  server.on('connection', (line: Socket) => {
    if (!admit(line)) {
      line.destroy();
      return;
    }
    waiting.set(line, clock.now());
    line.on('error', ignore);
    line.on('end', endLine);
    line.once('data', enter);
  });

  function enter(this: Socket, data: Buffer): void {
    waiting.delete(this);
    this.off('error', ignore);
    this.off('end', endLine);
    const isGuest = ASKS_FOR_STREAM.test(data.toString('latin1'));
    serve?.call(server, isGuest ? new DetachableSocket(this) : this);
    this.unshift(data);
  }

  // One timer for all: one each would be kept by its socket as long as that lives.
  const stop = clock.every(Math.max(100, headersMs / 4), () => {
    const latest = clock.now() - headersMs;
    for (const [line, since] of waiting) {
      if (since > latest && !line.destroyed) continue;
      waiting.delete(line);
      if (line.writable) line.write(TOO_LATE);
      line.destroySoon();
    }
  });

  return {
    closeIdle() {
      for (const line of waiting.keys()) line.destroy();
      waiting.clear();
      stop();
    },
  };
}

function endLine(this: Socket): void {
  this.destroySoon();
}

function ignore(): void {}
