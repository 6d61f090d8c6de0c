// The one poll that every peer serves, kept in memory. The work of a vote is what Pollcast does before its
// database: check the ballot, derive the voter key, look for an earlier ballot, count, sign the voter's token.
import { createHmac, randomUUID } from 'node:crypto';

/** Ids of the same length as Pollcast makes them, so that all updates are about as long. */
export const POLL_ID = 'p7me2m9fl5ik31re';
export const CHOICES = ['Tabs', 'Spaces', 'Both of them', 'Neither'].map((label, position) => ({
  id: `${POLL_ID}.${position + 1}`,
  label,
  position,
}));

const SECRET = Buffer.from('a secret for the bench, 32 bytes');
const votes = new Map(CHOICES.map((choice) => [choice.id, 0]));
const ballots = new Map();
let version = 0;
let updatedAt = new Date().toISOString();

const hmac = (text) => createHmac('sha256', SECRET).update(text).digest('base64url');

/** The whole counted state, all fields of `PollResults`. */
export function results() {
  const ballotCount = ballots.size;
  return {
    pollId: POLL_ID,
    version,
    status: 'OPEN',
    isFinal: false,
    ballotCount,
    tallies: CHOICES.map(({ id, label }) => {
      const count = votes.get(id);
      return { choiceId: id, label, votes: count, share: ballotCount === 0 ? 0 : count / ballotCount };
    }),
    runoff: null,
    rating: null,
    updatedAt,
  };
}

/** One vote, answered as the `CastVoteResult` union. No token: a new voter. */
export function castVote({ pollId, choiceIds, voterToken }) {
  if (pollId !== POLL_ID) return refuse('NotFoundError', 'There is no such poll.');
  if (choiceIds?.length !== 1 || !votes.has(choiceIds[0]))
    return refuse('InvalidBallotError', 'Choose one of the choices.');

  const voter = voterToken === undefined || voterToken === null ? randomUUID() : verify(voterToken);
  if (voter === null) return refuse('NotAllowedError', 'The voter token is not one of ours.');
  const voterKey = hmac(`${voter}:${pollId}`);
  if (ballots.has(voterKey)) return refuse('AlreadyVotedError', 'This voter has voted.');

  updatedAt = new Date().toISOString();
  version += 1;
  ballots.set(voterKey, choiceIds);
  votes.set(choiceIds[0], votes.get(choiceIds[0]) + 1);
  return {
    __typename: 'CastVoteSuccess',
    receipt: { id: voterKey, pollId, outcome: 'RECORDED', version, castAt: updatedAt },
    voterToken: `${voter}.${hmac(voter)}`,
  };
}

const refuse = (__typename, message) => ({ __typename, message });

function verify(token) {
  const [voter, signature] = token.split('.');
  return signature === hmac(voter) ? voter : null;
}
