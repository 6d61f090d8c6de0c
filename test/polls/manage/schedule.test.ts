/** M6 and V5: polls that open and close by themselves, on both databases, with a clock that the test moves. */
import { describe, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, newVoter, results, type TestPoll } from '../../support/api.ts';
import { BACKENDS, serveOn } from '../../support/backends.ts';
import { type ManualClock, manualClock } from '../../support/clock.ts';
import { eventually, overEvents, overWebSocket } from '../../support/peers.ts';
import { startServer, type TestServer } from '../../support/server.ts';

interface Timed {
  readonly status: string;
  readonly opensAt: string | null;
  readonly closesAt: string | null;
  readonly closedAt: string | null;
}

const MINUTE = 60_000;

describe.each(BACKENDS)('timed polls on %s', (_, openBackend) => {
  let server: TestServer;
  let graphql: string;
  const clock: ManualClock = manualClock();
  serveOn(
    openBackend,
    (started) => {
      server = started;
      graphql = started.graphql;
    },
    { clock },
  );

  const inMs = (ms: number) => new Date(clock.now() + ms).toISOString();
  const timed = (poll: TestPoll, url = graphql) =>
    ask<Timed>(
      url,
      'query ($id: ID!) { poll(id: $id) { status opensAt closesAt closedAt } }',
      { id: poll.id },
      poll.manage,
    );
  const becomes = (poll: TestPoll, status: string, url = graphql) =>
    eventually(async () => (await timed(poll, url)).status === status, `${poll.id} is ${status}`);
  const update = (poll: TestPoll, input: Record<string, unknown>) =>
    ask<{ __typename: string; message?: string }>(
      graphql,
      'mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename ... on Error { message } } }',
      { input: { pollId: poll.id, ...input } },
      poll.manage,
    );
  const vote = (poll: TestPoll, voterToken?: string) =>
    castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken });

  test('M6 a poll opens and closes at its time, and the final results are pushed in that second', async () => {
    const [opensAt, closesAt] = [inMs(3_000), inMs(9_000)];
    const poll = await createPoll(graphql, { opensAt, closesAt });
    expect(await timed(poll)).toEqual({ status: 'DRAFT', opensAt, closesAt, closedAt: null });
    expect(await vote(poll)).toMatchObject({ __typename: 'PollNotOpenError', message: 'This poll is not open yet.' });
    clock.advance(2_999);
    expect((await timed(poll)).status).toBe('DRAFT');
    await using watcher = await overWebSocket(graphql, { pollId: poll.id }, undefined, poll.manage);
    await using other = await overEvents(graphql, { pollId: poll.id }, undefined, poll.manage);
    expect(await watcher.next()).toMatchObject({ status: 'DRAFT', version: 1 });
    await other.next();
    clock.advance(1);
    expect(await watcher.next()).toMatchObject({ status: 'OPEN', version: 2 });
    expect((await vote(poll)).receipt).toMatchObject({ outcome: 'RECORDED', version: 3 });
    clock.advance(5_999);
    expect((await vote(poll)).receipt).toMatchObject({ version: 4 });
    clock.advance(1);
    const { last } = await watcher.until(({ isFinal }) => isFinal);
    expect(last).toMatchObject({ status: 'CLOSED', version: 5, ballotCount: 2, updatedAt: closesAt });
    expect(await watcher.event()).toEqual({ type: 'complete' });
    await other.until(({ isFinal }) => isFinal);
    expect(await other.event()).toEqual({ type: 'complete' });
    expect(await timed(poll)).toEqual({ status: 'CLOSED', opensAt, closesAt, closedAt: closesAt });
  });

  test('a far-off time is found when it comes near', async () => {
    const poll = await createPoll(graphql, { closesAt: inMs(30 * 24 * 60 * MINUTE) });
    clock.advance(30 * 24 * 60 * MINUTE - 7_000);
    expect((await timed(poll)).status).toBe('OPEN');
    clock.advance(5_000);
    await eventually(async () => {
      clock.advance(1_000);
      return (await timed(poll)).status === 'CLOSED';
    }, 'it is closed');
    const { closedAt, closesAt } = await timed(poll);
    expect(closedAt).toBe(closesAt);
  });

  test('an opening time that has passed opens at once, and decides over status', async () => {
    const now = await createPoll(graphql, { opensAt: inMs(-MINUTE), status: 'DRAFT' });
    expect((await timed(now)).status).toBe('OPEN');
    const draft = await createPoll(graphql, { status: 'DRAFT' });
    expect(await update(draft, { opensAt: inMs(-1) })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    expect((await timed(draft)).status).toBe('OPEN');
    const later = await createPoll(graphql, { opensAt: inMs(MINUTE), status: 'OPEN' });
    expect((await timed(later)).status).toBe('DRAFT');
    // By hand it may open earlier, and closes when it was to.
    await update(later, { closesAt: inMs(2 * MINUTE) });
    expect(await manage(graphql, 'openPoll', later)).toMatchObject({ __typename: 'OpenPollSuccess' });
    expect(await update(later, { closesAt: inMs(4_000) })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    clock.advance(4_000);
    await becomes(later, 'CLOSED');
  });

  test('the closing time of an open poll is moved and taken away', async () => {
    const poll = await createPoll(graphql, { closesAt: inMs(5_000) });
    expect(await update(poll, { closesAt: inMs(8_000) })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    clock.advance(6_000);
    expect((await vote(poll)).__typename).toBe('CastVoteSuccess');
    expect(await update(poll, { closesAt: null })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    clock.advance(MINUTE);
    expect((await vote(poll)).__typename).toBe('CastVoteSuccess');
    expect((await timed(poll)).closesAt).toBeNull();
    expect(await update(poll, { closesAt: inMs(3_000) })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    clock.advance(3_000);
    await becomes(poll, 'CLOSED');
    expect(await update(poll, { closesAt: inMs(3_000) })).toMatchObject({
      __typename: 'InvalidInputError',
      message: expect.stringContaining('closesAt: can be changed only while'),
    });
  });

  test('times that make no sense are refused', async () => {
    const create = (input: object) =>
      ask(
        graphql,
        'mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename ... on Error { message } } }',
        { input: { question: 'q', choices: ['a', 'b'], ...input } },
      );
    const refused = (message: string) => ({
      __typename: 'InvalidInputError',
      message: expect.stringContaining(message),
    });
    expect(await create({ closesAt: inMs(0) })).toMatchObject(refused('closesAt: must lie in the future'));
    expect(await create({ opensAt: inMs(2_000), closesAt: inMs(2_000) })).toMatchObject(
      refused('closesAt: must be after opensAt'),
    );
    const open = await createPoll(graphql);
    expect(await update(open, { closesAt: inMs(-1) })).toMatchObject(refused('must lie in the future'));
    expect(await update(open, { opensAt: inMs(9_000) })).toMatchObject(refused('opensAt: can be changed only while'));
    const draft = await createPoll(graphql, { status: 'DRAFT', closesAt: inMs(1_000) });
    clock.advance(2_000);
    expect((await timed(draft)).status).toBe('DRAFT');
    expect(await manage(graphql, 'openPoll', draft)).toMatchObject(refused('closesAt: has passed'));
    expect(await update(draft, { opensAt: inMs(-1_500) })).toMatchObject(refused('closesAt: has passed'));
    expect(await update(draft, { closesAt: null })).toMatchObject({ __typename: 'UpdatePollSuccess' });
    expect(await manage(graphql, 'openPoll', draft)).toMatchObject({ __typename: 'OpenPollSuccess' });
  });

  test('V5 a ballot at or after closesAt is refused and none is taken back, however late the timer is', async () => {
    // Another clock decides what is due here: the timer of this server's own never comes.
    const slow = manualClock(clock.now());
    const late = { ...slow, now: () => clock.now() };
    await using storage = await openBackend();
    await using own = await startServer(storage.env, { clock: late });
    const url = own.graphql;
    const poll = await createPoll(url, { closesAt: inMs(5_000), allowVoteChange: true });
    const { voterToken } = await newVoter(url);
    const cast = (choice: number, token?: string) =>
      castVote(url, { pollId: poll.id, choiceIds: [poll.choiceIds[choice]], voterToken: token });
    clock.advance(4_999);
    const { receipt } = await cast(0, voterToken);
    expect(receipt.outcome).toBe('RECORDED');
    clock.advance(1);
    expect((await timed(poll, url)).status).toBe('OPEN');
    expect(await cast(0)).toMatchObject({ __typename: 'PollNotOpenError', message: 'This poll is closed.' });
    expect(await cast(1, voterToken)).toMatchObject({ __typename: 'PollNotOpenError' });
    const retracted = await ask(
      url,
      'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename } }',
      { input: { pollId: poll.id, voterToken } },
    );
    expect(retracted).toEqual({ __typename: 'PollNotOpenError' });
    // V3 also then: the vote that was counted is said so again.
    expect(await cast(0, voterToken)).toMatchObject({ receipt: { ...receipt, outcome: 'UNCHANGED' } });
    // Whatever an organizer does next finds it closed, at its time.
    expect(await manage(url, 'resetPoll', poll)).toMatchObject({ __typename: 'PollNotOpenError' });
    expect(await manage(url, 'closePoll', poll)).toMatchObject({ __typename: 'ClosePollSuccess' });
    const { status, closedAt, closesAt } = await timed(poll, url);
    expect([status, closedAt]).toEqual(['CLOSED', closesAt]);
    expect(await results(url, poll.id)).toMatchObject({ version: 3, ballotCount: 1, isFinal: true });
  });

  test('M6 a server that was down does at its start what was due', async () => {
    await using storage = await openBackend();
    const before = await startServer(storage.env, { clock });
    const opening = await createPoll(before.graphql, { opensAt: inMs(MINUTE) });
    const closing = await createPoll(before.graphql, { closesAt: inMs(MINUTE) });
    const both = await createPoll(before.graphql, { opensAt: inMs(MINUTE), closesAt: inMs(2 * MINUTE) });
    const later = await createPoll(before.graphql, { opensAt: inMs(10 * MINUTE) });
    const closesAt = inMs(MINUTE);
    const ended = inMs(2 * MINUTE);
    await before[Symbol.asyncDispose]();
    clock.advance(5 * MINUTE);
    await using after = await startServer(storage.env, { clock });
    await becomes(opening, 'OPEN', after.graphql);
    await becomes(closing, 'CLOSED', after.graphql);
    await becomes(both, 'CLOSED', after.graphql);
    expect((await timed(closing, after.graphql)).closedAt).toBe(closesAt);
    expect((await timed(both, after.graphql)).closedAt).toBe(ended);
    expect((await timed(later, after.graphql)).status).toBe('DRAFT');
    for (const poll of [opening, closing, both]) expect((await results(after.graphql, poll.id)).version).toBe(2);
  });

  test('a store that fails at the time is asked again until it has answered', async () => {
    const poll = await createPoll(graphql, { closesAt: inMs(2_000) });
    const { changePoll, duePolls } = server.app.store;
    let failures = 0;
    const failing = async (): Promise<never> => {
      failures++;
      throw new Error('the database is away');
    };
    Object.assign(server.app.store, { changePoll: failing, duePolls: failing });
    clock.advance(2_000);
    await eventually(() => failures >= 1, 'it failed');
    await eventually(() => {
      clock.advance(1_000);
      return failures >= 5;
    }, 'it failed again and again');
    Object.assign(server.app.store, { changePoll, duePolls });
    await eventually(async () => {
      clock.advance(1_000);
      return (await timed(poll)).status === 'CLOSED';
    }, 'it is closed');
  });

  test('M6 by the clock of the machine: not before its time, and without anybody asking', async () => {
    await using storage = await openBackend();
    await using own = await startServer(storage.env);
    const closesAt = Date.now() + 1_500;
    const poll = await createPoll(own.graphql, { closesAt: new Date(closesAt).toISOString() });
    await using watcher = await overWebSocket(own.graphql, { pollId: poll.id });
    await watcher.next();
    expect(await watcher.next()).toMatchObject({ isFinal: true, version: 2 });
    expect(Date.now()).toBeGreaterThanOrEqual(closesAt);
    expect((await timed(poll, own.graphql)).closedAt).toBe(new Date(closesAt).toISOString());
  });

  test('hundreds that close in the same moment all do, and nothing is left behind', async () => {
    const closesAt = inMs(4_000);
    const polls = await Promise.all(Array.from({ length: 200 }, () => createPoll(graphql, { closesAt })));
    clock.advance(4_000);
    for (const poll of polls) await becomes(poll, 'CLOSED');
    for (const poll of polls) expect(await results(graphql, poll.id)).toMatchObject({ version: 2, isFinal: true });
  });
});
