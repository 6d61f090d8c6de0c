const HEAD_END = Buffer.from('\r\n\r\n');
const LAST_CHUNK = Buffer.from('\r\n0\r\n\r\n');

/** Calls `onReply(status, headStart, bodyStart, end)` for each complete HTTP/1.1 reply; returns where the rest begins. */
export function walkReplies(buf, at, end, onReply) {
  while (at < end) {
    const blank = buf.indexOf(HEAD_END, at);
    if (blank < 0 || blank + 4 > end) break;
    const bodyStart = blank + 4;
    const bodyEnd = endOfBody(buf, at, blank, bodyStart);
    if (bodyEnd < 0 || bodyEnd > end) break;
    onReply((buf[at + 9] - 48) * 100 + (buf[at + 10] - 48) * 10 + (buf[at + 11] - 48), at, bodyStart, bodyEnd);
    at = bodyEnd;
  }
  return at;
}

function endOfBody(buf, at, blank, bodyStart) {
  const head = buf.latin1Slice(at, blank);
  const length = /content-length: *(\d+)/i.exec(head);
  if (length !== null) return bodyStart + Number(length[1]);
  if (/transfer-encoding: *chunked/i.test(head)) {
    // From the blank line on, so that an empty body counts too.
    const last = buf.indexOf(LAST_CHUNK, blank + 2);
    return last < 0 ? -1 : last + LAST_CHUNK.length;
  }
  return bodyStart;
}
