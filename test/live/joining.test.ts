/** Who is being let in, or changes its group, just when something else happens: each wait is held open by the test. */
import { expect, test } from 'vitest';
import { Outlet, type Update } from '../../src/live/mailbox.ts';
import type { Watch } from '../../src/live/watch.ts';
import { createPoll, type TestPoll } from '../support/api.ts';
import { eventually } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

class Reader extends Outlet {
  /** Version and as whom it was served. */
  readonly got: string[] = [];
  failure: unknown = null;
  send({ cursor, payload }: Update): boolean {
    this.got.push(`${cursor} ${payload}`);
    return true;
  }
  backlog(): number {
    return 0;
  }
  end(): void {}
  fail(error: unknown): void {
    this.failure = error;
  }
  drop(): void {}
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
const wish = (poll: TestPoll, more: Partial<Watch> = {}): Watch => ({
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
  server.app.services.intake.cast(voter, { pollId: poll.id, choiceIds: [poll.choiceIds[choice] ?? ''] });

test('L3 who is let in just when its empty group is given up gets what comes next', async () => {
  await using server = await startServer();
  const { hub } = server.app.services;
  const poll = await createPoll(server.graphql);
  // Somebody stays, so that the poll does.
  await hub.watch(wish(poll, { groupKey: 'another' }), new Reader());
  const slow = gate();
  const encoded: number[] = [];
  const encode: Watch['encode'] = async (view) => {
    encoded.push((await view.results()).version);
    if (encoded.length > 1) await slow.pass();
    return Buffer.from('other');
  };
  const leave = await hub.watch(wish(poll, { encode }), new Reader());
  leave();
  // An empty group is kept for 5 s.
  await vote(server, poll, 'device:a');
  await sleep(4_500);
  const reader = new Reader();
  const joined = hub.watch(wish(poll, { encode }), reader);
  await slow.reached();
  await sleep(1_000);
  slow.open();
  await joined;
  await vote(server, poll, 'device:b');
  await eventually(() => reader.got.length === 2, 'the next version has come');
  expect(reader.got).toEqual(['2 other', '3 other']);
});
