/** Runs storms with faults in between. After each storm, counts and compares everything. */
import { randomFrom } from '../support/random.ts';
import { startStorm } from '../support/storm.ts';
import { FAULTS, type FaultName, type Scene } from './faults.ts';
import { openWorld } from './world.ts';

export interface ChaosOptions {
  readonly seed: number;
  readonly instances: number;
  /** Each of these once, in an order given by the seed. */
  readonly faults: readonly FaultName[];
  /** Then random ones of these, for this many milliseconds. */
  readonly atLeastMs: number;
  /** Faults a storm. */
  readonly perStorm: number;
  readonly voters: number;
  readonly outage: Scene['outage'];
  readonly say: (line: string) => void;
}

export interface ChaosReport {
  readonly done: ReadonlyMap<FaultName, number>;
  readonly ballots: number;
  readonly retried: number;
  readonly updates: number;
  readonly cuts: number;
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, say, perStorm } = options;
  const random = randomFrom(seed);
  const end = Date.now() + options.atLeastMs;
  const left = shuffled(options.faults, random);
  const names = Object.keys(FAULTS) as FaultName[];
  const done = new Map<FaultName, number>();
  const sum = { ballots: 0, retried: 0, updates: 0, cuts: 0 };
  say(`seed ${seed}: ${options.instances} instances start at once on an empty database`);
  await using world = await openWorld(options.instances);
  for (let round = 1; left.length > 0 || Date.now() < end; round++) {
    await using storm = await startStorm({
      seed: seed + round,
      instances: world.urls,
      databaseUrl: world.databaseUrl,
      voters: options.voters,
      mayBeCut: true,
    });
    await storm.more(50);
    for (let count = 0; count < perStorm && (left.length > 0 || Date.now() < end); count++) {
      const name = left.pop() ?? names[random(names.length)];
      if (name === undefined) break;
      say(`storm ${round}: ${name}`);
      await FAULTS[name]({ world, storm, random, outage: options.outage });
      done.set(name, (done.get(name) ?? 0) + 1);
    }
    const report = await storm.settle();
    say(`storm ${round}: ${JSON.stringify(report)}, refused: ${JSON.stringify(Object.fromEntries(storm.refused))}`);
    sum.ballots += report.ballots;
    sum.retried += report.retried;
    sum.updates += report.updates;
    sum.cuts += report.cuts;
  }
  return { done, ...sum };
}

function shuffled<T>(items: readonly T[], random: (below: number) => number): T[] {
  const rest = [...items];
  const order: T[] = [];
  while (rest.length > 0) order.push(...rest.splice(random(rest.length), 1));
  return order;
}
