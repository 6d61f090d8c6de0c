/** Two instances on one Postgres: each counts right, and the watchers of one see what happens at the other. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../src/ports/store.ts';
import { castVote, createPoll, manage, newVoter, results } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { TRANSPORTS } from '../support/transports.ts';

let database: Awaited<ReturnType<typeof freshDatabase>>;
let one: TestServer;
let two: TestServer;
beforeAll(async () => {
  database = await freshDatabase();
  const env = { DATABASE_URL: database.url, LIVE_INTERVAL_MS: '10' };
  [one, two] = await Promise.all([startServer(env, { reconcileMs: 50 }), startServer(env, { reconcileMs: 50 })]);
});
afterAll(async () => {
  expect((await one.app.store.recount()).differences).toEqual([]);
  await Promise.all([one[Symbol.asyncDispose](), two[Symbol.asyncDispose]()]);
  await database[Symbol.asyncDispose]();
});

describe('two instances on one database', () => {
  test('M1 M2 watchers of one see the votes, the end and the deletion that happen at the other', async () => {
    const poll = await createPoll(one.graphql);
    const gone = await createPoll(one.graphql);
    await using watching = await overWebSocket(two.graphql, { pollId: poll.id });
    await using losing = await overEvents(two.graphql, { pollId: gone.id });
    await watching.next();
    await losing.next();
    const { receipt } = await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[2]] });
    expect(await watching.next()).toEqual(await results(one.graphql, poll.id));
    // Its own commits come between those of the other.
    const own = await castVote(two.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[2]] });
    expect(own.receipt.version).toBe(receipt.version + 1);
    expect((await watching.next()).ballotCount).toBe(2);
    await manage(one.graphql, 'closePoll', poll);
    const { last } = await watching.until(({ isFinal }) => isFinal);
    expect(last).toEqual(await results(one.graphql, poll.id));
    expect(await watching.event()).toEqual({ type: 'complete' });
    await manage(one.graphql, 'deletePoll', gone);
    expect(await losing.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  });

  test('M1 L2 who resumes elsewhere while an older look at the database is under way there sees no older version', async () => {
    const poll = await createPoll(one.graphql);
    let looked = (): void => {};
    let goOn = (): void => {};
    const looking = new Promise<void>((resolve) => (looked = resolve));
    const later = new Promise<void>((resolve) => (goOn = resolve));
    let looks = 0;
    const slowly = (store: Store): Store => {
      const loadPoll = async (...args: Parameters<Store['loadPoll']>): ReturnType<Store['loadPoll']> => {
        const state = await store.loadPoll(...args);
        // What it has seen is long on its way.
        if (++looks === 1) {
          looked();
          await later;
        }
        return state;
      };
      return Object.assign(Object.create(store), { loadPoll });
    };
    await using three = await startServer({ DATABASE_URL: database.url }, { storeBehind: slowly });
    const early = results(three.graphql, poll.id);
    await looking;
    const { receipt } = await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    await using resuming = await overWebSocket(three.graphql, { pollId: poll.id, afterVersion: receipt.version });
    const query = results(three.graphql, poll.id);
    await eventually(() => three.app.connections().webSockets === 1, 'it is there');
    await new Promise((resolve) => setTimeout(resolve, 50));
    goOn();
    await early;
    expect((await query).version).toBe(receipt.version);
    const next = await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    expect((await resuming.next()).version).toBe(next.receipt.version);
  });

  test('V2 two hundred votes of one voter at once over both: one ballot', async () => {
    const poll = await createPoll(one.graphql, { allowVoteChange: true });
    const { voterToken } = await newVoter(one.graphql);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        castVote((index % 2 === 0 ? one : two).graphql, {
          pollId: poll.id,
          choiceIds: [poll.choiceIds[index % 4]],
          voterToken,
        }),
      ),
    );
    expect(answers.filter(({ receipt }) => receipt.outcome === 'RECORDED')).toHaveLength(1);
    expect((await results(two.graphql, poll.id)).ballotCount).toBe(1);
  });

  test('L2 L3 M1 votes flood in at both: everybody ends on the newest version, nothing goes back', async () => {
    const poll = await createPoll(one.graphql);
    const peers = await Promise.all(
      [one, two].flatMap(({ graphql }) => [
        overWebSocket(graphql, { pollId: poll.id }),
        overEvents(graphql, { pollId: poll.id }),
      ]),
    );
    await Promise.all(
      Array.from({ length: 400 }, (_, index) =>
        castVote((index % 2 === 0 ? one : two).graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[index % 4]] }),
      ),
    );
    const end = await results(one.graphql, poll.id);
    expect(end.ballotCount).toBe(400);
    for (const peer of peers) {
      const { last, versions } = await peer.until(({ version }) => version >= end.version);
      expect(last).toEqual(end);
      expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
      await peer[Symbol.asyncDispose]();
    }
  });

  test.each(TRANSPORTS)('M1 %s: a client resumes at the other instance with its version', async (_, open) => {
    const poll = await createPoll(one.graphql);
    const { receipt } = await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    const newer = await castVote(one.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] });
    await using client = await open(two.url, poll.id, receipt.version);
    expect(await client.next()).toMatchObject({ type: 'results', results: { version: newer.receipt.version } });
  });
});
