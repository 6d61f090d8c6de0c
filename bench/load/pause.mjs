export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits for something to become true; after `ms` it throws what `complaint()` says. */
export async function until(isTrue, ms, complaint = () => 'it took too long') {
  for (const end = performance.now() + ms; !isTrue(); await pause(5)) {
    if (performance.now() > end) throw new Error(complaint());
  }
}
