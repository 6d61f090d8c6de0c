/** The client of graphql-ws, for everything: queries, mutations and subscriptions. */
import { createClient, type Client as WebSocketClient } from 'graphql-ws';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { castVote, createPoll, manage, newVoter } from '../support/api.ts';
import { eventually, Inbox, WATCH } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import {
  CLOSE,
  type Client,
  type Closed,
  createVoteAndWatch,
  Feed,
  VOTE,
  type Voted,
  watchNothing,
} from './journey.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('L1 L2 L6 graphql-ws creates, votes and watches to the final results', () => createVoteAndWatch(open));

test('L7 graphql-ws is told NOT_FOUND when it watches an unknown poll', () => watchNothing(open));

test('L7 deleting a poll ends the subscriptions on it with NOT_FOUND, and the connection lives on', async () => {
  const [poll, other] = await Promise.all([createPoll(server.graphql), createPoll(server.graphql)]);
  await using client = open();
  const feeds = [client.watch(poll.id), client.watch(poll.id)];
  const spared = client.watch(other.id);
  await Promise.all([...feeds, spared].map((feed) => feed.next()));
  expect(await manage(server.graphql, 'deletePoll', poll)).toEqual({ __typename: 'DeletePollSuccess' });
  for (const feed of feeds) {
    expect(await feed.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  }
  const vote = await castVote(server.graphql, { pollId: other.id, choiceIds: other.choiceIds.slice(0, 1) });
  expect(await spared.next()).toMatchObject({ version: vote.receipt.version });
});

test('connectionParams.authorization manages the poll of its key and no other', async () => {
  const [poll, other] = await Promise.all([createPoll(server.graphql), createPoll(server.graphql)]);
  await using organizer = open(poll.manage.authorization);
  const refused = await organizer.run<Closed>(CLOSE, { input: { pollId: other.id } });
  expect(refused.closePoll.__typename).toBe('NotAllowedError');
  const closed = await organizer.run<Closed>(CLOSE, { input: { pollId: poll.id } });
  expect(closed.closePoll).toEqual({ __typename: 'ClosePollSuccess', poll: { id: poll.id, status: 'CLOSED' } });
});

test('V3 V4 connectionParams.voterToken is the voter on every connection that brings it', async () => {
  const poll = await createPoll(server.graphql);
  const [first, second] = poll.choiceIds;
  const { voterToken } = await newVoter(server.graphql);
  const vote = async (choiceId: string | undefined) => {
    await using client = connected({ voterToken });
    return (await client.run<Voted>(VOTE, { input: { pollId: poll.id, choiceIds: [choiceId] } })).castVote;
  };
  expect(await vote(first)).toMatchObject({
    voterToken,
    receipt: { outcome: 'RECORDED' },
    poll: { viewerBallot: { choiceIds: [first] }, results: { ballotCount: 1 } },
  });
  expect(await vote(first)).toMatchObject({ voterToken, receipt: { outcome: 'UNCHANGED' } });
  expect(await vote(second)).toMatchObject({ __typename: 'AlreadyVotedError' });
});

test('leaving a subscription takes it off the server, and the connection closes after the last', async () => {
  const poll = await createPoll(server.graphql);
  await using client = open();
  const feeds = [client.watch(poll.id), client.watch(poll.id)];
  await Promise.all(feeds.map((feed) => feed.next()));
  const { watching, webSockets } = server.app.connections();
  feeds[0]?.stop();
  await eventually(() => server.app.connections().watching === watching - 1, 'one watcher fewer');
  feeds[1]?.stop();
  await eventually(() => server.app.connections().watching === watching - 2, 'two watchers fewer');
  await eventually(() => server.app.connections().webSockets === webSockets - 1, 'the socket is closed');
});

test('a server that stops closes with 1001', async () => {
  await using stopping = await startServer();
  const poll = await createPoll(stopping.graphql);
  const closes = new Inbox<unknown>();
  await using client = connected({}, stopping, (event) => closes.push(event));
  const feed = client.watch(poll.id);
  await feed.next();
  await stopping[Symbol.asyncDispose]();
  expect(await closes.next()).toMatchObject({ code: 1001, wasClean: true });
  expect(await feed.event()).toEqual({ type: 'closed', code: 1001 });
});

function open(authorization?: string): Client {
  return connected(authorization === undefined ? {} : { authorization });
}

function connected(
  connectionParams: Record<string, unknown>,
  at: TestServer = server,
  onClosed: (event: unknown) => void = () => {},
): Client {
  const client: WebSocketClient = createClient({
    url: at.graphql.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    connectionParams,
    retryAttempts: 0,
    on: { closed: onClosed },
  });
  return {
    async run<Data>(query: string, variables: Record<string, unknown>) {
      for await (const { data, errors } of client.iterate<Data>({ query, variables })) {
        expect(errors).toBeUndefined();
        if (data) return data;
      }
      throw new Error('It completed without a result.');
    },
    watch(pollId) {
      const feed = new Feed();
      feed.stop = client.subscribe<Parameters<Feed['results']>[0]>(
        { query: WATCH, variables: { pollId } },
        {
          next: ({ data }) => feed.results(data),
          error: (error) => (Array.isArray(error) ? feed.errors(error) : feed.closed(codeOf(error))),
          complete: () => feed.complete(),
        },
      );
      return feed;
    },
    [Symbol.asyncDispose]: async () => client.dispose(),
  };
}

function codeOf(error: unknown): number {
  if (error instanceof Object && 'code' in error && typeof error.code === 'number') return error.code;
  throw error;
}
