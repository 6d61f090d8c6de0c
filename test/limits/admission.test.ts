/** Rules A1 to A4: what a request costs its address is the same on every transport. */
import { describe, expect, test } from 'vitest';
import { castVote, createPoll, results } from '../support/api.ts';
import { overEvents, overWebSocket } from '../support/peers.ts';
import { startServer } from '../support/server.ts';

const QUERY = 'query ($id: ID!) { poll(id: $id) { id } }';
const COST = 2;
const JSON_TYPE = { 'content-type': 'application/json' };

/** What a request was answered: its first error's message. */
type Send = (graphql: string, query: string, variables: object) => Promise<string | undefined>;

const firstError = async (response: Response): Promise<string | undefined> => {
  const answer: { errors?: { message: string }[] } = JSON.parse(await response.text());
  return answer.errors?.[0]?.message;
};
const post =
  (headers: object): Send =>
  async (graphql, query, variables) =>
    firstError(
      await fetch(graphql, {
        method: 'POST',
        headers: { ...JSON_TYPE, ...headers },
        body: JSON.stringify({ query, variables }),
      }),
    );
const overSocket =
  (connect: typeof overWebSocket): Send =>
  async (graphql, query, variables) => {
    await using peer = await connect(graphql, variables as never, query);
    const event = await peer.event();
    // A stream that is refused ends with status 429 and no event.
    return event.type === 'errors' ? event.errors[0]?.message : event.type;
  };

const WAYS: [string, Send][] = [
  ['POST', post({})],
  ['POST that accepts graphql-response', post({ accept: 'application/graphql-response+json' })],
  [
    'GET',
    async (graphql, query, variables) =>
      firstError(await fetch(`${graphql}?${new URLSearchParams({ query, variables: JSON.stringify(variables) })}`)),
  ],
  ['event stream', overSocket(overEvents)],
  ['WebSocket', overSocket(overWebSocket)],
];

describe.each(WAYS)('admission over %s', (_, send) => {
  test('A1 A4 an operation is charged its cost once, also if its variables are wrong', async () => {
    await using server = await startServer({ OPERATION_COST_LIMIT: String(2 * COST) });
    const answers = await Promise.all([1, 2, 3].map(() => send(server.graphql, QUERY, {})));
    const limited = answers.filter((message) => /limit|Too many|closed/i.test(message ?? ''));
    expect(answers.filter((message) => /"\$id"/.test(message ?? ''))).toHaveLength(2);
    expect(limited).toHaveLength(1);
  });

  test('A2 A4 a waiting query with wrong variables takes one place at most', async () => {
    await using server = await startServer({ CONNECTION_LIMIT: '1' });
    const query = 'query ($id: ID!) { pollResults(pollId: $id, afterVersion: 1, waitMs: 1000) { version } }';
    expect(await send(server.graphql, query, {})).toMatch(/"\$id"/);
  });
});

test('A3 a vote that is refused has run nothing', async () => {
  await using server = await startServer({ VOTE_RATE_LIMIT: '2' });
  const poll = await createPoll(server.graphql);
  const vote = () => castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
  const answers = await Promise.all(Array.from({ length: 12 }, vote));
  const recorded = answers.filter(({ __typename }) => __typename === 'CastVoteSuccess').length;
  expect(answers.some(({ __typename }) => __typename === 'RateLimitedError')).toBe(true);
  expect((await results(server.graphql, poll.id)).ballotCount).toBe(recorded);
});
