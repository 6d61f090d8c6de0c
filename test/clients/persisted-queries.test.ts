/** Automatic persisted queries, with Apollo's own link and by hand. */
import { createHash } from 'node:crypto';
import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPoll, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('persisted queries', () => {
  let server: TestServer;
  let poll: TestPoll;
  beforeAll(async () => {
    server = await startServer();
    poll = await createPoll(server.graphql);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each([false, true])(
    'Apollo sends the hash, then the text once, then the hash alone (GET: %s)',
    async (byGet) => {
      const sent: boolean[] = [];
      const count = new ApolloLink((operation, forward) => {
        sent.push(operation.getContext().http?.includeQuery !== false);
        return forward(operation);
      });
      const ask = () => {
        const link = new PersistedQueryLink({ sha256, useGETForHashedQueries: byGet });
        const client = new ApolloClient({
          cache: new InMemoryCache(),
          link: ApolloLink.from([link, count, new HttpLink({ uri: server.graphql })]),
        });
        const query = gql`query Persisted${byGet ? 'Get' : 'Post'}($id: ID!) { poll(id: $id) { id question } }`;
        return client.query({ query, variables: { id: poll.id } });
      };
      const expected = { poll: { __typename: 'Poll', id: poll.id, question: 'Which?' } };
      expect((await ask()).data).toEqual(expected);
      expect((await ask()).data).toEqual(expected);
      expect(sent).toEqual([false, true, false]);
    },
  );

  const post = async (body: object, accept = 'application/json') => {
    const response = await fetch(server.graphql, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  };
  const extensions = (hash: string) => ({ persistedQuery: { version: 1, sha256Hash: hash } });

  test('an unknown hash is told apart by its code', async () => {
    const body = { extensions: extensions(sha256('never sent')) };
    const errors = [{ message: 'PersistedQueryNotFound', extensions: { code: 'PERSISTED_QUERY_NOT_FOUND' } }];
    expect(await post(body)).toEqual({ status: 200, body: { errors } });
    expect(await post(body, 'application/graphql-response+json')).toEqual({ status: 400, body: { errors } });
  });

  test('a hash of another text is refused and not kept', async () => {
    const hash = sha256('{ viewer { isOrganizer } }');
    const wrong = await post({ query: '{ __typename }', extensions: extensions(hash) });
    expect(wrong.body).toMatchObject({ errors: [{ extensions: { code: 'PERSISTED_QUERY_HASH_MISMATCH' } }] });
    const later = await post({ extensions: extensions(hash) });
    expect(later.body).toMatchObject({ errors: [{ extensions: { code: 'PERSISTED_QUERY_NOT_FOUND' } }] });
  });

  test('a kept document with wrong variables gets the same error as its text', async () => {
    const query = 'query ($id: ID!) { poll(id: $id) { id } }';
    const first = await post({ query, extensions: extensions(sha256(query)) });
    expect(await post({ extensions: extensions(sha256(query)) })).toEqual(first);
    expect(first.body).toMatchObject({ errors: [{ message: expect.stringContaining('"$id"') }] });
    const search = new URLSearchParams({ extensions: JSON.stringify(extensions(sha256(query))), variables: '{}' });
    const byGet = await fetch(`${server.graphql}?${search}`, { headers: { accept: 'application/json' } });
    expect(await byGet.json()).toEqual(first.body);
  });

  test('a kept mutation does not run by GET', async () => {
    const query = `mutation { deletePoll(input: { pollId: "${poll.id}" }) { __typename } }`;
    await post({ query, extensions: extensions(sha256(query)) });
    const search = new URLSearchParams({ extensions: JSON.stringify(extensions(sha256(query))) });
    const response = await fetch(`${server.graphql}?${search}`, { headers: { ...poll.manage } });
    expect(response.status).toBe(405);
    await response.body?.cancel();
    expect((await post({ query: `{ poll(id: "${poll.id}") { id } }` })).body).toEqual({
      data: { poll: { id: poll.id } },
    });
  });
});
