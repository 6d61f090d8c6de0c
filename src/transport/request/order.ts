/**
 * Keeps the order of answers on a connection with pipelined requests (RFC 9112, 9.3.2): an
 * event stream or an upgrade takes the connection over, so it waits for the answers before it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pathOf } from './target.ts';

const HAS_DEFERRED: unique symbol = Symbol('has deferred requests');

declare module 'node:net' {
  interface Socket {
    /** Whether a request on it waits for its turn: then all requests behind it wait too. */
    [HAS_DEFERRED]?: boolean;
    /** Node's own: the response that is being sent; null between two responses. */
    readonly _httpMessage?: ServerResponse | null;
  }
}

/**
 * Returns true if the request waits behind another response and may become an event stream,
 * or stands behind such a request. Then `begin` runs when all responses before it are sent.
 */
export function deferToItsTurn(request: IncomingMessage, response: ServerResponse, begin: () => void): boolean {
  const { socket } = request;
  if (response.socket !== null || !(socket[HAS_DEFERRED] || mayStream(request))) return false;
  socket[HAS_DEFERRED] = true;
  // Reading on would collect requests without limit.
  socket.pause();
  response.once('socket', () => {
    // Node writes to the response after this event, so wait until it has.
    queueMicrotask(() => {
      socket.resume();
      if (!response.destroyed) begin();
    });
  });
  return true;
}

function mayStream(request: IncomingMessage): boolean {
  const { accept = '' } = request.headers;
  return /text\/event-stream|multipart\/mixed/i.test(accept) || pathOf(request).endsWith('/stream');
}

/** With this many bytes read ahead, the server stops reading until the responses are sent. */
const READ_AHEAD_BYTES = 64 * 1024;

/**
 * Calls `go` when no response is left to send on the socket of an upgrade request, with
 * `head` and what has arrived since. Does not call it if the connection closes before.
 */
export function afterResponses(socket: Socket, head: Buffer, go: (head: Buffer) => void): void {
  if (socket._httpMessage == null) {
    go(head);
    return;
  }
  const pieces = [head];
  let length = head.length;
  // Read on to notice when the client leaves: Node no longer listens to this socket.
  const onData = (data: Buffer): void => {
    pieces.push(data);
    length += data.length;
    if (length > READ_AHEAD_BYTES) socket.pause();
  };
  const onDrain = (): void => void socket._httpMessage?.emit('drain');
  socket.on('data', onData).on('end', destroySoon).on('drain', onDrain).on('error', ignore);
  const next = (): void => {
    const response = socket._httpMessage;
    if (response != null && !response.destroyed) {
      response.once('close', next);
      return;
    }
    socket.off('data', onData).off('end', destroySoon).off('drain', onDrain);
    if (socket.destroyed || !socket.writable) return;
    socket.pause();
    socket.off('error', ignore);
    // Node has set the keep-alive timeout, which nothing listens to any more.
    socket.setTimeout(0);
    go(Buffer.concat(pieces));
  };
  next();
}

function destroySoon(this: Socket): void {
  this.destroySoon();
}

function ignore(): void {}
