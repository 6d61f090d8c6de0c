/** Who is being let in, or changes its group, just when something else happens: each wait is held open by the test. */
import { expect, test } from 'vitest';
import type { Parts } from '../../src/app.ts';
import { NotFoundError, UnavailableError } from '../../src/core/errors.ts';
import { Subscriber, type Update } from '../../src/live/subscriber.ts';
import type { Subscription } from '../../src/live/subscription.ts';
import type { Store } from '../../src/ports/store.ts';
import { createPoll, manage, type TestPoll } from '../support/api.ts';
import { movableClock } from '../support/movableClock.ts';
import { eventually } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

class Reader extends Subscriber {
  /** Version and as whom it was served. */
  readonly got: string[] = [];
  failure: unknown = null;
  dropped = false;
  /** Takes nothing any more: all that is sent to it stays queued. */
  isStuck = false;
  queued = 0;
  send({ cursor, payload }: Update): boolean {
    this.got.push(`${cursor} ${payload}`);
    if (this.isStuck) this.queued += 100;
    return this.queued === 0;
  }
  backlog(): number {
    return this.queued;
  }
  end(): void {}
  fail(error: unknown): void {
    this.failure = error;
  }
  cut(): void {
    this.dropped = true;
  }
}

/** A door that stays shut until it is opened, and says when somebody stands before it. */
function gate() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  let waiting = 0;
  return {
    open: () => open(),
    reached: () => eventually(() => waiting > 0, 'somebody waits'),
    pass: () => {
      waiting++;
      return opened;
    },
  };
}

const as = (whom: string) => (): Buffer => Buffer.from(whom);

/** On the results as anybody. */
const wish = (poll: TestPoll, more: Partial<Subscription> = {}): Subscription => ({
  pollId: poll.id,
  topic: 'results',
  groupKey: 'other',
  after: null,
  everyMs: 0,
  encode: as('other'),
  claim: null,
  presence: 'staying',
  ...more,
});

const vote = (server: TestServer, poll: TestPoll, voter: string, choice = 0) =>
  server.app.services.votes.cast(voter, { pollId: poll.id, choiceIds: [poll.choiceIds[choice] ?? ''] });

/** As somebody who is known and has not voted, in a poll that shows its tallies after the vote. */
const claiming = (
  { app }: TestServer,
  poll: TestPoll,
  voter: string,
  more: Partial<Subscription> = {},
): Subscription => {
  const voterKey = app.services.voters.keyOf(poll.id, voter);
  return wish(poll, { claim: { voterKey, asVoter: { groupKey: 'voter', encode: as('voter') } }, ...more });
};

/** A server whose store asks `before` at each of these calls, and before it answers. */
const behind = (calls: (store: Store) => Partial<Store>, env: Record<string, string> = {}, parts: Parts = {}) =>
  startServer(env, { ...parts, storeBehind: (store) => Object.assign(Object.create(store), calls(store)) });

test('L3 who is let in just when its empty group is given up gets what comes next', async () => {
  const { clock, pass } = movableClock();
  await using server = await startServer({}, { clock });
  const { hub } = server.app.services;
  const poll = await createPoll(server.graphql);
  // Somebody stays, so that the poll does.
  await hub.watch(wish(poll, { groupKey: 'another' }), new Reader());
  const slow = gate();
  const encoded: number[] = [];
  const encode: Subscription['encode'] = async (view) => {
    encoded.push((await view.results()).version);
    if (encoded.length > 1) await slow.pass();
    return Buffer.from('other');
  };
  const leave = await hub.watch(wish(poll, { encode }), new Reader());
  leave();
  // An empty group is kept for 5 s.
  await vote(server, poll, 'device:a');
  pass(4_500);
  const reader = new Reader();
  const joined = hub.watch(wish(poll, { encode }), reader);
  await slow.reached();
  pass(1_000);
  slow.open();
  await joined;
  await vote(server, poll, 'device:b');
  await eventually(() => reader.got.length === 2, 'the next version has come');
  expect(reader.got).toEqual(['2 other', '3 other']);
});

test('L7 a poll that is deleted while somebody is let in: that one is told so too', async () => {
  const slow = gate();
  await using server = await behind((store) => ({
    async votersAmong(pollId, voterKeys) {
      const voters = await store.votersAmong(pollId, voterKeys);
      await slow.pass();
      return voters;
    },
  }));
  const { hub } = server.app.services;
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE' });
  const joined = hub.watch(claiming(server, poll, 'device:a'), new Reader()).catch((error: unknown) => error);
  await slow.reached();
  await manage(server.graphql, 'deletePoll', poll);
  slow.open();
  expect(await joined).toBeInstanceOf(NotFoundError);
  expect(hub.watching).toBe(0);
});

test('L7 a poll that is deleted while a vote is on its way: its voter, who watches, is told so too', async () => {
  const slow = gate();
  await using server = await behind((store) => ({
    async castBallots(entries, nowMs) {
      await slow.pass();
      return store.castBallots(entries, nowMs);
    },
  }));
  const { hub } = server.app.services;
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE' });
  const reader = new Reader();
  await hub.watch(claiming(server, poll, 'device:a'), reader);
  const cast = vote(server, poll, 'device:a').catch((error: unknown) => error);
  await slow.reached();
  await manage(server.graphql, 'deletePoll', poll);
  slow.open();
  expect(await cast).toBeInstanceOf(NotFoundError);
  await eventually(() => reader.failure !== null, 'it is told');
  expect(reader.failure).toBeInstanceOf(NotFoundError);
});

test('L2 L8 who votes while it is let in sees the tallies from its own vote on', async () => {
  await using server = await startServer();
  const { hub } = server.app.services;
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE' });
  const slow = gate();
  const encode: Subscription['encode'] = async () => {
    await slow.pass();
    return Buffer.from('other');
  };
  const reader = new Reader();
  const joined = hub.watch(claiming(server, poll, 'device:a', { encode }), reader);
  await slow.reached();
  await vote(server, poll, 'device:a');
  slow.open();
  await joined;
  await vote(server, poll, 'device:b');
  await eventually(() => reader.got.at(-1)?.startsWith('3') === true, 'the next version has come');
  expect(reader.got).toEqual(['2 voter', '3 voter']);
});

test('L2 L8 who votes and takes it back while it changes its group is served as who it is', async () => {
  await using server = await startServer();
  const { hub, votes } = server.app.services;
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE', allowVoteChange: true });
  const slow = gate();
  const encodeAsVoter: Subscription['encode'] = async () => {
    await slow.pass();
    return Buffer.from('voter');
  };
  const voterKey = server.app.services.voters.keyOf(poll.id, 'device:a');
  const reader = new Reader();
  const claim = { voterKey, asVoter: { groupKey: 'voter', encode: encodeAsVoter } };
  await hub.watch(wish(poll, { claim }), reader);
  await vote(server, poll, 'device:a');
  await slow.reached();
  await votes.retract('device:a', poll.id);
  slow.open();
  await vote(server, poll, 'device:b');
  await eventually(() => reader.got.at(-1)?.startsWith('4') === true, 'the newest version has come');
  expect(reader.got.filter((got) => got.endsWith('voter'))).toEqual([]);
});

test('L5 a reader that is stuck and votes again and again is sent nothing more, and is cut all the same', async () => {
  const { clock, pass } = movableClock();
  await using server = await startServer({}, { clock, stallMs: 60_000 });
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE', allowVoteChange: true });
  const reader = new Reader();
  await server.app.services.hub.watch(claiming(server, poll, 'device:a'), reader);
  reader.isStuck = true;
  await vote(server, poll, 'device:a');
  await eventually(() => reader.queued > 0, 'it is stuck');
  // Never as long as that from one vote to the next, but from the first to the last.
  for (let time = 1; time <= 7; time++) {
    await vote(server, poll, 'device:a', time % 2);
    pass(10_000);
  }
  await eventually(() => reader.dropped, 'it is cut');
  expect(reader.got).toEqual(['1 other', '2 voter']);
});

test('L3 L5 a reader that was slow and votes gets the newest once it reads again', async () => {
  await using server = await startServer();
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE', allowVoteChange: true });
  const reader = new Reader();
  await server.app.services.hub.watch(claiming(server, poll, 'device:a'), reader);
  reader.isStuck = true;
  await vote(server, poll, 'device:b');
  await eventually(() => reader.queued > 0, 'it is stuck');
  await vote(server, poll, 'device:a');
  await vote(server, poll, 'device:a', 1);
  await eventually(() => reader.pending?.cursor === 4, 'the newest waits');
  reader.isStuck = false;
  reader.queued = 0;
  await eventually(() => reader.got.length === 3, 'it goes on');
  expect(reader.got).toEqual(['1 other', '2 other', '4 voter']);
});

test('L3 M4 a version that was counted just before the database went away reaches the watchers when it is back', async () => {
  let isAway = false;
  let refused = 0;
  await using server = await behind(
    (store) => ({
      exclusive: false,
      async votersAmong(pollId, voterKeys) {
        if (isAway) {
          refused++;
          throw new UnavailableError('away');
        }
        return store.votersAmong(pollId, voterKeys);
      },
    }),
    { LOG_LEVEL: 'silent' },
    { reconcileMs: 50 },
  );
  const poll = await createPoll(server.graphql, { resultsVisibility: 'AFTER_VOTE' });
  const reader = new Reader();
  await server.app.services.hub.watch(claiming(server, poll, 'device:a'), reader);
  isAway = true;
  await vote(server, poll, 'device:b');
  await eventually(() => refused > 0, 'the version could not be sent');
  isAway = false;
  await eventually(() => reader.got.length === 2, 'the version has come');
  expect(reader.got).toEqual(['1 other', '2 other']);
});
