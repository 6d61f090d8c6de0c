import { describe, expect, test } from 'vitest';
import { countRunoff, type RankedOrder } from '../../src/core/runoff.ts';

const orders = (...list: [votes: number, ...order: number[]][]): RankedOrder[] =>
  list.map(([votes, ...order]) => ({ order, votes }));

describe('instant runoff', () => {
  test('a majority of first preferences wins in the first round', () => {
    const { rounds, winner } = countRunoff([1, 2, 3], orders([3, 1], [1, 2], [1, 3]));
    expect(winner).toBe(1);
    expect(rounds).toEqual([
      {
        votes: new Map([
          [1, 3],
          [2, 1],
          [3, 1],
        ]),
        eliminated: [],
        exhausted: 0,
      },
    ]);
  });

  test('the last goes, its ballots move on, and those with nobody left are exhausted', () => {
    const { rounds, winner } = countRunoff([1, 2, 3], orders([4, 1], [3, 2], [2, 3, 2], [1, 3]));
    expect(rounds.map((round) => [Object.fromEntries(round.votes), round.eliminated, round.exhausted])).toEqual([
      [{ 1: 4, 2: 3, 3: 3 }, [3], 0],
      [{ 1: 4, 2: 5 }, [], 1],
    ]);
    expect(winner).toBe(2);
  });

  test('a ballot passes over choices that are out already', () => {
    const { winner, rounds } = countRunoff([1, 2, 3, 4], orders([5, 1], [4, 2], [2, 3, 4, 2], [1, 4, 3, 2]));
    // 4 goes first and its ballot moves to 3, then 3 goes and its ballots pass over 4 to 2.
    expect(rounds.map((round) => round.eliminated)).toEqual([[4], [3], []]);
    expect(winner).toBe(2);
  });

  test('a tie for last place is broken by the latest earlier round in which they differ', () => {
    // Round 1: 1:5, 2:3, 3:2, 4:1. 4 goes to 3: 2 and 3 level at 3; in round 1 the third had fewer, so it goes.
    const { rounds } = countRunoff([1, 2, 3, 4], orders([5, 1], [3, 2], [2, 3], [1, 4, 3]));
    expect(rounds.map((round) => round.eliminated)).toEqual([[4], [3], []]);
  });

  test('a tie that no round breaks takes the later in the order of the poll', () => {
    const { rounds } = countRunoff([7, 2, 9], orders([3, 7], [2, 2], [2, 9]));
    expect(rounds[0]?.eliminated).toEqual([9]);
    const reversed = countRunoff([7, 9, 2], orders([3, 7], [2, 2], [2, 9]));
    expect(reversed.rounds[0]?.eliminated).toEqual([2]);
  });

  test('two left and level: the same tie-break names a winner', () => {
    const { rounds, winner } = countRunoff([1, 2], orders([2, 1], [2, 2]));
    expect(winner).toBe(1);
    expect(rounds).toHaveLength(1);
    expect(rounds[0]?.eliminated).toEqual([2]);
  });

  test('no ballots: one round, nobody wins, nobody goes', () => {
    const { rounds, winner } = countRunoff([1, 2, 3], []);
    expect(winner).toBeNull();
    expect(rounds).toHaveLength(1);
    expect(rounds[0]?.eliminated).toEqual([]);
  });

  test('every round counts every ballot exactly once, whatever the ballots', () => {
    let seed = 12_345;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let run = 0; run < 200; run++) {
      const size = 2 + random(7);
      const choices = Array.from({ length: size }, (_, index) => index + 1);
      const list = Array.from({ length: random(30) }, () => {
        const left = [...choices];
        const order = Array.from({ length: 1 + random(size) }, () => left.splice(random(left.length), 1)[0] ?? 0);
        return { order, votes: 1 + random(5) };
      });
      const total = list.reduce((sum, { votes }) => sum + votes, 0);
      const { rounds, winner } = countRunoff(choices, list);
      for (const round of rounds) {
        const counted = [...round.votes.values()].reduce((sum, votes) => sum + votes, 0);
        expect(counted + round.exhausted).toBe(total);
        // Counted naively: the first choice on each ballot that is still standing.
        for (const [n, votes] of round.votes) {
          const naive = list
            .filter(({ order }) => order.find((choice) => round.votes.has(choice)) === n)
            .reduce((sum, ballot) => sum + ballot.votes, 0);
          expect(votes).toBe(naive);
        }
      }
      expect(winner === null).toBe(total === 0);
    }
  });
});
