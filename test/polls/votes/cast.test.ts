/** Rules V1 to V9 through the contract, on real servers with both databases. */
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { RateLimitedError } from '../../../src/core/errors.ts';
import { systemClock } from '../../../src/ops/clock.ts';
import { makeBatcher } from '../../../src/polls/votes/batcher.ts';
import type { BatchResult, Store } from '../../../src/ports/store.ts';
import { ask, castVote, createPoll, manage, newVoter, operate, results, type TestPoll } from '../../support/api.ts';
import { BACKENDS, type Backend, serveOn } from '../../support/backends.ts';
import { Inbox } from '../../support/peers.ts';
import { startServer, type TestServer } from '../../support/server.ts';

describe.each(BACKENDS)('votes on %s', (name, openBackend) => {
  let backend: Backend;
  let server: TestServer;
  let graphql: string;
  serveOn(openBackend, (started, on) => {
    server = started;
    backend = on;
    graphql = started.graphql;
  });

  const vote = (poll: TestPoll, choices: number[], voterToken?: string) =>
    castVote(graphql, { pollId: poll.id, choiceIds: choices.map((index) => poll.choiceIds[index]), voterToken });
  const votes = async (poll: TestPoll) => (await results(graphql, poll.id)).tallies.map((tally) => tally.votes);

  test('V1 a vote is counted when it is answered', async () => {
    const poll = await createPoll(graphql);
    const answer = await vote(poll, [1]);
    expect(answer).toMatchObject({ __typename: 'CastVoteSuccess', receipt: { outcome: 'RECORDED', version: 2 } });
    expect(await results(graphql, poll.id)).toMatchObject({ version: 2, ballotCount: 1 });
    expect(await votes(poll)).toEqual([0, 1, 0, 0]);
    if (backend.env.DATABASE_URL !== undefined) {
      // In the database itself, seen from another connection.
      const sql = postgres(backend.env.DATABASE_URL, { max: 1 });
      const rows = await sql`select receipt_id from ballots where poll_id = ${poll.id}`;
      await sql.end();
      expect(rows).toEqual([{ receipt_id: answer.receipt.id }]);
    }
  });

  test('V2 two hundred votes of one voter at once: one ballot', async () => {
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const { voterToken } = await newVoter(graphql);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => vote(poll, [index % 4], voterToken)));
    const outcomes = answers.map((answer) => answer.receipt.outcome);
    expect(outcomes.filter((outcome) => outcome === 'RECORDED')).toHaveLength(1);
    expect((await results(graphql, poll.id)).ballotCount).toBe(1);
    expect((await votes(poll)).reduce((sum, count) => sum + count, 0)).toBe(1);
  });

  test('V3 a retried vote answers UNCHANGED with the same receipt, one after the other or at once, even after closing', async () => {
    const poll = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    const first = await Promise.all(Array.from({ length: 20 }, () => vote(poll, [2], voterToken)));
    await manage(graphql, 'closePoll', poll);
    const after = await vote(poll, [2], voterToken);
    expect(first.filter((answer) => answer.receipt.outcome === 'RECORDED')).toHaveLength(1);
    const receipts = [...first, after].map(({ receipt }) => ({ ...receipt, outcome: '' }));
    expect(new Set(receipts.map((receipt) => JSON.stringify(receipt))).size).toBe(1);
    expect(after.receipt.outcome).toBe('UNCHANGED');
    expect(await votes(poll)).toEqual([0, 0, 1, 0]);
  });

  test('V4 another vote is REPLACED where the poll allows it, else AlreadyVotedError', async () => {
    const changing = await createPoll(graphql, { allowVoteChange: true });
    const fixed = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    await vote(changing, [0], voterToken);
    await vote(fixed, [0], voterToken);
    expect(await vote(changing, [1], voterToken)).toMatchObject({ receipt: { outcome: 'REPLACED', version: 3 } });
    expect(await vote(fixed, [1], voterToken)).toMatchObject({ __typename: 'AlreadyVotedError' });
    expect(await votes(changing)).toEqual([0, 1, 0, 0]);
    expect(await votes(fixed)).toEqual([1, 0, 0, 0]);
  });

  test('V4 who changes its mind and back faster than it is answered ends on what it said last', async () => {
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const { voterToken } = await newVoter(graphql);
    const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
    const inbox = new Inbox<{ readonly type: string }>();
    socket.on('message', (data) => inbox.push(JSON.parse(String(data))));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(JSON.stringify({ type: 'connection_init', payload: { voterToken } }));
    expect((await inbox.next()).type).toBe('connection_ack');
    for (const [time, choice] of [0, 1, 0, 2, 0].entries()) {
      const input = `{ pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[choice]}"] }`;
      const query = `mutation { castVote(input: ${input}) { __typename } }`;
      socket.send(JSON.stringify({ id: String(time), type: 'subscribe', payload: { query } }));
    }
    for (let over = 0; over < 5; ) if ((await inbox.next()).type === 'complete') over++;
    socket.close();
    expect(await votes(poll)).toEqual([1, 0, 0, 0]);
  });

  test('V5 no ballot enters a poll that is a draft or closed, however close the race', async () => {
    const draft = await createPoll(graphql, { status: 'DRAFT' });
    expect(await vote(draft, [0])).toMatchObject({
      __typename: 'PollNotOpenError',
      message: 'This poll is not open yet.',
    });
    const poll = await createPoll(graphql);
    const racing = Array.from({ length: 100 }, async (_, index) => {
      if (index === 50) await manage(graphql, 'closePoll', poll);
      return vote(poll, [0]);
    });
    const kinds = (await Promise.all(racing)).map((answer) => answer.__typename);
    const final = await results(graphql, poll.id);
    expect(final.isFinal).toBe(true);
    expect(final.ballotCount).toBe(kinds.filter((kind) => kind === 'CastVoteSuccess').length);
    expect(kinds.filter((kind) => kind === 'PollNotOpenError').length).toBeGreaterThan(0);
    expect(await vote(poll, [0])).toMatchObject({ __typename: 'PollNotOpenError', message: 'This poll is closed.' });
    expect((await results(graphql, poll.id)).version).toBe(final.version);
  });

  test('V6 tallies equal a recount for every kind of poll', async () => {
    const kinds = [
      await createPoll(graphql),
      await createPoll(graphql, { kind: 'MULTIPLE', maxChoices: 3 }),
      await createPoll(graphql, { kind: 'RANKED' }),
    ];
    await Promise.all(
      kinds.flatMap((poll, kind) =>
        Array.from({ length: 30 }, (_, index) => vote(poll, kind === 0 ? [index % 4] : [index % 4, (index + 1) % 4])),
      ),
    );
    expect(await Promise.all(kinds.map(votes))).toEqual([
      [8, 8, 7, 7],
      [15, 16, 15, 14],
      [8, 8, 7, 7],
    ]);
    expect((await server.app.store.recount()).differences).toEqual([]);
  });

  test('V7 a ballot that breaks the rules is refused whole', async () => {
    const poll = await createPoll(graphql, { kind: 'MULTIPLE', maxChoices: 2 });
    const rating = await createPoll(graphql, { kind: 'RATING', choices: null, ratingScale: { min: 1, max: 5 } });
    expect(await vote(poll, [0, 1, 2])).toMatchObject({
      __typename: 'InvalidBallotError',
      message: expect.stringContaining('3 given'),
    });
    expect(await vote(poll, [0, 0])).toMatchObject({ __typename: 'InvalidBallotError' });
    expect(await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0], 'x.1'] })).toMatchObject({
      __typename: 'InvalidBallotError',
    });
    expect(await castVote(graphql, { pollId: rating.id, rating: 6 })).toMatchObject({
      __typename: 'InvalidBallotError',
    });
    expect(await castVote(graphql, { pollId: 'nothing', choiceIds: ['nothing.1'] })).toMatchObject({
      __typename: 'NotFoundError',
    });
    expect(
      await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken: 'v1.forged' }),
    ).toMatchObject({
      __typename: 'InvalidInputError',
    });
    expect(await results(graphql, poll.id)).toMatchObject({ version: 1, ballotCount: 0 });
  });

  test('V8 one bad ballot in a batch costs no other ballot anything', async () => {
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const ballots = Array.from({ length: 1_000 }, (_, index) => ({
      voterId: `voter ${index % 990}`,
      choiceIds: index === 500 ? ['nonsense'] : [poll.choiceIds[index < 990 ? 0 : 1]],
    }));
    ballots[7] = { voterId: '', choiceIds: [poll.choiceIds[0]] };
    const cast = (headers = {}) =>
      ask<Record<string, unknown>>(
        graphql,
        `mutation ($input: CastVotesInput!) { castVotes(input: $input) { __typename
          ... on CastVotesSuccess { recorded unchanged replaced version rejected { index message } }
          ... on Error { message } } }`,
        { input: { pollId: poll.id, ballots } },
        headers,
      );
    expect(await cast()).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await cast(poll.manage)).toMatchObject({
      recorded: 989,
      unchanged: 0,
      // The voter at 7 was refused there and comes again at 997 with its first ballot.
      replaced: 9,
      rejected: [
        { index: 7, message: expect.stringContaining('voterId') },
        { index: 500, message: expect.stringContaining('not a choice') },
      ],
    });
    expect(await votes(poll)).toEqual([979, 10, 0, 0]);
    ballots.push(...ballots.slice(0, 1));
    expect(await cast(poll.manage)).toMatchObject({
      __typename: 'InvalidInputError',
      message: expect.stringContaining('at most 1000'),
    });
  });

  test('a vote is taken back only where the poll allows it, and only by its voter', async () => {
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const { voterToken } = await newVoter(graphql);
    const stranger = await newVoter(graphql);
    const retract = (pollId: string, token: string | null) =>
      ask<{ __typename: string; poll?: { results: { ballotCount: number } } }>(
        graphql,
        `mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename
          ... on RetractVoteSuccess { poll { results { ballotCount } } } } }`,
        { input: { pollId, voterToken: token } },
      );
    await vote(poll, [0], voterToken);
    expect(await retract(poll.id, stranger.voterToken)).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await retract(poll.id, null)).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await retract(poll.id, voterToken)).toMatchObject({ poll: { results: { ballotCount: 0 } } });
    expect(await retract(poll.id, voterToken)).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await vote(poll, [1], voterToken)).toMatchObject({ receipt: { outcome: 'RECORDED', version: 4 } });
    const fixed = await createPoll(graphql);
    await vote(fixed, [0], voterToken);
    expect(await retract(fixed.id, voterToken)).toMatchObject({ __typename: 'NotAllowedError' });
  });

  test("the caller's own ballot is known by header or cookie, and nobody else's", async () => {
    const poll = await createPoll(graphql, { kind: 'RANKED' });
    const { voterToken } = await newVoter(graphql);
    await vote(poll, [2, 0], voterToken);
    const own = async (headers: Record<string, string>) =>
      (
        await ask<{ viewerBallot: unknown }>(
          graphql,
          'query ($id: ID!) { poll(id: $id) { viewerBallot { choiceIds rating castAt } } }',
          { id: poll.id },
          headers,
        )
      ).viewerBallot;
    const expected = { choiceIds: [poll.choiceIds[2], poll.choiceIds[0]], rating: null, castAt: expect.any(String) };
    expect(await own({ 'pollcast-voter': voterToken })).toEqual(expected);
    expect(await own({ cookie: `a=b; pollcast_voter=${voterToken}` })).toEqual(expected);
    expect(await own({})).toBeNull();
    expect(await own({ cookie: `pollcast_voter=${voterToken.slice(0, -1)}!` })).toBeNull();
  });

  test('a browser gets its voter token as an httpOnly cookie and not in the payload', async () => {
    const poll = await createPoll(graphql);
    const response = await fetch(graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' },
      body: JSON.stringify({
        query: `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { ... on CastVoteSuccess { voterToken receipt { outcome } } } }`,
      }),
    });
    expect(await response.json()).toEqual({
      data: { castVote: { voterToken: null, receipt: { outcome: 'RECORDED' } } },
    });
    expect(response.headers.get('set-cookie')).toMatch(
      /^pollcast_voter=v1\.[\w-]+\.[\w-]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/,
    );
  });

  test.runIf(name === 'Postgres')('a poll that another instance changed or deleted is looked at again', async () => {
    await using second = await startServer(backend.env);
    const poll = await createPoll(graphql, { status: 'DRAFT' });
    await expect(castVote(second.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).resolves.toMatchObject({
      __typename: 'PollNotOpenError',
    });
    await manage(graphql, 'openPoll', poll);
    expect(await castVote(second.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).toMatchObject({
      receipt: { outcome: 'RECORDED' },
    });
    expect(await results(graphql, poll.id)).toMatchObject({ ballotCount: 1 });
    await manage(graphql, 'deletePoll', poll);
    expect(await castVote(second.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] })).toMatchObject({
      __typename: 'NotFoundError',
    });
  });

  test('ten mutations fit into one operation, more do not', async () => {
    const poll = await createPoll(graphql);
    const many = (count: number) =>
      `mutation { ${Array.from({ length: count }, (_, index) => `v${index}: castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename }`).join(' ')} }`;
    expect((await operate(graphql, many(10))).errors).toBeUndefined();
    expect((await operate(graphql, many(11))).errors?.[0]?.message).toMatch(/11 mutations, at most 10/);
  });
});

describe('the batcher', () => {
  const entry = (voter: number, content = '1') => ({
    pollId: 'p',
    voterKey: String(voter),
    content,
    revision: 1,
    receiptId: String(voter),
    coded: false,
  });
  const receipt = { id: 'r', pollId: 'p', version: 2, castAt: 0 };
  const recorded = (count: number): BatchResult => ({
    outcomes: Array.from({ length: count }, () => ({ kind: 'RECORDED', receipt })),
    changes: [],
  });

  function batcherOn(castBallots: Store['castBallots'], maxWaiting = 100, maxBatch = 10) {
    // Only the one method is used; the rest of the port is covered by the contract suite on real databases.
    const store = { maxBatch, castBallots } as Store;
    return makeBatcher({ store, clock: systemClock, maxWaiting, onCommitted: () => {} });
  }

  test('all that arrive while a batch is committed form the next one', async () => {
    const sizes: number[] = [];
    let release: () => void = () => {};
    const batcher = batcherOn(async (entries) => {
      sizes.push(entries.length);
      if (sizes.length === 1) await new Promise<void>((resolve) => (release = resolve));
      return recorded(entries.length);
    });
    const first = batcher.cast(entry(0));
    await new Promise(setImmediate);
    const rest = Array.from({ length: 14 }, (_, index) => batcher.cast(entry(index + 1)));
    release();
    await Promise.all([first, ...rest]);
    expect(sizes).toEqual([1, 10, 4]);
    expect(batcher.waiting).toBe(0);
  });

  test('voters who come back in step are shared out among two batches, so that one is committed while another is answered', async () => {
    const sizes: number[] = [];
    const batcher = batcherOn(
      async (entries) => {
        sizes.push(entries.length);
        // Longer than a voter takes to come back, however slow the machine is.
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
        return recorded(entries.length);
      },
      100,
      500,
    );
    let votes = 0;
    const voter = async (times: number) => {
      for (let time = 0; time < times; time++) {
        await batcher.cast(entry(votes++));
        await new Promise(setImmediate);
      }
    };
    // The first is alone, and the 63 that come meanwhile would be one batch for ever.
    const first = voter(40);
    await new Promise(setImmediate);
    await Promise.all([first, ...Array.from({ length: 63 }, () => voter(40))]);
    expect(sizes.slice(0, 3)).toEqual([1, 32, 32]);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(33);
    expect(sizes.reduce((sum, size) => sum + size)).toBe(64 * 40);
    expect(sizes.length).toBeLessThan(100);
  });

  test('V9 a full intake refuses at once, says when to retry, and is open again when it has emptied', async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const batcher = batcherOn(async (entries) => {
      await held;
      return recorded(entries.length);
    }, 5);
    const waiting = Array.from({ length: 5 }, (_, index) => batcher.cast(entry(index)));
    const refused = await batcher.cast(entry(9)).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(RateLimitedError);
    expect(refused).toMatchObject({
      retryAfterMs: expect.any(Number),
      message: expect.stringMatching(/try again in \d+ ms/),
    });
    expect(batcher.waiting).toBe(5);
    release();
    await Promise.all(waiting);
    expect(await batcher.cast(entry(9))).toMatchObject({ kind: 'RECORDED' });
  });

  test('V8 a statement that fails because of one entry costs no other entry anything', async () => {
    const batcher = batcherOn(async (entries) => {
      if (entries.some(({ voterKey }) => voterKey === '3')) throw new Error('a poisoned entry');
      return recorded(entries.length);
    });
    const settled = await Promise.allSettled(Array.from({ length: 8 }, (_, index) => batcher.cast(entry(index))));
    expect(settled.map(({ status }) => status === 'fulfilled')).toEqual([
      true,
      true,
      true,
      false,
      true,
      true,
      true,
      true,
    ]);
  });

  test('V3 V4 of one voter in one batch: the same ballot shares the outcome, another waits for the next batch', async () => {
    const batches: string[][] = [];
    const batcher = batcherOn(async (entries) => {
      batches.push(entries.map(({ content }) => content));
      return recorded(entries.length);
    });
    const outcomes = await Promise.all([
      batcher.cast(entry(1, '1')),
      batcher.cast(entry(1, '1')),
      batcher.cast(entry(1, '2')),
      batcher.cast(entry(1, '1')),
    ]);
    // The last one too: it was cast after the other one, which it replaces.
    expect(batches).toEqual([['1'], ['2'], ['1']]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(['RECORDED', 'UNCHANGED', 'RECORDED', 'RECORDED']);
  });

  test('draining answers what was taken and takes nothing more', async () => {
    const batcher = batcherOn(async (entries) => recorded(entries.length));
    const taken = Array.from({ length: 25 }, (_, index) => batcher.cast(entry(index)));
    await batcher.drain();
    await expect(batcher.cast(entry(99))).rejects.toThrow(/shutting down/);
    expect(await Promise.all(taken)).toHaveLength(25);
    await batcher.drain();
  });
});
