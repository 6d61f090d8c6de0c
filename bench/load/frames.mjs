// WebSocket frames, as little of them as a load generator needs.
export const TEXT = 1;
export const CLOSE = 8;
export const PING = 9;
const PONG = 10;

// Not zero: `ws` skips the unmasking of a zero mask, which would flatter the server.
const MASK = [0x37, 0xfa, 0x21, 0x3d];

/**
 * Calls `onFrame(opcode, start, end)` for each complete frame in `buf[at, end)` and returns where the first
 * incomplete one begins. Only headers are read; payloads are stepped over. Messages are not fragmented by any server here.
 */
export function walkFrames(buf, at, end, onFrame) {
  while (end - at >= 2) {
    let length = buf[at + 1] & 127;
    let head = 2;
    if (length === 126) {
      if (end - at < 4) break;
      length = (buf[at + 2] << 8) | buf[at + 3];
      head = 4;
    } else if (length === 127) {
      if (end - at < 10) break;
      length = buf.readUInt32BE(at + 6);
      head = 10;
    }
    const start = at + head;
    if (end - start < length) break;
    onFrame(buf[at] & 15, start, start + length);
    at = start + length;
  }
  return at;
}

/** A masked frame of a client, ready to write as often as wanted. */
export function clientFrame(text, opcode = TEXT) {
  const payload = Buffer.from(text);
  const long = payload.length > 125;
  const head = Buffer.alloc((long ? 4 : 2) + 4);
  head[0] = 0x80 | opcode;
  if (long) {
    head[1] = 0x80 | 126;
    head.writeUInt16BE(payload.length, 2);
  } else {
    head[1] = 0x80 | payload.length;
  }
  head.set(MASK, head.length - 4);
  for (let i = 0; i < payload.length; i += 1) payload[i] ^= MASK[i & 3];
  return Buffer.concat([head, payload]);
}

export const pong = (payload) => clientFrame(payload, PONG);
