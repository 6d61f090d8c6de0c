const BLANK = Buffer.from('\n\n');
/** An event has at least a field and its blank line. */
const SHORTEST = 3;
const CR = 13;
const LF = 10;

/**
 * A walker over event streams. It calls `onEvent(start, end)` for each complete event and returns where the first incomplete
 * one begins. The chunk headers of HTTP/1.1 need no parsing: they end in CR LF, so they neither hold nor hide a blank line
 * (even an end split over two chunks reads "\n" CR LF size CR LF "\n", in which the last "\n\n" is the one that counts).
 *
 * Events of one server look alike, so the length of the last one is tried first. One that is shorter and stands before
 * another of just that length would not be counted: its watcher would be missed, and the run fail.
 */
export function eventWalker() {
  let usual = SHORTEST;
  return (buf, at, end, onEvent) => {
    for (;;) {
      let blank = at + usual;
      if (blank + 2 > end || buf[blank] !== LF || buf[blank + 1] !== LF) {
        // What stands behind the end is of earlier reads: a search that went on there would cost the load more than the event.
        const found = end - at < SHORTEST ? -1 : buf.subarray(at, end).indexOf(BLANK);
        // The end of a chunk holds nothing: to keep it until more comes would cost a copy of each event.
        if (found < 0) return end - at === 2 && buf[at] === CR && buf[at + 1] === LF ? end : at;
        blank = at + found;
        usual = found;
      }
      onEvent(at, blank);
      at = blank + 2;
    }
  };
}
