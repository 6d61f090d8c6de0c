/** A bare TCP connection to a server, for tests that look at the bytes of HTTP. */
import { connect, type Socket } from 'node:net';

export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** What has arrived, as latin1. */
  readonly text: () => string;
  /** Resolves with the text when it matches. Rejects if the connection closes before. */
  until(pattern: RegExp): Promise<string>;
  /** The same, when the text holds `part` so many times. */
  untilCount(part: string, count: number): Promise<string>;
  /** Resolves with the whole text when the server has closed the connection. */
  closed(): Promise<string>;
}

export async function openRaw(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname });
  let text = '';
  let isClosed = false;
  let changed = (): void => {};
  socket.setEncoding('latin1');
  socket.on('data', (piece) => {
    text += piece;
    changed();
  });
  // A reset ends the connection like a close; `close` follows it.
  socket.on('error', () => {});
  socket.on('close', () => {
    isClosed = true;
    changed();
  });
  await new Promise((resolve) => socket.once('connect', resolve));

  function wait(isDone: () => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      changed = () => {
        if (isDone()) resolve(text);
        else if (isClosed) reject(new Error(`The server closed the connection after ${JSON.stringify(text)}`));
      };
      changed();
    });
  }

  return {
    socket,
    text: () => text,
    until: (pattern) => wait(() => pattern.test(text)),
    untilCount: (part, count) => wait(() => text.split(part).length > count),
    closed: () => wait(() => isClosed),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/** The bytes of a request; a body gets its length. */
export function rawRequest(target: string, headers: Readonly<Record<string, string>> = {}, body?: string): string {
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  const all = Object.entries({ host: 'x', ...headers, ...length }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${target} HTTP/1.1\r\n${all.join('')}\r\n${body ?? ''}`;
}

/** The status codes in a text, in their order. */
export function statusCodes(text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
}
