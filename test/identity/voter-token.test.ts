/** A voter token that the server has not signed is an error everywhere, not a new voter. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { castVote, createPoll, newVoter, operate, results, type TestPoll } from '../support/api.ts';
import { overEvents, overWebSocket } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

const MESSAGE = 'voterToken: not a token that this server has signed.';
const VOTE = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on Error { message }
  ... on CastVoteSuccess { voterToken } } }`;

describe('an unsigned voter token', () => {
  let server: TestServer;
  let poll: TestPoll;
  let good: string;
  beforeAll(async () => {
    server = await startServer();
    poll = await createPoll(server.graphql);
    good = (await newVoter(server.graphql)).voterToken;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const unsigned = (): [string, string][] => [
    ['garbage', 'garbage'],
    ['a signature of nobody', `v1.${'A'.repeat(22)}.${'B'.repeat(22)}`],
    ['a good token twice', `${good}, ${good}`],
    ['a good token with a letter more', `${good}x`],
  ];

  test('in a header is an error of queries, mutations and plain results', async () => {
    for (const [name, token] of unsigned()) {
      const headers = { 'pollcast-voter': token };
      const viewer = await operate(server.graphql, '{ viewer { voterToken } }', {}, headers);
      expect(viewer.errors?.[0], name).toMatchObject({ message: MESSAGE, extensions: { code: 'INVALID_INPUT' } });
      expect(viewer.data ?? null).toBeNull();
      const vote = await operate(
        server.graphql,
        VOTE,
        { input: { pollId: poll.id, choiceIds: [poll.choiceIds[0]] } },
        headers,
      );
      expect(vote, name).toEqual({ data: { castVote: { __typename: 'InvalidInputError', message: MESSAGE } } });
      const plain = await fetch(`${server.url}/polls/${poll.id}/results`, { headers });
      expect(plain.status).toBe(400);
      expect(await plain.text()).toContain(MESSAGE);
    }
    expect((await results(server.graphql, poll.id)).ballotCount).toBe(0);
  });

  test('is an error of subscriptions over WebSocket and event streams', async () => {
    for (const connect of [overWebSocket, overEvents]) {
      await using peer = await connect(server.graphql, { pollId: poll.id }, undefined, { 'pollcast-voter': 'garbage' });
      expect(await peer.event()).toMatchObject({ type: 'errors', errors: [{ message: MESSAGE }] });
    }
  });

  test('does not fall back to a good cookie', async () => {
    const headers = { 'pollcast-voter': 'garbage', cookie: `pollcast_voter=${good}` };
    const answer = await operate(server.graphql, '{ viewer { voterToken } }', {}, headers);
    expect(answer.errors?.[0]?.message).toBe(MESSAGE);
  });

  test('in a cookie is replaced: the browser could not mend it', async () => {
    const answer = await operate(server.graphql, '{ viewer { voterToken } }', {}, { cookie: 'pollcast_voter=garbage' });
    expect(answer).toEqual({ data: { viewer: { voterToken: expect.stringMatching(/^v1\./) } } });
  });

  test('that is empty counts as none', async () => {
    const answer = await operate(server.graphql, '{ viewer { voterToken } }', {}, { 'pollcast-voter': '' });
    expect(answer).toEqual({ data: { viewer: { voterToken: expect.stringMatching(/^v1\./) } } });
  });

  test('castVotes: a voterId is compared in normal form, and must show something', async () => {
    const ballot = (voterId: string) => ({ voterId, choiceIds: [poll.choiceIds[1]] });
    const answer = await operate(
      server.graphql,
      `mutation ($input: CastVotesInput!) { castVotes(input: $input) { ... on CastVotesSuccess {
        recorded unchanged rejected { index message } } } }`,
      {
        input: {
          pollId: poll.id,
          ballots: ['Zoë', 'Zoe\u0308', ' ', '\ud800', '\udc00', 'a\u0000', 'x'.repeat(201)].map(ballot),
        },
      },
      poll.manage,
    );
    expect(answer.data?.castVotes).toEqual({
      recorded: 1,
      unchanged: 1,
      rejected: [
        { index: 2, message: 'voterId: must not be empty.' },
        { index: 3, message: 'voterId: holds half a character (a lone surrogate).' },
        { index: 4, message: 'voterId: holds half a character (a lone surrogate).' },
        { index: 5, message: 'voterId: holds the control character U+0000.' },
        { index: 6, message: 'voterId: 201 characters, at most 200.' },
      ],
    });
    expect(await castVote(server.graphql, { pollId: poll.id, choiceIds: [] })).toMatchObject({
      __typename: 'InvalidBallotError',
    });
  });

  test('a join code is understood as people paste it', async () => {
    const answer = await operate(server.graphql, 'query ($id: ID!) { poll(id: $id) { joinCode } }', { id: poll.id });
    const joinCode = /"joinCode":"(\w+)"/.exec(JSON.stringify(answer))?.[1] ?? '';
    for (const typed of [
      `${joinCode.slice(0, 3)}-${joinCode.slice(3)}`,
      `\u200e${joinCode.toLowerCase()}\u200b`,
      ` ${joinCode.slice(0, 2)} ${joinCode.slice(2)}`,
    ]) {
      const found = await operate(server.graphql, 'query ($code: String!) { poll(joinCode: $code) { id } }', {
        code: typed,
      });
      expect(found.data).toEqual({ poll: { id: poll.id } });
    }
  });
});
