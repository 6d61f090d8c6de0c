/**
 * Handles requests with an `Upgrade` header: opens a WebSocket at `/graphql`, or answers why
 * not. Other protocols, such as h2c, are ignored (RFC 9110, 7.8).
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RateLimits } from '../limits/rate-limits.ts';
import type { ClientAddresses } from './request/client-address.ts';
import type { Cors, PageOrigin } from './request/cors.ts';
import { afterResponses } from './request/order.ts';
import { normaliseTarget, pathOf } from './request/target.ts';
import { faultOfHandshake, type HandshakeFault, refuseUpgrade } from './websocket/handshake.ts';
import type { WebSockets } from './websocket/server.ts';

export interface UpgradeOptions {
  readonly webSockets: WebSockets;
  readonly addresses: ClientAddresses;
  readonly cors: Cors;
  readonly rates: Pick<RateLimits, 'connect'>;
  readonly isDraining: () => boolean;
  /** Gives the socket back to the HTTP server, which reads `bytes` first. */
  readonly readAgain: (socket: Socket, bytes: Buffer) => void;
}

/** Whether the client asks for a WebSocket, perhaps among other protocols. */
export function asksForWebSocket({ headers }: IncomingMessage): boolean {
  return (headers.upgrade ?? '').split(',').some((protocol) => protocol.trim().toLowerCase() === 'websocket');
}

export function makeUpgradeListener(options: UpgradeOptions) {
  const { webSockets, addresses, cors, rates, isDraining, readAgain } = options;

  return (request: IncomingMessage, _socket: Duplex, head: Buffer): void => {
    const { socket } = request;
    afterResponses(socket, head, (read) => {
      if (asksForWebSocket(request)) openWebSocket(request, read);
      else readAgain(socket, Buffer.concat([headWithoutUpgrade(request), read]));
    });
  };

  function openWebSocket(request: IncomingMessage, head: Buffer): void {
    normaliseTarget(request);
    request.headers.upgrade = 'websocket';
    const origin = cors.asking(request);
    const address = addresses.of(request);
    const fault = faultOf(request, origin) ?? rateFault(address);
    if (fault === null) webSockets.accept(request, head, { cookie: origin !== 'any', address });
    else refuseUpgrade(request.socket, fault);
  }

  function faultOf(request: IncomingMessage, origin: PageOrigin): HandshakeFault | null {
    if (pathOf(request) !== '/graphql') return { status: 404, message: 'A WebSocket opens at /graphql only.' };
    if (isDraining()) return { status: 503, message: 'The server is shutting down; try again.' };
    // A browser sends no preflight before it opens a WebSocket, so check the origin here.
    if (origin === 'foreign') {
      return { status: 403, message: 'origin: this origin may not call; it is not in CORS_ORIGINS.' };
    }
    return faultOfHandshake(request);
  }

  /** Counts the connection unless the address has too many. */
  function rateFault(address: string): HandshakeFault | null {
    try {
      rates.connect(address);
      return null;
    } catch {
      return { status: 429, message: 'This address has too many connections; close one or try again later.' };
    }
  }
}

/**
 * The head of a request without its upgrade. Node up to 24 leaves the body of an upgrade
 * request unread, so the request can be read again with this head.
 */
function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    let value = rawHeaders[at + 1] ?? '';
    const lower = name.toLowerCase();
    if (lower === 'upgrade' || lower === 'http2-settings') continue;
    if (lower === 'connection') {
      const kept = value.split(',').filter((option) => !/^\s*(upgrade|http2-settings)\s*$/i.test(option));
      if (kept.length === 0) continue;
      value = kept.join(',').trim();
    }
    lines.push(`${name}: ${value}`);
  }
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}
