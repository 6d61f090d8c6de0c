/** One table of cases for every transport: a client that comes back with its version misses nothing and sees nothing twice. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { castVote, createPoll, manage, results, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { type LiveClient, TRANSPORTS } from '../support/transports.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ LIVE_INTERVAL_MS: '10' });
});
afterAll(() => server[Symbol.asyncDispose]());

const vote = async (poll: TestPoll, times = 1): Promise<number> => {
  let version = 0;
  for (let time = 0; time < times; time++) {
    const answer = await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[time % 4]] });
    version = answer.receipt.version;
  }
  return version;
};

async function nextVersion(client: LiveClient): Promise<number> {
  const seen = await client.next();
  if (seen.type !== 'results') throw new Error(`${seen.type}, not results`);
  expect(seen.results).toMatchObject(await results(server.graphql, seen.results.pollId));
  return seen.results.version;
}

/** Reads on until `version`; what comes on the way only rises. */
async function until(client: LiveClient, version: number, from = 0): Promise<void> {
  let last = from;
  while (last < version) {
    const seen = await client.next();
    if (seen.type !== 'results') throw new Error(`${seen.type}, not results`);
    expect(seen.results.version).toBeGreaterThan(last);
    last = seen.results.version;
  }
  expect(last).toBe(version);
}

describe.each(TRANSPORTS)('over %s', (_, open) => {
  test('L1 first connection: the current results, then each newer', async () => {
    const poll = await createPoll(server.graphql);
    const version = await vote(poll);
    await using client = await open(server.url, poll.id);
    expect(await nextVersion(client)).toBe(version);
    await until(client, await vote(poll), version);
  });

  test.each([1, 50])('M1 L1 behind by %i: the newest at once, whole', async (behind) => {
    const poll = await createPoll(server.graphql);
    const known = await vote(poll);
    const version = await vote(poll, behind);
    await using client = await open(server.url, poll.id, known);
    expect(await nextVersion(client)).toBe(version);
    await until(client, await vote(poll), version);
  });

  test('L1 L2 already current: nothing is repeated, the next newer one comes', async () => {
    const poll = await createPoll(server.graphql);
    const version = await vote(poll);
    await using client = await open(server.url, poll.id, version);
    const next = client.next();
    const newer = await vote(poll);
    expect(await next).toMatchObject({ type: 'results', results: { version: newer } });
  });

  test('ahead, as after a restore from a copy: the current results, marked by their lower version', async () => {
    const poll = await createPoll(server.graphql);
    const version = await vote(poll);
    await using client = await open(server.url, poll.id, version + 500);
    expect(await nextVersion(client)).toBe(version);
    await until(client, await vote(poll), version);
  });

  test('L6 closed meanwhile: the final results and the end; nobody needs to ask again', async () => {
    const poll = await createPoll(server.graphql);
    const known = await vote(poll);
    await manage(server.graphql, 'closePoll', poll);
    await using client = await open(server.url, poll.id, known);
    expect(await client.next()).toMatchObject({ type: 'results', results: { version: known + 1, isFinal: true } });
    expect(await client.next()).toEqual({ type: 'end' });
    await using level = await open(server.url, poll.id, known + 1);
    expect(await level.next()).toEqual({ type: 'end' });
  });

  test('L6 closed while it watches: the final results and the end', async () => {
    const poll = await createPoll(server.graphql);
    await using client = await open(server.url, poll.id);
    await nextVersion(client);
    await manage(server.graphql, 'closePoll', poll);
    expect(await client.next()).toMatchObject({ type: 'results', results: { isFinal: true } });
    expect(await client.next()).toEqual({ type: 'end' });
  });

  test('deleted meanwhile, or while it watches: it is told so', async () => {
    const poll = await createPoll(server.graphql);
    const known = await vote(poll);
    await using client = await open(server.url, poll.id);
    await nextVersion(client);
    await manage(server.graphql, 'deletePoll', poll);
    expect(await client.next()).toEqual({ type: 'gone' });
    await using late = await open(server.url, poll.id, known);
    expect(await late.next()).toEqual({ type: 'gone' });
  });

  test('reset meanwhile: a newer version with nothing in it', async () => {
    const poll = await createPoll(server.graphql);
    const known = await vote(poll, 3);
    await manage(server.graphql, 'resetPoll', poll);
    await using client = await open(server.url, poll.id, known);
    expect(await client.next()).toMatchObject({ type: 'results', results: { version: known + 1, ballotCount: 0 } });
  });

  test('L7 never existed: it is told so', async () => {
    await using client = await open(server.url, 'never');
    expect(await client.next()).toEqual({ type: 'gone' });
  });

  test('L2 L3 in a storm of votes, versions only rise and the newest arrives', async () => {
    const poll = await createPoll(server.graphql);
    const clients = await Promise.all(Array.from({ length: 5 }, () => open(server.url, poll.id)));
    const votes = Promise.all(Array.from({ length: 10 }, () => vote(poll, 20)));
    const reading = clients.map(async (client) => {
      await votes;
      await until(client, (await results(server.graphql, poll.id)).version);
    });
    await Promise.all(reading);
    for (const client of clients) await client[Symbol.asyncDispose]();
  });
});

test('M1 a client changes its transport again and again and misses nothing', async () => {
  const poll = await createPoll(server.graphql);
  let version = 0;
  for (let round = 0; round < 12; round++) {
    const [, open] = TRANSPORTS[round % TRANSPORTS.length] ?? TRANSPORTS[0] ?? [];
    if (open === undefined) throw new Error('There are transports.');
    const newest = await vote(poll, 1 + (round % 3));
    await using client = await open(server.url, poll.id, version === 0 ? undefined : version);
    await until(client, newest, version);
    version = newest;
  }
});
