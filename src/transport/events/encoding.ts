/** Encodes server-sent events and HTTP/1.1 chunks. Pure. */

/** A server-sent event. `data` must be one line, as JSON is. */
export function serverSentEvent(event: string, data: Buffer | string, id?: number): Buffer {
  const head = id === undefined ? `event: ${event}\ndata: ` : `id: ${id}\nevent: ${event}\ndata: `;
  return Buffer.concat([Buffer.from(head), typeof data === 'string' ? Buffer.from(data) : data, Buffer.from('\n\n')]);
}

/** A piece of a body in HTTP/1.1 chunked coding (RFC 9112, 7.1). */
export function chunk(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
}
