/** urql: queries and mutations through its fetchExchange, subscriptions over graphql-ws or through its own fetch (SSE). */
import { createClient, fetchExchange, type OperationResult, subscriptionExchange } from '@urql/core';
import { createClient as createWebSocketClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createPoll, manage } from '../support/api.ts';
import { eventually, WATCH } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { type Client, createVoteAndWatch, Feed, type Open, watchNothing } from './journey.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

describe.each<[string, Open]>([
  ['over graphql-ws', overWebSocket],
  ['with fetchSubscriptions', overFetch],
])('urql %s', (_, open) => {
  test('L1 L2 L6 creates, votes and watches to the final results', () => createVoteAndWatch(open));

  test('L7 is told NOT_FOUND when it watches an unknown poll', () => watchNothing(open));

  test('L7 is told NOT_FOUND when the poll that it watches is deleted', async () => {
    const poll = await createPoll(server.graphql);
    await using client = open();
    const feed = client.watch(poll.id);
    await feed.next();
    await manage(server.graphql, 'deletePoll', poll);
    expect(await feed.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  });

  test('leaving a subscription takes it off the server', async () => {
    const poll = await createPoll(server.graphql);
    await using client = open();
    const feed = client.watch(poll.id);
    await feed.next();
    expect(server.app.connections().watching).toBe(1);
    feed.stop();
    await eventually(() => server.app.connections().watching === 0, 'nobody watches');
  });
});

function overWebSocket(authorization?: string): Client {
  const webSocket = createWebSocketClient({
    url: server.graphql.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    connectionParams: { authorization },
    retryAttempts: 0,
  });
  // As in urql's documentation, except `next`: its types need it with exactOptionalPropertyTypes.
  const exchange = subscriptionExchange({
    forwardSubscription: ({ query = '', variables }) => ({
      subscribe: (sink) => ({
        unsubscribe: webSocket.subscribe(
          { query, variables: { ...variables } },
          { ...sink, next: ({ data = null, errors }) => sink.next({ data, ...(errors && { errors }) }) },
        ),
      }),
    }),
  });
  return clientOf(
    createClient({
      url: server.graphql,
      exchanges: [fetchExchange, exchange],
      preferGetMethod: false,
      fetchOptions: { headers: authorization === undefined ? {} : { authorization } },
    }),
    () => webSocket.dispose(),
  );
}

function overFetch(authorization?: string): Client {
  return clientOf(
    createClient({
      url: server.graphql,
      exchanges: [fetchExchange],
      preferGetMethod: false,
      fetchSubscriptions: true,
      fetchOptions: { headers: authorization === undefined ? {} : { authorization } },
    }),
  );
}

function clientOf(urql: ReturnType<typeof createClient>, dispose: () => unknown = () => {}): Client {
  const feeds: Feed[] = [];
  return {
    async run<Data>(query: string, variables: Record<string, unknown>) {
      const isMutation = query.startsWith('mutation');
      const { data, error } = await (isMutation
        ? urql.mutation<Data>(query, variables)
        : urql.query<Data>(query, variables)
      ).toPromise();
      if (error) throw error;
      if (data === undefined) throw new Error('Neither data nor an error.');
      return data;
    },
    watch(pollId) {
      const feed = new Feed();
      const { unsubscribe } = urql
        .subscription<Parameters<Feed['results']>[0]>(WATCH, { pollId })
        .subscribe((result) => tell(feed, result));
      feed.stop = unsubscribe;
      feeds.push(feed);
      return feed;
    },
    async [Symbol.asyncDispose]() {
      for (const feed of feeds) feed.stop();
      await dispose();
    },
  };
}

/** With `hasNext` false, urql repeats the last result to say that nothing follows. */
function tell(feed: Feed, { data, error, hasNext }: OperationResult<Parameters<Feed['results']>[0]>): void {
  if (!hasNext) feed.complete();
  else if (error) feed.errors(error.graphQLErrors);
  else feed.results(data);
}
