/** Pure encoders: what goes around an encoded payload. */

const TEXT_FRAME = 0x81;
const CLOSING = 0x7d; // }

// Many clients count their operations: short ids are shared by thousands of subscribers, and so are their frames.
const shared = new Map<string, Buffer>();

/** The part of a graphql-transport-ws `next` message that is the subscriber's own. */
export function nextPrefix(operationId: string): Buffer {
  const known = shared.get(operationId);
  if (known !== undefined) return known;
  const prefix = Buffer.from(`{"id":${JSON.stringify(operationId)},"type":"next","payload":`);
  if (operationId.length <= 4 && shared.size < 1_000) shared.set(operationId, prefix);
  return prefix;
}

/** Room before the payload for the longest header and prefix; a longer prefix gets a buffer of its own. */
const ROOM = 1_024;

/**
 * The frames of one update for all its subscribers (RFC 6455, 5.2: unmasked text), made in one buffer: the payload is laid
 * down once, and each subscriber's header and prefix are written in front of it. A frame is good until the next one is
 * made. Whoever cannot hand it to the kernel at once MUST call `keep()`, so that the next one is made elsewhere.
 */
export class Frames {
  private readonly payload: Buffer;
  private buffer: Buffer | null = null;
  /** The frame that was made last, and what for. */
  private last: Buffer | null = null;
  private lastPrefix: Buffer | null = null;
  private lastStart = 0;

  constructor(payload: Buffer) {
    this.payload = payload;
  }

  frame(prefix: Buffer): Buffer {
    if (prefix === this.lastPrefix && this.last !== null) return this.last;
    const { payload } = this;
    const length = prefix.length + payload.length + 1;
    const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
    const room = Math.max(ROOM, head + prefix.length);
    let { buffer } = this;
    if (buffer === null || room > ROOM) {
      buffer = Buffer.allocUnsafeSlow(room + payload.length + 1);
      payload.copy(buffer, room);
      buffer[buffer.length - 1] = CLOSING;
      if (room > ROOM) return this.lay(buffer, room - prefix.length - head, head, length, prefix);
      this.buffer = buffer;
      this.last = null;
    }
    const start = room - prefix.length - head;
    // Prefixes of one length have one place: the same view of the buffer serves them all.
    if (this.last === null || start !== this.lastStart) {
      this.last = this.lay(buffer, start, head, length, prefix);
      this.lastStart = start;
    } else {
      buffer.set(prefix, start + head);
    }
    this.lastPrefix = prefix;
    return this.last;
  }

  /** Writes header and prefix in front of the payload. */
  private lay(buffer: Buffer, start: number, head: number, length: number, prefix: Buffer): Buffer {
    buffer[start] = TEXT_FRAME;
    if (head === 2) {
      buffer[start + 1] = length;
    } else if (head === 4) {
      buffer[start + 1] = 126;
      buffer[start + 2] = length >> 8;
      buffer[start + 3] = length & 0xff;
    } else {
      buffer[start + 1] = 127;
      buffer.writeBigUInt64BE(BigInt(length), start + 2);
    }
    buffer.set(prefix, start + head);
    return buffer.subarray(start);
  }

  /** The last frame is still being sent: its buffer must not be written to again. */
  keep(): void {
    this.buffer = null;
    this.last = null;
    this.lastPrefix = null;
  }
}

/** A server-sent event. `data` must be one line, as JSON is. */
export function serverSentEvent(event: string, data: Buffer | string, id?: number): Buffer {
  const head = id === undefined ? `event: ${event}\ndata: ` : `id: ${id}\nevent: ${event}\ndata: `;
  return Buffer.concat([Buffer.from(head), typeof data === 'string' ? Buffer.from(data) : data, Buffer.from('\n\n')]);
}

/** A piece of a body in HTTP/1.1 chunked coding (RFC 9112, 7.1). */
export function chunk(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
}
