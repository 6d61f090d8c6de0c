/** The operations that GraphiQL opens with: create a poll, vote, watch. */
const FIELDS = 'version ballotCount isFinal tallies { label votes share }';

export const EXAMPLES = [
  {
    query: `# 1. Create a poll. Copy its id (and a choice's id) into the next tabs.
mutation CreatePoll($input: CreatePollInput!) {
  createPoll(input: $input) {
    ... on CreatePollSuccess {
      organizerKey
      poll { id joinCode choices { id label } }
    }
    ... on Error { message }
  }
}`,
    variables: JSON.stringify({ input: { question: 'Tabs or spaces?', choices: ['Tabs', 'Spaces'] } }, null, 2),
  },
  {
    query: `# 2. Watch it. Leave this running while you vote in the next tab.
subscription Watch($pollId: ID!) {
  pollResults(pollId: $pollId) { ${FIELDS} }
}`,
    variables: JSON.stringify({ pollId: 'the id of your poll' }, null, 2),
  },
  {
    query: `# 3. Vote. Your browser keeps the voter token: a second vote is UNCHANGED or refused.
mutation Vote($input: CastVoteInput!) {
  castVote(input: $input) {
    ... on CastVoteSuccess { receipt { outcome version } }
    ... on Error { __typename message }
  }
}`,
    variables: JSON.stringify({ input: { pollId: 'the id of your poll', choiceIds: ['the id of a choice'] } }, null, 2),
  },
];
