/** Pure encoders: what goes around an encoded payload. */

const TEXT_FRAME = 0x81;
const CLOSING = 0x7d; // }

/** The part of a graphql-transport-ws `next` message that is the subscriber's own. */
export function nextPrefix(operationId: string): Buffer {
  return Buffer.from(`{"id":${JSON.stringify(operationId)},"type":"next","payload":`);
}

/** One unmasked WebSocket text frame (RFC 6455, 5.2) in one buffer: prefix, payload and the closing brace. */
export function webSocketFrame(prefix: Buffer, payload: Buffer): Buffer {
  const length = prefix.length + payload.length + 1;
  const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + length);
  frame[0] = TEXT_FRAME;
  if (head === 2) {
    frame[1] = length;
  } else if (head === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  prefix.copy(frame, head);
  payload.copy(frame, head + prefix.length);
  frame[head + length - 1] = CLOSING;
  return frame;
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
