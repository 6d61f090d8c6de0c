/** The election: a poll, and each ballot cast by a voter of its own. */
import type { Api } from './api.ts';
import { readList, readNumber, readObject, readText } from './count-results.ts';
import { Failure } from './failure.ts';
import type { Profile, Ranking } from './read-ballots.ts';

export const VOTERS_AT_ONCE = 64;
export const QUESTION = 'Burlington mayoral election 2009';

export interface Election {
  readonly pollId: string;
  readonly joinCode: string;
  readonly organizerKey: string;
  /** In the order of the profile's names. */
  readonly choiceIds: readonly string[];
}

/** Makes the poll, open at once. Never sent twice: each time would make another poll. */
export async function openElection(api: Api, profile: Profile): Promise<Election> {
  const { createPoll } = await api.ask({
    query: `mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename
      ... on CreatePollSuccess { organizerKey poll { id joinCode choices { id } } }
      ... on Error { message } } }`,
    variables: { input: { question: QUESTION, description: profile.title, kind: 'RANKED', choices: profile.names } },
  });
  const { organizerKey, poll } = readSuccess('createPoll', createPoll);
  const { id, joinCode, choices } = readObject(poll);
  return {
    pollId: readText(id),
    joinCode: readText(joinCode),
    organizerKey: readText(organizerKey),
    choiceIds: readList(choices, (choice) => readText(readObject(choice).id)),
  };
}

/** Casts all ballots, in order, 64 under way at once. `onCast` is called after each that the server has acknowledged. */
export async function castAll(
  api: Api,
  election: Election,
  ballots: readonly Ranking[],
  onCast: () => void,
): Promise<void> {
  let next = 0;
  let failed = false;
  const voters = Array.from({ length: VOTERS_AT_ONCE }, async () => {
    try {
      for (let ballot = ballots[next++]; ballot !== undefined && !failed; ballot = ballots[next++]) {
        await vote(api, election, ballot);
        onCast();
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  });
  await Promise.all(voters);
}

/**
 * One voter, as a device does it: first the token, then the ballot with it. A ballot without a token would be a new voter
 * each time it is sent, so one whose answer was lost could not be sent again; with the token it is counted once however
 * often it is sent.
 */
async function vote(api: Api, election: Election, ranking: Ranking): Promise<void> {
  const { viewer } = await api.persist(() => api.ask({ query: '{ viewer { voterToken } }' }));
  const voterToken = readText(readObject(viewer).voterToken);
  const choiceIds = ranking.map((choice) => election.choiceIds[choice]);
  const variables = { input: { pollId: election.pollId, choiceIds, voterToken } };
  await api.persist(async () => readSuccess('castVote', (await api.ask({ query: CAST_VOTE, variables })).castVote));
}

const CAST_VOTE = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename
  ... on CastVoteSuccess { receipt { outcome } }
  ... on RateLimitedError { retryAfterMs }
  ... on Error { message } } }`;

/** Closes the poll for good; safe to repeat, a closed poll stays as it is. */
export async function closeElection(api: Api, election: Election): Promise<void> {
  await api.persist(async () => {
    const { closePoll } = await api.ask({
      query: `mutation ($input: PollIdInput!) { closePoll(input: $input) { __typename ... on Error { message } } }`,
      variables: { input: { pollId: election.pollId } },
      organizerKey: election.organizerKey,
    });
    readSuccess('closePoll', closePoll);
  });
}

/** The success of a `…Result` union; any of its errors as a Failure. */
function readSuccess(mutation: string, value: unknown): Record<string, unknown> {
  const result = readObject(value);
  const typename = readText(result.__typename);
  if (typename.endsWith('Success')) return result;
  const isLimit = typename === 'RateLimitedError';
  throw new Failure(`The server refuses ${mutation}: ${result.message} (${typename})`, {
    passes: isLimit,
    retryAfterMs: isLimit && result.retryAfterMs !== undefined ? readNumber(result.retryAfterMs) : 0,
  });
}
