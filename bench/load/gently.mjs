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
