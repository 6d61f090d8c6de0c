/** The contract over plain HTTP, for tests that are not about transports. */
import { expect } from 'vitest';

export interface Answer {
  readonly data?: Record<string, unknown> | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: Record<string, unknown> }[];
}

export async function operate(
  graphql: string,
  query: string,
  variables: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(graphql, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query, variables }),
  });
  const answer: Answer = await response.json();
  return answer;
}

/** The only field of the response. Fails the test on GraphQL errors. */
export async function ask<T = Record<string, never>>(
  graphql: string,
  query: string,
  variables: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<T> {
  const answer = await operate(graphql, query, variables, headers);
  expect(answer.errors, JSON.stringify(answer.errors)).toBeUndefined();
  const [value] = Object.values(answer.data ?? {});
  return value as T;
}

export interface TestPoll {
  readonly id: string;
  readonly organizerKey: string;
  readonly choiceIds: string[];
  readonly manage: { readonly authorization: string };
}

export async function createPoll(graphql: string, input: Record<string, unknown> = {}): Promise<TestPoll> {
  const result = await ask<{
    __typename: string;
    message?: string;
    organizerKey: string;
    poll: { id: string; choices: { id: string }[] };
  }>(
    graphql,
    `mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename
      ... on CreatePollSuccess { organizerKey poll { id choices { id } } } ... on Error { message } } }`,
    { input: { question: 'Which?', choices: ['A', 'B', 'C', 'D'], ...input } },
  );
  expect(result.__typename, result.message).toBe('CreatePollSuccess');
  return {
    id: result.poll.id,
    organizerKey: result.organizerKey,
    choiceIds: result.poll.choices.map((choice) => choice.id),
    manage: { authorization: `Bearer ${result.organizerKey}` },
  };
}

export interface VoteAnswer {
  readonly __typename: string;
  readonly message?: string;
  readonly voterToken: string | null;
  readonly receipt: {
    readonly id: string;
    readonly outcome: string;
    readonly version: number;
    readonly castAt: string;
  };
}

export function castVote(
  graphql: string,
  input: Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<VoteAnswer> {
  return ask<VoteAnswer>(
    graphql,
    `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename
      ... on CastVoteSuccess { voterToken receipt { id outcome version castAt } } ... on Error { message } } }`,
    { input },
    headers,
  );
}

export function newVoter(graphql: string): Promise<{ voterToken: string }> {
  return ask(graphql, '{ viewer { voterToken } }');
}

/** A management mutation by name, such as `closePoll`. */
export function manage(
  graphql: string,
  name: string,
  poll: TestPoll,
): Promise<{ __typename: string; message?: string }> {
  return ask(
    graphql,
    `mutation ($input: PollIdInput!) { ${name}(input: $input) { __typename ... on Error { message } } }`,
    { input: { pollId: poll.id } },
    poll.manage,
  );
}

export const RESULTS = 'pollId version status isFinal ballotCount tallies { choiceId label votes share } updatedAt';

export interface ResultsAnswer {
  readonly pollId: string;
  readonly version: number;
  readonly status: string;
  readonly isFinal: boolean;
  readonly ballotCount: number;
  readonly tallies: { readonly choiceId: string; readonly label: string; readonly votes: number }[];
}

export function results(graphql: string, pollId: string): Promise<ResultsAnswer> {
  return ask(graphql, `query ($id: ID!) { pollResults(pollId: $id) { ${RESULTS} } }`, { id: pollId });
}
