// Pollcast as `npm start` starts it: built, with its flag for V8, configured by the environment alone.
import { fileURLToPath } from 'node:url';
import { startServer } from './processes.mjs';
import { discard, scratch } from './scratch.mjs';

export const ENTRY = process.env.POLLCAST_ENTRY ?? fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** `databaseUrl` absent: the embedded database in a folder of its own. `interval` is LIVE_INTERVAL_MS. */
export async function startPollcast({ name = 'pollcast', entry = ENTRY, databaseUrl, interval, profile, env = {} }) {
  const folder = scratch('data');
  const store = databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl };
  const server = await startServer({
    name,
    script: entry,
    nodeFlags: (process.env.POLLCAST_FLAGS ?? '--max-semi-space-size=32').split(' '),
    profile,
    env: {
      DATA_DIR: folder,
      SECRET: 'a secret for the bench, at least thirty-two bytes of it',
      VOTE_RATE_LIMIT: '0',
      POLL_CREATION_LIMIT: '0',
      CONNECTION_LIMIT: '0',
      OPERATION_COST_LIMIT: '0',
      LIVE_INTERVAL_MS: String(interval),
      LOG_LEVEL: 'info',
      DRAIN_MS: '0',
      ...store,
      ...env,
    },
  });
  return {
    ...server,
    createPoll: (input) => createPoll(server.port, input),
    castVotes: (poll, ballots) => castVotes(server.port, poll, ballots),
    async stop() {
      await server.stop();
      discard(folder);
    },
  };
}

const CREATE = `mutation Create($input: CreatePollInput!) {
  createPoll(input: $input) {
    __typename
    ... on CreatePollSuccess { organizerKey poll { id choices { id } } }
    ... on Error { message }
  }
}`;

const LABELS = ['Tabs', 'Spaces', 'Both of them', 'Neither'];

async function createPoll(port, { question = 'Tabs or spaces?', kind = 'SINGLE', choices = LABELS, ...more } = {}) {
  const { createPoll: made } = await ask(port, CREATE, { input: { question, kind, choices, ...more } });
  if (made.poll === undefined) throw new Error(`createPoll: ${JSON.stringify(made)}`);
  return { id: made.poll.id, choices: made.poll.choices.map((choice) => choice.id), organizerKey: made.organizerKey };
}

const CAST_MANY = `mutation CastMany($input: CastVotesInput!) {
  castVotes(input: $input) {
    __typename
    ... on CastVotesSuccess { recorded rejected { index message } }
    ... on Error { message }
  }
}`;

/** At most 1 000 ballots of named voters in one call. */
async function castVotes(port, poll, ballots) {
  const { castVotes: outcome } = await ask(port, CAST_MANY, { input: { pollId: poll.id, ballots } }, poll.organizerKey);
  if (outcome.recorded !== ballots.length) throw new Error(`castVotes: ${JSON.stringify(outcome).slice(0, 500)}`);
}

async function ask(port, query, variables, bearer) {
  const headers = { 'content-type': 'application/json', accept: 'application/json' };
  if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`;
  const response = await fetch(`http://127.0.0.1:${port}/graphql`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors !== undefined) throw new Error(`${response.status}: ${JSON.stringify(errors)}`);
  return data;
}
