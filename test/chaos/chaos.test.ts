/** The short form; `npm run chaos` is the long one. A failure prints its seed: `CHAOS_SEED=… npx vitest run test/chaos`. */
import { expect, test } from 'vitest';
import { FAULTS, type FaultName } from './faults.ts';
import { runChaos } from './run.ts';

const SEED = Number(process.env.CHAOS_SEED ?? 20_261_122);

test(`V1 V3 V6 L2 L3 M1 M2 M3 M4 M5 chaos (seed ${SEED})`, { timeout: 180_000 }, async () => {
  const twice: FaultName[] = ['an instance is killed', 'an instance is drained'];
  const faults = [...(Object.keys(FAULTS) as FaultName[]), ...twice];
  const { done, ballots, retried, cuts } = await runChaos({
    seed: SEED,
    instances: 2,
    faults,
    atLeastMs: 0,
    perStorm: 8,
    voters: 3,
    outage: { redis: 3_000, postgres: 2_000 },
    say: process.env.CHAOS_SEED === undefined ? () => {} : console.log,
  });
  expect([...done.values()].reduce((sum, count) => sum + count, 0)).toBe(faults.length);
  // Otherwise the faults had no effect.
  expect(retried).toBeGreaterThan(10);
  expect(cuts).toBeGreaterThan(10);
  expect(ballots).toBeGreaterThan(1_000);
});
