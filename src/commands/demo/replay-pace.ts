/** How fast a count rises a second, over the last second or since the start where that is less. */
const WINDOW_MS = 1_000;

/** Takes the count at a time in milliseconds and gives its pace. */
export function makePace(): (count: number, now: number) => number {
  const seen: { readonly count: number; readonly at: number }[] = [];
  return (count, now) => {
    seen.push({ count, at: now });
    while (seen.length > 2 && (seen[1]?.at ?? now) <= now - WINDOW_MS) seen.shift();
    const oldest = seen[0] ?? { count, at: now };
    return now > oldest.at ? Math.round(((count - oldest.count) / (now - oldest.at)) * 1_000) : 0;
  };
}
