export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits for something to become true; after `ms` it throws what `complaint()` says. */
export async function until(isTrue, ms, complaint = () => 'it took too long') {
  for (const end = performance.now() + ms; !isTrue(); await pause(5)) {
    if (performance.now() > end) throw new Error(complaint());
  }
}

/** Runs `work` for every item, at most `atOnce` side by side: 10 000 joins in one instant measure the listen queue. */
export async function gently(items, atOnce, work) {
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      next += 1;
      await work(items[next - 1]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane));
}

/** Median, p99 and largest of some milliseconds. */
export function quantiles(samples) {
  const sorted = Float64Array.from(samples).sort();
  const at = (share) =>
    sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}
