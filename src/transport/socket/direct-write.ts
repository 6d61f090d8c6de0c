/**
 * Bytes handed to the kernel past Node's streams, which make a request object, a callback and a tick of each write: a quarter
 * of what a delivery costs outside of the kernel, and garbage (`bench/README.md`).
 *
 * `write` on the descriptor of the socket, which Node has set not to block, takes what there is room for. For all that is not
 * taken, and whatever goes wrong, the stream is there as ever: it waits for room, and it knows how to say that a peer is gone.
 * The descriptor is asked for at each write, never kept: the kernel gives the number of a closed one to the next connection.
 */
import { writeSync } from 'node:fs';
import type { Duplex } from 'node:stream';

declare module 'node:stream' {
  interface Duplex {
    /** Node's own: absent in a stream that is no socket, null once it is closed. `fd` is -1 where there is none (Windows). */
    readonly _handle?: { readonly fd?: number } | null;
  }
}

/** Whether the kernel took all of it; if not, `bytes` MUST stay as they are until it did. `socket` MUST NOT be a TLS socket. */
export function writeDirect(socket: Duplex, bytes: Buffer): boolean {
  const fd = socket.writableLength === 0 ? (socket._handle?.fd ?? -1) : -1;
  const written = fd < 0 ? 0 : writeSome(fd, bytes);
  if (written === bytes.length) return true;
  socket.write(written === 0 ? bytes : bytes.subarray(written));
  return socket.writableLength === 0;
}

function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch {
    // No room (EAGAIN), or nobody there any more.
    return 0;
  }
}
