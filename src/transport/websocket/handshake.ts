/** Checks WebSocket handshakes and answers those that are refused, as JSON. */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { GRAPHQL_TRANSPORT_WS_PROTOCOL } from 'graphql-ws';
import { errorText, JSON_HEADERS } from '../request/reply.ts';

/** Why a handshake is refused. */
export interface HandshakeFault {
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Null: `ws` accepts the handshake. Its answer to any other is HTML. */
export function faultOfHandshake({ method, headers }: IncomingMessage): HandshakeFault | null {
  if (method !== 'GET') {
    return { status: 405, message: 'method: a WebSocket handshake must be a GET request.', headers: { allow: 'GET' } };
  }
  const version = headers['sec-websocket-version'];
  if (version !== '13' && version !== '8') {
    const supported = { 'sec-websocket-version': '13, 8' };
    return {
      status: 426,
      message: 'sec-websocket-version: must be 13.',
      headers: { ...supported, upgrade: 'websocket' },
    };
  }
  if (!/^[+/0-9A-Za-z]{22}==$/.test(headers['sec-websocket-key'] ?? '')) {
    return { status: 400, message: 'sec-websocket-key: must be 16 bytes in base64.' };
  }
  const offered = headers['sec-websocket-protocol'];
  if (offered !== undefined && !isListOfNames(offered)) {
    return { status: 400, message: 'sec-websocket-protocol: must be a list of different names.' };
  }
  return null;
}

function isListOfNames(header: string): boolean {
  const names = header.split(',').map((name) => name.trim());
  return new Set(names).size === names.length && names.every((name) => /^[!#$%&'*+.^_`|~\w-]+$/.test(name));
}

/**
 * Accepts any subprotocol if the client does not offer ours. A browser reports a handshake
 * without a subprotocol as 1006 with no reason; after this one it can read why the server
 * closes the connection.
 */
export function chooseSubprotocol(offered: ReadonlySet<string>): string | false {
  if (offered.has(GRAPHQL_TRANSPORT_WS_PROTOCOL)) return GRAPHQL_TRANSPORT_WS_PROTOCOL;
  const [first] = offered;
  return first ?? false;
}

/** Answers the upgrade request and closes the connection. */
export function refuseUpgrade(socket: Socket, { status, message, headers }: HandshakeFault): void {
  const body = errorText(message);
  const all = { ...JSON_HEADERS, ...headers, connection: 'close', 'content-length': Buffer.byteLength(body) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  // Node no longer listens to this socket: a reset must not end the process, and a client
  // that keeps its side open must not keep the connection.
  socket.on('error', () => {});
  socket.once('finish', () => socket.destroy());
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, '', body].join('\r\n'));
}
