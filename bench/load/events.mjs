const BLANK = Buffer.from('\n\n');

/**
 * Calls `onEvent(start, end)` for each complete event of an event stream and returns where the first incomplete one
 * begins. The chunk headers of HTTP/1.1 need no parsing: they end in CR LF, so they neither hold nor hide a blank line
 * (even an end split over two chunks reads "\n" CR LF size CR LF "\n", in which the last "\n\n" is the one that counts).
 */
export function walkEvents(buf, at, end, onEvent) {
  for (;;) {
    const blank = buf.indexOf(BLANK, at);
    if (blank < 0 || blank + 2 > end) return at;
    onEvent(at, blank);
    at = blank + 2;
  }
}
