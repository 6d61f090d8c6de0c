/** What a viewer may see changes while it watches: by its vote, by a retraction, by the end of the poll, by its organizer. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, newVoter, type TestPoll } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { overEvents, overWebSocket, type Peer } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

const PEERS = [
  ['WebSocket', overWebSocket],
  ['GraphQL over SSE', overEvents],
] as const;

let database: Awaited<ReturnType<typeof freshDatabase>>;
let alone: TestServer;
let one: TestServer;
let two: TestServer;
beforeAll(async () => {
  database = await freshDatabase();
  const env = { DATABASE_URL: database.url, LIVE_INTERVAL_MS: '10' };
  [alone, one, two] = await Promise.all([
    startServer({ LIVE_INTERVAL_MS: '0' }),
    startServer(env, { reconcileMs: 50 }),
    startServer(env, { reconcileMs: 50 }),
  ]);
});
afterAll(async () => {
  for (const server of [alone, one, two]) await server[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** A watcher that is a voter, at one server, and where it votes. */
const PLACES: readonly (readonly [string, () => readonly [watched: TestServer, voted: TestServer]])[] = [
  ['on PGlite alone', () => [alone, alone]],
  ['at the instance that counts the vote', () => [one, one]],
  ['at another instance', () => [one, two]],
];

const vote = (server: TestServer, poll: TestPoll, choice: number, voterToken?: string) =>
  castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[choice]], voterToken });

/** Reads on until the tallies are there or gone; no version may come twice or go back. */
async function until(peer: Peer, seen: boolean, from: number): Promise<number> {
  const { last, versions } = await peer.until(({ tallies }) => (tallies !== null) === seen);
  expect([from, ...versions]).toEqual([...new Set([from, ...versions])].sort((a, b) => a - b));
  return last.version;
}

describe.each(PLACES)('AFTER_VOTE, watched %s', (_, places) => {
  test.each(PEERS)('L2 L8 %s: the vote brings the tallies, a retraction takes them away', async (_, connect) => {
    const [watched, voted] = places();
    const poll = await createPoll(voted.graphql, { resultsVisibility: 'AFTER_VOTE', allowVoteChange: true });
    const [voter, other] = await Promise.all([newVoter(voted.graphql), newVoter(voted.graphql)]);
    const who = { 'pollcast-voter': voter.voterToken };
    await using own = await connect(watched.graphql, { pollId: poll.id }, undefined, who);
    await using stranger = await connect(watched.graphql, { pollId: poll.id });
    expect((await own.next()).tallies).toBeNull();
    expect((await stranger.next()).tallies).toBeNull();

    const { receipt } = await vote(voted, poll, 0, voter.voterToken);
    // Not with the next vote of somebody: with the version that its own ballot made.
    const first = await own.next();
    expect(first).toMatchObject({ version: receipt.version, ballotCount: 1 });
    expect(first.tallies?.[0]?.votes).toBe(1);
    expect(await stranger.next()).toMatchObject({ version: receipt.version, ballotCount: 1, tallies: null });

    await vote(voted, poll, 1, other.voterToken);
    expect((await own.next()).tallies?.[1]?.votes).toBe(1);

    await ask(voted.graphql, 'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename } }', {
      input: { pollId: poll.id, voterToken: voter.voterToken },
    });
    expect(await own.next()).toMatchObject({ ballotCount: 1, tallies: null });
    const again = await vote(voted, poll, 2, voter.voterToken);
    await until(own, true, again.receipt.version - 1);

    await manage(voted.graphql, 'resetPoll', poll);
    await until(own, false, again.receipt.version);
  });

  test('L8 a hundred watchers vote at once: each sees the tallies from its own vote on, nobody else does', async () => {
    const [watched, voted] = places();
    const poll = await createPoll(voted.graphql, { resultsVisibility: 'AFTER_VOTE' });
    const voters = await Promise.all(Array.from({ length: 100 }, () => newVoter(voted.graphql)));
    const peers = await Promise.all(
      voters.map(({ voterToken }) =>
        overWebSocket(watched.graphql, { pollId: poll.id }, undefined, { 'pollcast-voter': voterToken }),
      ),
    );
    for (const peer of peers) expect((await peer.next()).tallies).toBeNull();
    const receipts = await Promise.all(
      voters.slice(0, 50).map(({ voterToken }, index) => vote(voted, poll, index % 4, voterToken)),
    );
    for (const [index, peer] of peers.entries()) {
      const own = receipts[index]?.receipt.version ?? Number.POSITIVE_INFINITY;
      let last = 0;
      let count = 0;
      while (count < 50) {
        const results = await peer.next();
        expect(results.version).toBeGreaterThan(last);
        expect(results.tallies !== null).toBe(results.version >= own);
        last = results.version;
        count = results.ballotCount;
      }
      await peer[Symbol.asyncDispose]();
    }
  });
});

test.each(PEERS)('L6 L8 %s: AFTER_CLOSE shows the final results to everybody', async (_, connect) => {
  const poll = await createPoll(one.graphql, { resultsVisibility: 'AFTER_CLOSE' });
  await using peer = await connect(two.graphql, { pollId: poll.id });
  await vote(one, poll, 0);
  const { version } = await peer.until(({ ballotCount }) => ballotCount === 1).then(({ last }) => last);
  await manage(one.graphql, 'closePoll', poll);
  const last = await peer.next();
  expect(last).toMatchObject({ isFinal: true, ballotCount: 1 });
  expect(last.version).toBeGreaterThan(version);
  expect(last.tallies?.[0]?.votes).toBe(1);
});

test('L8 an organizer shows what was hidden and hides what was shown, while all watch', async () => {
  const poll = await createPoll(one.graphql, { resultsVisibility: 'ORGANIZERS' });
  await using peer = await overWebSocket(two.graphql, { pollId: poll.id });
  await using organizer = await overWebSocket(two.graphql, { pollId: poll.id }, undefined, poll.manage);
  let version = await until(peer, false, 0);
  expect((await organizer.next()).tallies).not.toBeNull();
  for (const [resultsVisibility, seen] of [['ALWAYS', true] as const, ['ORGANIZERS', false] as const]) {
    await ask(
      one.graphql,
      'mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename ... on Error { message } } }',
      { input: { pollId: poll.id, resultsVisibility } },
      poll.manage,
    );
    version = await until(peer, seen, version);
    expect((await organizer.next()).tallies).not.toBeNull();
  }
});

test('L7 a DRAFT is its organizers’ alone, and everybody’s once it is open', async () => {
  const poll = await createPoll(one.graphql, { status: 'DRAFT' });
  await using early = await overWebSocket(two.graphql, { pollId: poll.id });
  expect(await early.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  expect(await ask(two.graphql, 'query ($id: ID!) { poll(id: $id) { id } }', { id: poll.id })).toBeNull();
  expect((await fetch(`${two.url}/polls/${poll.id}/results`)).status).toBe(404);
  expect(await ask(two.graphql, 'query ($id: ID!) { poll(id: $id) { id } }', { id: poll.id }, poll.manage)).toEqual({
    id: poll.id,
  });
  await manage(one.graphql, 'openPoll', poll);
  await using late = await overWebSocket(two.graphql, { pollId: poll.id });
  expect(await late.next()).toMatchObject({ status: 'OPEN' });
});

test('what not everybody may see is kept by no cache', async () => {
  const open = await createPoll(one.graphql);
  const hidden = await createPoll(one.graphql, { resultsVisibility: 'AFTER_VOTE' });
  const cacheOf = async ({ id }: TestPoll) =>
    (await fetch(`${one.url}/polls/${id}/results`)).headers.get('cache-control');
  expect(await cacheOf(open)).toBe('public, max-age=1');
  expect(await cacheOf(hidden)).toBe('private, no-store');
});
