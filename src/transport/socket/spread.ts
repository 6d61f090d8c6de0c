import type { Clock, Stop } from '../../ports/clock.ts';

/** Visits all items, evenly over `ms`: the first at once, each of the others later. */
export function spread<Item>(clock: Clock, items: readonly Item[], ms: number, visit: (item: Item) => void): Stop {
  const start = clock.now();
  let next = 0;
  let stop: Stop = () => {};
  const due = (index: number): number => start + (ms * index) / items.length;
  const go = (): void => {
    const now = clock.now();
    while (next < items.length && due(next) <= now) {
      const item = items[next++];
      if (item !== undefined) visit(item);
    }
    if (next < items.length) stop = clock.after(Math.max(1, due(next) - now), go);
  };
  go();
  return () => stop();
}
