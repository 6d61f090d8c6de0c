// The GraphQL texts that every server gets, Pollcast and peers alike.
const TALLY = '{ choiceId label votes share }';
const CHOICE = '{ id label position }';

/** Every field of `PollResults`, nothing left out. */
const RESULTS = `{
  pollId version status isFinal ballotCount tallies ${TALLY}
  runoff { rounds { number tallies ${TALLY} eliminated ${CHOICE} exhausted } winner ${CHOICE} }
  rating { mean median histogram { value votes } }
  updatedAt
}`;

export const WATCH = `subscription Watch($pollId: ID!) { pollResults(pollId: $pollId) ${RESULTS} }`;

export const VOTE = `mutation Vote($input: CastVoteInput!) {
  castVote(input: $input) {
    __typename
    ... on CastVoteSuccess { receipt { id pollId outcome version castAt } voterToken }
    ... on Error { message }
  }
}`;

export const watchPayload = (pollId) => ({ query: WATCH, operationName: 'Watch', variables: { pollId } });

/** A vote without token and cookie: the server meets a new voter every time. */
export const votePayload = (pollId, choiceIds) => ({
  query: VOTE,
  operationName: 'Vote',
  variables: { input: { pollId, choiceIds } },
});
