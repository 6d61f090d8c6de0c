/** `/readyz` says what is missing, in time, whatever hangs. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/ops/clock.ts';
import { makeReadiness } from '../../src/ops/readiness.ts';
import type { Clock } from '../../src/ports/clock.ts';
import { castVote, createPoll } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { startRelay } from '../support/relay.ts';
import { startServer } from '../support/server.ts';

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

test('a database that hangs: not ready, said in time; it is back, and so is the instance', async () => {
  await using database = await freshDatabase();
  await using relay = await startRelay(database.url);
  const lines: string[] = [];
  const note = (_: object, message: string) => void lines.push(message);
  await using server = await startServer(
    { DATABASE_URL: relay.url },
    { log: { debug() {}, info: note, warn: note, error: note } },
  );
  const ready = async () => {
    const response = await fetch(`${server.url}/readyz`);
    return { status: response.status, body: await response.json() };
  };
  expect(await ready()).toEqual({ status: 200, body: { status: 'ready' } });
  relay.hang();
  // Asked by many at once, and again and again.
  for (const answer of await Promise.all(Array.from({ length: 20 }, ready))) {
    expect(answer).toEqual({ status: 503, body: { status: 'not ready', missing: ['database'] } });
  }
  expect(await ready()).toMatchObject({ status: 503 });
  expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: 'alive' });
  relay.resume();
  await expect.poll(ready, { timeout: 15_000 }).toEqual({ status: 200, body: { status: 'ready' } });
  // Said once each, not with every look.
  expect(lines.filter((line) => line === 'a dependency is missing')).toHaveLength(1);
  expect(lines.filter((line) => line === 'a dependency is there again')).toHaveLength(1);
  const poll = await createPoll(server.graphql);
  expect(await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).toMatchObject({
    receipt: { outcome: 'RECORDED' },
  });
});

test('what is not needed is said to be degraded, and the instance stays ready', async () => {
  const broken = () => Promise.reject(new Error('refused'));
  const standing = makeReadiness(
    [
      { name: 'database', needed: true, check: async () => {} },
      { name: 'redis', needed: false, check: broken },
    ],
    systemClock,
    SILENT,
  );
  expect(await standing()).toEqual({ missing: [], degraded: ['redis'] });
});

test('checks that hang do not pile up, and the first that answers is believed', async () => {
  const timers: (() => void)[] = [];
  const after: Clock['after'] = (_, run) => {
    timers.push(run);
    return () => {};
  };
  const clock: Clock = { now: () => 0, after, every: () => () => {} };
  const checks: (() => void)[] = [];
  const check = () => new Promise<void>((resolve) => void checks.push(resolve));
  const standing = makeReadiness([{ name: 'database', needed: true, check }], clock, SILENT);
  const asked = Array.from({ length: 10 }, () => standing());
  expect(checks).toHaveLength(3);
  for (const run of timers) run();
  for (const answer of await Promise.all(asked)) expect(answer).toEqual({ missing: ['database'], degraded: [] });
  expect(await standing()).toEqual({ missing: ['database'], degraded: [] });
  expect(checks).toHaveLength(3);
  for (const answer of checks.splice(0)) answer();
  await new Promise(setImmediate);
  const again = standing();
  expect(checks).toHaveLength(1);
  checks[0]?.();
  expect(await again).toEqual({ missing: [], degraded: [] });
});
