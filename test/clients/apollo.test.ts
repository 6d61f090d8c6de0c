/** Apollo Client 4: HttpLink for queries and mutations, GraphQLWsLink for subscriptions, InMemoryCache. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, gql, HttpLink, InMemoryCache } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { buildSchema, isAbstractType, OperationTypeNode } from 'graphql';
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { createPoll, manage } from '../support/api.ts';
import { eventually, Inbox, WATCH } from '../support/peers.ts';
import { ROOT, startServer, type TestServer } from '../support/server.ts';
import {
  type Asked,
  type Client,
  CREATE,
  type Created,
  createVoteAndWatch,
  Feed,
  POLL,
  VOTE,
  type Voted,
  watchNothing,
} from './journey.ts';

let server: TestServer;
beforeAll(async () => {
  // Apollo needs this browser global to tell errors apart. Node has it from 22 on.
  vi.stubGlobal('WebSocket', WebSocket);
  server = await startServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  vi.unstubAllGlobals();
});

test('L1 L2 L6 Apollo Client creates, votes and watches to the final results', () => createVoteAndWatch(open));

describe('over multipart HTTP, with HttpLink alone', () => {
  const openMultipart = (authorization?: string) => open(authorization, true);

  test('L1 L2 L6 Apollo Client creates, votes and watches to the final results', () =>
    createVoteAndWatch(openMultipart));

  test('L7 Apollo Client gets NOT_FOUND for an unknown poll', () => watchNothing(openMultipart));

  test('the stream has heartbeats, and ends with an error of the transport when the server stops', async () => {
    await using own = await startServer({}, { livenessRoundMs: 200 });
    const poll = await createPoll(own.graphql);
    const response = await fetch(own.graphql, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json',
      },
      body: JSON.stringify({ query: `subscription { pollResults(pollId: "${poll.id}") { version } }` }),
    });
    expect(response.headers.get('content-type')).toBe('multipart/mixed; boundary="graphql"; subscriptionSpec=1.0');
    let text = '';
    const read = (async () => {
      for await (const piece of response.body ?? []) text += Buffer.from(piece).toString();
    })();
    await eventually(() => text.includes('\r\n\r\n{}\r\n--graphql'), 'a heartbeat comes');
    expect(text.startsWith('\r\n--graphql\r\ncontent-type: application/json\r\n\r\n{"payload":{"data":')).toBe(true);
    await own.app.stop();
    await read;
    expect(text).toMatch(/\{"payload":null,"errors":\[\{"message":"The server is shutting down.*\r\n--graphql--\r\n$/);
  });
});

test('L7 Apollo Client is told NOT_FOUND when it watches an unknown poll', () => watchNothing(open));

test('L7 Apollo Client is told NOT_FOUND when the poll that it watches is deleted', async () => {
  const poll = await createPoll(server.graphql);
  await using client = open();
  const feed = client.watch(poll.id);
  await feed.next();
  await manage(server.graphql, 'deletePoll', poll);
  expect(await feed.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
  await eventually(() => server.app.connections().watching === 0, 'nobody watches');
});

test('polls and choices are normalised by id, and a subscription moves a query that is on the screen', async () => {
  await using client = open();
  const { apollo } = client;
  const { createPoll: created } = await client.run<Created>(CREATE, {
    input: { question: 'Tea or coffee?', choices: ['Tea', 'Coffee'] },
  });
  if (created.__typename !== 'CreatePollSuccess') throw new Error(created.message);
  const { id, choices } = created.poll;
  expect(apollo.cache.extract()).toMatchObject({
    [`Poll:${id}`]: { choices: choices.map((choice) => ({ __ref: `Choice:${choice.id}` })) },
    [`Choice:${choices[0]?.id}`]: { label: 'Tea' },
    [`Choice:${choices[1]?.id}`]: { label: 'Coffee' },
  });

  const screen = new Inbox<number>();
  const watched = apollo.watchQuery<Asked>({ query: gql(POLL), variables: { id } }).subscribe(({ data }) => {
    if (data?.poll?.results?.ballotCount !== undefined) screen.push(data.poll.results.ballotCount);
  });
  expect(await screen.next()).toBe(0);
  const feed = client.watch(id);
  await feed.next();

  const ballot = { input: { pollId: id, choiceIds: [choices[1]?.id] } };
  await using somebodyElse = open();
  await somebodyElse.run<Voted>(VOTE, ballot);
  expect(await feed.next()).toMatchObject({ ballotCount: 1 });
  expect(await screen.next()).toBe(1);

  // The poll in the payload of one's own vote also updates the cache.
  feed.stop();
  await client.run<Voted>(VOTE, ballot);
  expect(await screen.next()).toBe(2);
  watched.unsubscribe();
});

/** `multipart`: HttpLink alone, which subscribes over multipart HTTP. */
function open(authorization?: string, multipart = false): Client & { readonly apollo: ApolloClient } {
  const webSocket = createClient({
    url: server.graphql.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    connectionParams: { authorization },
    retryAttempts: 0,
  });
  const http = new HttpLink({ uri: server.graphql, headers: authorization === undefined ? {} : { authorization } });
  const apollo = new ApolloClient({
    cache: new InMemoryCache({
      possibleTypes: possibleTypes(),
      typePolicies: { PollResults: { keyFields: ['pollId'] } },
    }),
    link: multipart
      ? http
      : ApolloLink.split(
          ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
          new GraphQLWsLink(webSocket),
          http,
        ),
  });
  return {
    apollo,
    async run<Data>(query: string, variables: Record<string, unknown>) {
      const document = gql(query);
      const { data } = query.startsWith('mutation')
        ? await apollo.mutate<Data>({ mutation: document, variables })
        : await apollo.query<Data>({ query: document, variables, fetchPolicy: 'network-only' });
      if (data === undefined) throw new Error('Neither data nor an error.');
      return data;
    },
    watch(pollId) {
      const feed = new Feed();
      const subscription = apollo
        .subscribe<NonNullable<Parameters<Feed['results']>[0]>>({ query: gql(WATCH), variables: { pollId } })
        .subscribe({
          next: ({ data, error }) => {
            if (CombinedGraphQLErrors.is(error)) feed.errors(error.errors);
            else if (error) feed.closed(0);
            else feed.results(data);
          },
          complete: () => feed.complete(),
        });
      feed.stop = () => subscription.unsubscribe();
      return feed;
    },
    async [Symbol.asyncDispose]() {
      apollo.stop();
      await webSocket.dispose();
    },
  };
}

/** Apollo needs the possible types of each interface and union, as its documentation says. */
function possibleTypes(): Record<string, string[]> {
  const schema = buildSchema(readFileSync(join(ROOT, 'schema.graphql'), 'utf8'));
  const types = Object.values(schema.getTypeMap()).filter(isAbstractType);
  return Object.fromEntries(types.map((type) => [type.name, schema.getPossibleTypes(type).map(({ name }) => name)]));
}
