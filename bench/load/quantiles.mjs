/** Median, p99 and largest of some milliseconds. */
export function quantiles(samples) {
  const sorted = Float64Array.from(samples).sort();
  const at = (share) =>
    sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}
