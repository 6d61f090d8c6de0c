/** Rules L1 to L7 and L9 over both streaming transports, with real sockets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { castVote, createPoll, manage, newVoter, results, type TestPoll } from '../support/api.ts';
import { BACKENDS, type Backend } from '../support/backends.ts';
import { type Connect, eventually, overEvents, overWebSocket, WATCH } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

const TRANSPORTS: readonly (readonly [string, Connect])[] = [
  ['WebSocket', overWebSocket],
  ['SSE', overEvents],
];

describe.each(BACKENDS)('live results on %s', (_, openBackend) => {
  let backend: Backend;
  let server: TestServer;
  let graphql: string;
  beforeAll(async () => {
    backend = await openBackend();
    server = await startServer({ ...backend.env, LIVE_INTERVAL_MS: '20' }, { stallMs: 400 });
    graphql = server.graphql;
  });
  afterAll(async () => {
    await eventually(() => server.app.connections().watching === 0, 'nobody is left in a group');
    await server[Symbol.asyncDispose]();
    await backend[Symbol.asyncDispose]();
  });

  const vote = (poll: TestPoll, choice = 0) =>
    castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[choice]] });

  describe.each(TRANSPORTS)('over %s', (__, connect) => {
    test('L1 the first thing a subscriber receives is the current results, whole', async () => {
      const poll = await createPoll(graphql);
      await vote(poll, 1);
      await using peer = await connect(graphql, { pollId: poll.id });
      expect(await peer.next()).toEqual(await results(graphql, poll.id));
    });

    test('L1 with afterVersion equal to the current version, the next newer ones; behind or ahead, the current ones', async () => {
      const poll = await createPoll(graphql);
      const { receipt } = await vote(poll);
      await using level = await connect(graphql, { pollId: poll.id, afterVersion: receipt.version });
      await using behind = await connect(graphql, { pollId: poll.id, afterVersion: receipt.version - 1 });
      await using ahead = await connect(graphql, { pollId: poll.id, afterVersion: receipt.version + 1_000 });
      expect((await behind.next()).version).toBe(receipt.version);
      expect((await ahead.next()).version).toBe(receipt.version);
      expect(level.arrived).toBe(0);
      const next = await vote(poll);
      for (const peer of [level, behind, ahead]) expect((await peer.next()).version).toBe(next.receipt.version);
    });

    test('L2 L3 under a storm of votes, versions only rise and everybody ends on the newest', async () => {
      const poll = await createPoll(graphql);
      const peers = await Promise.all(Array.from({ length: 20 }, () => connect(graphql, { pollId: poll.id })));
      await Promise.all(Array.from({ length: 300 }, (___, index) => vote(poll, index % 4)));
      const end = await results(graphql, poll.id);
      expect(end.ballotCount).toBe(300);
      for (const peer of peers) {
        const { last, versions } = await peer.until(({ version }) => version >= end.version);
        expect(last).toEqual(end);
        expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
        await peer[Symbol.asyncDispose]();
      }
    });

    test('L6 closing sends the final results to everyone and completes; a later subscriber gets just them', async () => {
      const poll = await createPoll(graphql);
      await using watching = await connect(graphql, { pollId: poll.id });
      await using seldom = await connect(graphql, { pollId: poll.id, everyMs: 3_600_000 });
      await watching.next();
      await seldom.next();
      await vote(poll);
      for (const peer of [watching, seldom]) await peer.until(({ ballotCount }) => ballotCount === 1);
      await manage(graphql, 'closePoll', poll);
      const final = await results(graphql, poll.id);
      expect(final.isFinal).toBe(true);
      await using late = await connect(graphql, { pollId: poll.id });
      await using level = await connect(graphql, { pollId: poll.id, afterVersion: final.version });
      for (const peer of [watching, seldom, late]) {
        expect(await peer.next()).toEqual(final);
        expect(await peer.event()).toEqual({ type: 'complete' });
      }
      expect(await level.event()).toEqual({ type: 'complete' });
    });

    test('L7 a subscription to nothing fails with an error when it starts', async () => {
      await using peer = await connect(graphql, { pollId: 'nothing' });
      expect(await peer.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
    });

    test.each([
      ['a wrong argument', { pollId: 'x', everyMs: -1 }, WATCH, /everyMs: -1/],
      ['a missing variable', {}, WATCH, /\$pollId/],
      ['an unknown field', { pollId: 'x' }, 'subscription { pollResults(pollId: "x") { secrets } }', /secrets/],
      ['a syntax error', {}, 'subscription {', /Syntax Error/],
      ['the audience of nothing', {}, 'subscription { pollAudience(pollId: "x") { watching } }', /no poll/],
    ])('L7 %s fails with an error when it starts', async (___, variables, query, message) => {
      await using peer = await connect(graphql, variables as never, query);
      expect(await peer.event()).toMatchObject({
        type: 'errors',
        errors: [{ message: expect.stringMatching(message) }],
      });
    });

    test('a deleted poll ends the subscription with an error', async () => {
      const poll = await createPoll(graphql);
      await using peer = await connect(graphql, { pollId: poll.id });
      await peer.next();
      await manage(graphql, 'deletePoll', poll);
      expect(await peer.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
    });

    test('a reset goes out as a newer version with nothing in it', async () => {
      const poll = await createPoll(graphql);
      await vote(poll);
      await using peer = await connect(graphql, { pollId: poll.id });
      expect((await peer.next()).ballotCount).toBe(1);
      await manage(graphql, 'resetPoll', poll);
      expect(await peer.next()).toMatchObject({ version: 3, ballotCount: 0 });
    });

    test('L5 L3 a reader that sleeps holds one pending update and comes back current', async () => {
      const poll = await createPoll(graphql, {
        choices: Array.from({ length: 100 }, (___, n) => `${n} ${'x'.repeat(150)}`),
      });
      await using sleeper = await connect(graphql, { pollId: poll.id });
      await using awake = await connect(graphql, { pollId: poll.id });
      await sleeper.next();
      sleeper.pause();
      // Enough that the kernel takes no more for the sleeper: several MB of 30 KB updates, one vote each.
      for (let round = 0; round < 60; round++) {
        const { receipt } = await vote(poll);
        await awake.until(({ version }) => version >= receipt.version);
      }
      const end = await results(graphql, poll.id);
      sleeper.resume();
      const { versions } = await sleeper.until(({ version }) => version >= end.version);
      expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
    });
  });

  test('L4 at most one update an interval: a burst is one update, the first goes at once, everyMs widens it', async () => {
    const poll = await createPoll(graphql);
    await using wide = await overWebSocket(graphql, { pollId: poll.id, everyMs: 3_600_000 });
    await using narrow = await overWebSocket(graphql, { pollId: poll.id });
    await wide.next();
    await narrow.next();
    const { receipt } = await vote(poll);
    // The first change goes at once to both: an hour has not passed, but nothing was sent in this one.
    expect((await narrow.next()).version).toBe(receipt.version);
    expect((await wide.next()).version).toBe(receipt.version);
    await Promise.all(Array.from({ length: 200 }, () => vote(poll)));
    const end = await results(graphql, poll.id);
    const { versions } = await narrow.until(({ version }) => version >= end.version);
    expect(versions.length).toBeLessThan(end.version - receipt.version + 1);
    expect(wide.arrived).toBe(0);
  });

  test('L5 a reader that makes no progress is closed, and costs nobody else anything', async () => {
    const poll = await createPoll(graphql, {
      choices: Array.from({ length: 100 }, (___, n) => `${n} ${'y'.repeat(190)}`),
    });
    await using awake = await overWebSocket(graphql, { pollId: poll.id });
    await awake.next();
    const stuck = await Promise.all(TRANSPORTS.map(([, connect]) => connect(graphql, { pollId: poll.id })));
    for (const peer of stuck) {
      await peer.next();
      peer.pause();
    }
    await eventually(() => server.app.connections().watching === 3, 'three watch');
    // Until both are cut off, whatever the kernel buffers.
    await eventually(async () => {
      const { receipt } = await vote(poll);
      await awake.until(({ version }) => version >= receipt.version);
      return server.app.connections().watching === 1;
    }, 'the stuck readers are dropped');
    for (const peer of stuck) await peer[Symbol.asyncDispose]();
  }, 120_000);

  test('L9 a personal operation is never shared between viewers', async () => {
    const poll = await createPoll(graphql);
    const [one, two] = [await newVoter(graphql), await newVoter(graphql)];
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[3]], voterToken: one.voterToken });
    const query = 'subscription ($id: ID!) { pollChanged(pollId: $id) { status viewerBallot { choiceIds } } }';
    const own = async (token: string | undefined) => {
      const response = await fetch(graphql, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'text/event-stream',
          ...(token === undefined ? {} : { 'pollcast-voter': token }),
        },
        body: JSON.stringify({ query, variables: { id: poll.id } }),
      });
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      while (!text.includes('event: next\ndata: ') || !text.endsWith('\n\n'))
        text += (await reader?.read())?.value ?? '';
      await reader?.cancel();
      return JSON.parse(/data: (\{.*\})/.exec(text)?.[1] ?? '').data.pollChanged.viewerBallot;
    };
    const [mine, theirs, nobodys] = await Promise.all([own(one.voterToken), own(two.voterToken), own(undefined)]);
    expect(mine).toEqual({ choiceIds: [poll.choiceIds[3]] });
    expect(theirs).toBeNull();
    expect(nobodys).toBeNull();
  });

  test('pollChanged tells of openings and closings, not of votes', async () => {
    const poll = await createPoll(graphql, { status: 'DRAFT' });
    const query = 'subscription ($pollId: ID!) { pollResults: pollChanged(pollId: $pollId) { status question } }';
    await using peer = await overWebSocket(graphql, { pollId: poll.id }, query, poll.manage);
    expect(await peer.next()).toMatchObject({ status: 'DRAFT' });
    await manage(graphql, 'openPoll', poll);
    expect(await peer.next()).toMatchObject({ status: 'OPEN' });
    await vote(poll);
    await manage(graphql, 'closePoll', poll);
    expect(await peer.next()).toMatchObject({ status: 'CLOSED' });
    expect(await peer.event()).toEqual({ type: 'complete' });
  });
});
