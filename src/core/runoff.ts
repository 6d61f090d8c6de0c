/**
 * Instant-runoff voting with one elimination a round (https://en.wikipedia.org/wiki/Instant-runoff_voting).
 *
 * Each round counts every ballot for its highest choice still standing; a ballot with none left is exhausted. A choice
 * with more than half of the ballots that still count wins; else the last one goes. A tie for last place is broken by
 * the earlier rounds, the latest first: who had fewer votes there goes; if they were always level, the one that stands
 * later in the poll's order goes. With two left and level, the same tie-break decides. No ballots: one round, no winner.
 */
export interface RankedOrder {
  /** Choice numbers, best first, each at most once. */
  readonly order: readonly number[];
  /** How many ballots have exactly this order. */
  readonly votes: number;
}

export interface RunoffCount {
  readonly rounds: readonly RunoffRoundCount[];
  readonly winner: number | null;
}

export interface RunoffRoundCount {
  /** Choice number to votes, of those still standing, in the poll's order. */
  readonly votes: ReadonlyMap<number, number>;
  readonly eliminated: readonly number[];
  readonly exhausted: number;
}

interface Pile {
  orders: RankedOrder[];
  /** For each order, where in it this choice stands: nothing before it is still standing. */
  depths: number[];
  votes: number;
}

/** `choices` in the poll's order. Every order is moved at most once a place, whatever the number of rounds. */
export function countRunoff(choices: readonly number[], orders: Iterable<RankedOrder>): RunoffCount {
  const piles = new Map<number, Pile>(choices.map((n) => [n, { orders: [], depths: [], votes: 0 }]));
  let exhausted = 0;
  let total = 0;

  const place = (order: RankedOrder, from: number): void => {
    for (let depth = from; depth < order.order.length; depth++) {
      const pile = piles.get(order.order[depth] ?? Number.NaN);
      if (pile === undefined) continue;
      pile.orders.push(order);
      pile.depths.push(depth);
      pile.votes += order.votes;
      return;
    }
    exhausted += order.votes;
  };

  for (const order of orders) {
    total += order.votes;
    place(order, 0);
  }

  const rounds: RunoffRoundCount[] = [];
  for (;;) {
    const votes = new Map<number, number>();
    for (const [n, pile] of piles) votes.set(n, pile.votes);
    const leader = majority(votes, total - exhausted);
    if (leader !== null || total === 0 || votes.size === 0) {
      rounds.push({ votes, eliminated: [], exhausted });
      return { rounds, winner: leader };
    }
    const loser = last(votes, rounds);
    rounds.push({ votes, eliminated: [loser], exhausted });
    const pile = piles.get(loser);
    piles.delete(loser);
    if (piles.size === 1) return { rounds, winner: [...piles.keys()][0] ?? null };
    for (const [index, order] of (pile?.orders ?? []).entries()) place(order, (pile?.depths[index] ?? 0) + 1);
  }
}

function majority(votes: ReadonlyMap<number, number>, counting: number): number | null {
  for (const [n, count] of votes) if (count * 2 > counting) return n;
  return null;
}

function last(votes: ReadonlyMap<number, number>, earlier: readonly RunoffRoundCount[]): number {
  let tied = [...votes.keys()];
  const keepFewest = (count: ReadonlyMap<number, number>): void => {
    const fewest = Math.min(...tied.map((n) => count.get(n) ?? 0));
    tied = tied.filter((n) => (count.get(n) ?? 0) === fewest);
  };
  keepFewest(votes);
  for (let round = earlier.length - 1; round >= 0 && tied.length > 1; round--) {
    keepFewest(earlier[round]?.votes ?? votes);
  }
  return tied[tied.length - 1] ?? 0;
}
