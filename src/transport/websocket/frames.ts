/** Pure encoders: what goes around an encoded payload. */

const TEXT_FRAME = 0x81;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

// A graphql-transport-ws `next` message around an id and a payload.
const BEFORE = Buffer.from('{"id":"');
const BETWEEN = Buffer.from('","type":"next","payload":');
const AFTER = Buffer.from('}');

/** Longer ids, and those that JSON escapes, get a buffer of their own. */
const LONGEST_ID = 512;
const ROOM = 10 + BEFORE.length + LONGEST_ID + BETWEEN.length;

/**
 * The frames of one update for all its subscribers (RFC 6455, 5.2: unmasked text), made in one buffer: the payload is laid
 * down once, and each subscriber's id is written in front of it. A frame is good until the next one is made. Whoever cannot
 * hand it to the kernel at once MUST call `keep()`, so that the next one is made elsewhere.
 */
export class Frames {
  private readonly payload: Buffer;
  private buffer: Buffer | null = null;
  /** The frame that was made last: for which id, and where in the buffer that stands. */
  private last: Buffer | null = null;
  private lastId: string | null = null;
  private idLength = -1;
  private idAt = 0;

  constructor(payload: Buffer) {
    this.payload = payload;
  }

  frame(id: string): Buffer {
    // Many clients count their operations: thousands of them have the same id.
    if (id === this.lastId && this.last !== null) return this.last;
    if (id.length > LONGEST_ID) return this.unusual(id);
    // Ids of one length have one place: the same view of the buffer serves them all.
    if (this.last === null || id.length !== this.idLength) this.last = this.lay(id.length);
    const { buffer, idAt } = this;
    if (buffer === null) return this.unusual(id);
    for (let at = 0; at < id.length; at++) {
      const code = id.charCodeAt(at);
      if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return this.unusual(id);
      buffer[idAt + at] = code;
    }
    this.lastId = id;
    return this.last;
  }

  /** The last frame is still being sent: its buffer must not be written to again. */
  keep(): void {
    this.buffer = null;
    this.last = null;
    this.lastId = null;
  }

  /** Everything but the id, for ids of that length. */
  private lay(idLength: number): Buffer {
    const { payload } = this;
    if (this.buffer === null) {
      this.buffer = Buffer.allocUnsafeSlow(ROOM + payload.length + AFTER.length);
      payload.copy(this.buffer, ROOM);
      AFTER.copy(this.buffer, ROOM + payload.length);
    }
    const { buffer } = this;
    this.lastId = null;
    this.idLength = idLength;
    this.idAt = ROOM - BETWEEN.length - idLength;
    BETWEEN.copy(buffer, ROOM - BETWEEN.length);
    BEFORE.copy(buffer, this.idAt - BEFORE.length);
    const head = header(buffer.length - this.idAt + BEFORE.length);
    const start = this.idAt - BEFORE.length - head.length;
    head.copy(buffer, start);
    return buffer.subarray(start);
  }

  private unusual(id: string): Buffer {
    this.lastId = null;
    const start = Buffer.from(`{"id":${JSON.stringify(id)},"type":"next","payload":`);
    return Buffer.concat([header(start.length + this.payload.length + AFTER.length), start, this.payload, AFTER]);
  }
}

/** Of a message of so many bytes, in the shortest form that holds the length. */
function header(length: number): Buffer {
  if (length < 126) return Buffer.of(TEXT_FRAME, length);
  if (length < 65_536) return Buffer.of(TEXT_FRAME, 126, length >> 8, length & 0xff);
  const long = Buffer.alloc(10);
  long[0] = TEXT_FRAME;
  long[1] = 127;
  long.writeBigUInt64BE(BigInt(length), 2);
  return long;
}
