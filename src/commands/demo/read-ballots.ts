/** Real ballots from a PrefLib file (https://www.preflib.org), and the order to cast them in. */
import { Failure } from './failure.ts';

/** Choices by their place in `names`, the best first. */
export type Ranking = readonly number[];

export interface Profile {
  readonly title: string;
  readonly names: readonly string[];
  /** How many voters the file holds. */
  readonly voters: number;
  /** Different ballots, as lines of the file. */
  readonly orders: readonly {
    readonly voters: number;
    /** What stands before the first tie: empty where the ballot begins with one. */
    readonly ranking: Ranking;
    readonly isCut: boolean;
  }[];
}

/** Reads a `.toi` file: header lines, then `COUNT: first,second,{tied,tied},…`. Throws where it contradicts its header. */
export function parseToi(text: string): Profile {
  const header = new Map<string, string>();
  const orders: Profile['orders'][number][] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const [, key, value] = /^# ([^:]+): (.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) header.set(key, value);
    else orders.push(parseOrder(line));
  }
  const headerOf = (key: string): string => {
    const value = header.get(key);
    if (value === undefined) throw new Failure(`The ballots have no header line "${key}".`);
    return value;
  };
  const names = Array.from({ length: Number(headerOf('NUMBER ALTERNATIVES')) }, (_, index) =>
    headerOf(`ALTERNATIVE NAME ${index + 1}`),
  );
  const voters = orders.reduce((sum, order) => sum + order.voters, 0);
  const claimed = { 'NUMBER VOTERS': voters, 'NUMBER UNIQUE ORDERS': orders.length };
  for (const [key, found] of Object.entries(claimed)) {
    if (Number(headerOf(key)) !== found)
      throw new Failure(`The ballots say ${key}: ${headerOf(key)}, but hold ${found}.`);
  }
  if (orders.some(({ ranking }) => ranking.some((choice) => names[choice] === undefined))) {
    throw new Failure('The ballots name a choice that is not in their header.');
  }
  return { title: headerOf('TITLE'), names, voters, orders };
}

function parseOrder(line: string): Profile['orders'][number] {
  const [, voters, order] = /^(\d+): ([\d,{}]+)$/.exec(line) ?? [];
  if (voters === undefined || order === undefined)
    throw new Failure(`The ballots have a line that is none: "${line}".`);
  const [beforeTie = '', ...ties] = order.split('{');
  const ranking = beforeTie
    .split(',')
    .filter(Boolean)
    .map((number) => Number(number) - 1);
  return { voters: Number(voters), ranking, isCut: ties.length > 0 };
}

/** One ranking a voter, without those that say nothing, in the file's order. */
export function ballotsOf(profile: Profile): Ranking[] {
  return profile.orders.flatMap(({ voters, ranking }) =>
    ranking.length === 0 ? [] : Array.from({ length: voters }, () => ranking),
  );
}

/** A shuffled copy; the same seed gives the same order on every machine. */
export function shuffle<T>(items: readonly T[], seed: number): T[] {
  const random = mulberry32(seed);
  const drawn = items.map((item) => ({ item, lot: random() }));
  return drawn.sort((a, b) => a.lot - b.lot).map(({ item }) => item);
}

/** Numbers from 0 to below 1: the generator of that name. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
