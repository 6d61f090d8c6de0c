/** The long form, for `npm run chaos`: each fault several times, with outages longer than every timeout. */
import { expect, test } from 'vitest';
import { FAULTS, type FaultName } from './faults.ts';
import { runChaos } from './run.ts';

const seed = Number(process.env.CHAOS_SEED);
const minutes = Number(process.env.CHAOS_MINUTES);
const OFTEN = 10;
const TIMES: Partial<Record<FaultName, number>> = { 'an instance is killed': OFTEN, 'an instance is drained': OFTEN };

test(`chaos (seed ${seed})`, { timeout: (minutes + 30) * 60_000 }, async () => {
  const names = Object.keys(FAULTS) as FaultName[];
  const faults = names.flatMap((name) => Array.from({ length: TIMES[name] ?? 2 }, () => name));
  const report = await runChaos({
    seed,
    instances: 3,
    faults,
    atLeastMs: minutes * 60_000,
    perStorm: 8,
    voters: 6,
    outage: { redis: 30_000, postgres: 15_000 },
    say: (line) => console.log(`${new Date().toISOString()} ${line}`),
  });
  for (const [name, times] of report.done) console.log(`${String(times).padStart(4)} times: ${name}`);
  const { ballots, retried, updates, cuts } = report;
  console.log(
    `${ballots} ballots, each there once; ${retried} sent again; ${updates} updates, none twice or backwards; ` +
      `${cuts} times a watcher came back. Seed ${seed}.`,
  );
  expect(report.done.get('an instance is killed')).toBeGreaterThanOrEqual(OFTEN);
});
