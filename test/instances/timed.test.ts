/** M6 with two instances on one Postgres: once, at its time, and the watchers of both hear of it from their own. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, results, type TestPoll } from '../support/api.ts';
import { manualClock } from '../support/clock.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overWebSocket } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

let database: Awaited<ReturnType<typeof freshDatabase>>;
let one: TestServer;
let two: TestServer;
const clock = manualClock();
beforeAll(async () => {
  database = await freshDatabase();
  // Neither compares its polls with the database: what a watcher hears comes from its own instance's timer.
  const parts = { clock, reconcileMs: 3_600_000 };
  [one, two] = await Promise.all([
    startServer({ DATABASE_URL: database.url }, parts),
    startServer({ DATABASE_URL: database.url }, parts),
  ]);
  countLooks(one);
  countLooks(two);
});
afterAll(async () => {
  await Promise.all([one[Symbol.asyncDispose](), two[Symbol.asyncDispose]()]);
  await database[Symbol.asyncDispose]();
});

const inMs = (ms: number) => new Date(clock.now() + ms).toISOString();

/** How often each has looked for what is due, begun and ended. */
const looks: { begun: number; ended: number }[] = [];
function countLooks({ app: { store } }: TestServer): void {
  const count = { begun: 0, ended: 0 };
  const { duePolls } = store;
  const counted: typeof duePolls = async (...args) => {
    count.begun++;
    const polls = await duePolls(...args);
    // Once its timers are set.
    setImmediate(() => count.ended++);
    return polls;
  };
  Object.assign(store, { duePolls: counted });
  looks.push(count);
}

/** Five seconds in which both find what was set at the other. */
async function look(): Promise<void> {
  await eventually(() => looks.every(({ begun, ended }) => begun === ended), 'nobody looks');
  const before = looks.map(({ ended }) => ended);
  clock.advance(5_000);
  await eventually(() => looks.every(({ ended }, index) => ended > (before[index] ?? 0)), 'both have looked');
}

const historyOf = async (poll: TestPoll) => {
  const state = await one.app.store.loadPoll(poll.id);
  return { version: state?.version, revision: state?.poll.revision };
};

test('M6 two instances open and close a poll once each, and the watchers of both see it at once', async () => {
  const closesAt = inMs(12_000);
  const poll = await createPoll(one.graphql, { opensAt: inMs(8_000), closesAt });
  await using here = await overWebSocket(one.graphql, { pollId: poll.id }, undefined, poll.manage);
  await using there = await overWebSocket(two.graphql, { pollId: poll.id }, undefined, poll.manage);
  await here.next();
  await there.next();
  await look();
  clock.advance(3_000);
  expect(await here.next()).toMatchObject({ status: 'OPEN', version: 2 });
  expect(await there.next()).toMatchObject({ status: 'OPEN', version: 2 });
  await eventually(async () => (await historyOf(poll)).revision === 2, 'opened');
  await castVote(two.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
  clock.advance(4_000);
  const [ended, seen] = await Promise.all([
    here.until(({ isFinal }) => isFinal),
    there.until(({ isFinal }) => isFinal),
  ]);
  expect(seen.last).toEqual(ended.last);
  expect(ended.last).toMatchObject({ version: 4, ballotCount: 1, updatedAt: closesAt });
  expect(await here.event()).toEqual({ type: 'complete' });
  expect(await there.event()).toEqual({ type: 'complete' });
  // Both timers came; the second found it done.
  await look();
  expect(await historyOf(poll)).toEqual({ version: 4, revision: 3 });
});

test('M6 a hundred polls at the same moment: each instance takes its part, each poll closes once', async () => {
  const closesAt = inMs(8_000);
  const polls = await Promise.all(
    Array.from({ length: 100 }, (_, index) => createPoll((index % 2 ? one : two).graphql, { closesAt })),
  );
  await look();
  clock.advance(3_000);
  for (const poll of polls) {
    await eventually(async () => (await results(two.graphql, poll.id)).isFinal, 'closed');
  }
  await look();
  for (const poll of polls) expect(await historyOf(poll)).toEqual({ version: 2, revision: 2 });
});

test('M6 a time that was moved at one instance holds at the other, whose timer was set before', async () => {
  const poll = await createPoll(one.graphql, { closesAt: inMs(9_000) });
  await look();
  const extended = await ask(
    one.graphql,
    'mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename } }',
    { input: { pollId: poll.id, closesAt: inMs(60_000) } },
    poll.manage,
  );
  expect(extended).toEqual({ __typename: 'UpdatePollSuccess' });
  clock.advance(6_000);
  await look();
  expect(await castVote(two.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).toMatchObject({
    receipt: { outcome: 'RECORDED' },
  });
  expect(await manage(two.graphql, 'closePoll', poll)).toMatchObject({ __typename: 'ClosePollSuccess' });
  clock.advance(60_000);
  await look();
  expect(await historyOf(poll)).toEqual({ version: 3, revision: 3 });
});
