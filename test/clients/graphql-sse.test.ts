/** The client of graphql-sse in distinct connections mode: one stream an operation. */
import { createClient } from 'graphql-sse';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPoll, manage } from '../support/api.ts';
import { eventually, WATCH } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { type Client, createVoteAndWatch, Feed, watchNothing } from './journey.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('L1 L2 L6 graphql-sse creates, votes and watches to the final results', () => createVoteAndWatch(open));

test('L7 graphql-sse is told NOT_FOUND when it watches an unknown poll', () => watchNothing(open));

test('L7 deleting a watched poll ends its streams with NOT_FOUND', async () => {
  const poll = await createPoll(server.graphql);
  await using client = open();
  const feed = client.watch(poll.id);
  await feed.next();
  await manage(server.graphql, 'deletePoll', poll);
  expect(await feed.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  expect(await feed.event()).toEqual({ type: 'complete' });
});

test('an operation that is not valid answers its errors as the one event of its stream', async () => {
  await using client = open();
  await expect(client.run('{ polls { nonsense } }', {})).rejects.toThrow('Cannot query field "nonsense"');
});

test('leaving a subscription takes it off the server', async () => {
  const poll = await createPoll(server.graphql);
  await using client = open();
  const feed = client.watch(poll.id);
  await feed.next();
  expect(server.app.connections()).toMatchObject({ watching: 1, streams: 1 });
  feed.stop();
  await eventually(() => server.app.connections().watching === 0, 'nobody watches');
  expect(server.app.connections().streams).toBe(0);
});

test('a server that stops ends its streams', async () => {
  await using stopping = await startServer();
  const poll = await createPoll(stopping.graphql);
  await using client = open(undefined, stopping);
  const feed = client.watch(poll.id);
  await feed.next();
  await stopping[Symbol.asyncDispose]();
  expect(await feed.event()).toEqual({ type: 'closed', code: 0 });
});

function open(authorization?: string, at: TestServer = server): Client {
  const client = createClient({
    singleConnection: false,
    url: at.graphql,
    headers: authorization === undefined ? {} : { authorization },
    retryAttempts: 0,
  });
  return {
    async run<Data>(query: string, variables: Record<string, unknown>) {
      for await (const { data, errors } of client.iterate<Data>({ query, variables })) {
        if (errors) throw new AggregateError(errors, errors.map(({ message }) => message).join(' '));
        if (data) return data;
      }
      throw new Error('It completed without a result.');
    },
    watch(pollId) {
      const feed = new Feed();
      feed.stop = client.subscribe<Parameters<Feed['results']>[0]>(
        { query: WATCH, variables: { pollId } },
        {
          next: ({ data, errors }) => (errors ? feed.errors(errors) : feed.results(data)),
          error: () => feed.closed(0),
          complete: () => feed.complete(),
        },
      );
      return feed;
    },
    [Symbol.asyncDispose]: async () => client.dispose(),
  };
}
