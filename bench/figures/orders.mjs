// Orders of preference like those of a city election: some candidates are liked by many, most ballots rank few.
// Seeded: every run and every machine casts the same ballots.

/** mulberry32 */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` distinct orders of 1 to `ranks` of the choices, the commoner ones first. */
export function makeOrders(choices, count, ranks) {
  const next = random(2013);
  const orders = new Map();
  while (orders.size < count) {
    const left = choices.map((id, i) => ({ id, weight: 1 / (i + 1) }));
    const order = [];
    for (const length = 1 + Math.floor(Math.sqrt(next()) * ranks); order.length < length; ) {
      let at = next() * left.reduce((sum, choice) => sum + choice.weight, 0);
      const index = Math.max(
        0,
        left.findIndex((choice) => (at -= choice.weight) < 0),
      );
      order.push(...left.splice(index, 1).map((choice) => choice.id));
    }
    orders.set(order.join(), order);
  }
  return [...orders.values()];
}

/** Which of `count` orders the `i`-th ballot repeats: the early ones often, the late ones seldom. */
export const pick = (i, count) => Math.floor(random(i)() ** 3 * count);
