const BLANK = Buffer.from('\n\n');
/** An event has at least a field and its blank line. */
const SHORTEST = 3;

/**
 * Calls `onEvent(start, end)` for each complete event of an event stream and returns where the first incomplete one
 * begins. The chunk headers of HTTP/1.1 need no parsing: they end in CR LF, so they neither hold nor hide a blank line
 * (even an end split over two chunks reads "\n" CR LF size CR LF "\n", in which the last "\n\n" is the one that counts).
 */
export function walkEvents(buf, at, end, onEvent) {
  for (;;) {
    // What stands behind the end is of earlier reads: a search that went on there would cost the load more than the event.
    if (end - at < SHORTEST) return at;
    const found = buf.subarray(at, end).indexOf(BLANK);
    if (found < 0) return at;
    const blank = at + found;
    onEvent(at, blank);
    at = blank + 2;
  }
}
