/** L9: subscribers that share a group get the same bytes that each would get alone. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPoll, operate, type TestPoll } from '../support/api.ts';
import { overEvents, overWebSocket } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

/** How a variable may be declared, and every value that a client may send for it. */
const DECLARATIONS = ['Boolean', 'Boolean = true', 'Boolean = false', 'Boolean = null', 'Boolean!', 'Boolean! = true'];
const VALUES: Record<string, unknown>[] = [{}, { b: null }, { b: true }, { b: false }];
const SELECTIONS = [
  'version ballotCount @include(if: $b)',
  'version ... @skip(if: $b) { ballotCount status }',
  '...F } } fragment F on PollResults { version tallies @include(if: $b) { votes',
];

describe('L9 the group of a subscriber', () => {
  let server: TestServer;
  let poll: TestPoll;
  /** A poll for each value: who is alone there shares a group with nobody. */
  let apart: TestPoll[];
  beforeAll(async () => {
    server = await startServer();
    poll = await createPoll(server.graphql);
    apart = await Promise.all(VALUES.map(() => createPoll(server.graphql)));
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each([
    ['WebSocket', overWebSocket],
    ['event stream', overEvents],
  ])('gives nobody the errors of another: absent, null and default values over %s', async (_, connect) => {
    for (const declaration of DECLARATIONS) {
      for (const selection of SELECTIONS) {
        const [first, ...fragment] = selection.split(' } } ');
        const query = `subscription ($p: ID!, $b: ${declaration}) { pollResults(pollId: $p) { ${first} } }${
          fragment.length > 0 ? ` ${fragment.join('')} } }` : ''
        }`;
        const watch = (value: Record<string, unknown>, at = poll) =>
          connect(server.graphql, { p: at.id, ...value } as never, query);
        const alone: string[] = [];
        for (const [index, value] of VALUES.entries()) {
          await using peer = await watch(value, apart[index]);
          alone.push(JSON.stringify(await peer.event()));
        }
        // All at once, in both orders: whoever comes first makes the group's bytes.
        for (const order of [VALUES, VALUES.toReversed()]) {
          const peers: Awaited<ReturnType<typeof watch>>[] = [];
          for (const value of order) peers.push(await watch(value));
          const together = await Promise.all(peers.map(async (peer) => JSON.stringify(await peer.event())));
          expect(together, query).toEqual(order.map((value) => alone[VALUES.indexOf(value)]));
          await Promise.all(peers.map((peer) => peer[Symbol.asyncDispose]()));
        }
      }
    }
  });

  test('of a long poll in GraphQL, too', async () => {
    const query = `query ($p: ID!, $v: Int!, $b: Boolean = true) { pollResults(pollId: $p, afterVersion: $v, waitMs: 20) {
      version ballotCount @include(if: $b) } }`;
    const wait = (value: Record<string, unknown>, v = 1) => operate(server.graphql, query, { p: poll.id, v, ...value });
    const alone = await Promise.all(
      VALUES.map((value) =>
        operate(server.graphql, query.replace('waitMs: 20', 'waitMs: 0'), { p: poll.id, v: 1, ...value }),
      ),
    );
    expect(await Promise.all(VALUES.map((value) => wait(value)))).toEqual(alone);
    expect(await Promise.all(VALUES.toReversed().map((value) => wait(value)))).toEqual(alone.toReversed());
  });

  test('is shared by 1, 1.0 and "1" for an ID, and by differing variables that change nothing', async () => {
    const query = 'subscription ($p: ID!, $v: Int) { pollResults(pollId: $p, afterVersion: $v) { version } }';
    await using one = await overWebSocket(server.graphql, { p: poll.id } as never, query);
    await using other = await overWebSocket(server.graphql, { p: poll.id, v: null, extra: 1 } as never, query);
    expect(await one.event()).toEqual(await other.event());
  });
});
