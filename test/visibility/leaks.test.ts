/**
 * L8 The leak matrix: visibility × status × kind × viewer × path. No tally may stand in any byte of an answer that its viewer may not
 * have; where it may, it has to stand there, so that the matrix cannot pass by answering nothing.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { ask, castVote, createPoll, manage, newVoter, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { JWT_SECRET, token } from '../support/tokens.ts';

const VISIBILITIES = ['ALWAYS', 'AFTER_VOTE', 'AFTER_CLOSE', 'ORGANIZERS'] as const;
const STATUSES = ['DRAFT', 'OPEN', 'CLOSED'] as const;
const KINDS = ['SINGLE', 'RANKED', 'RATING'] as const;
const VIEWERS = ['stranger', 'voter before', 'voter after', 'organizer', 'admin'] as const;
type Visibility = (typeof VISIBILITIES)[number];
type Status = (typeof STATUSES)[number];
type Viewer = (typeof VIEWERS)[number];

/** What the table of the design says, in words of its own. */
function maySee(visibility: Visibility, status: Status, viewer: Viewer): boolean {
  if (viewer === 'organizer' || viewer === 'admin') return true;
  if (status === 'DRAFT') return false;
  switch (visibility) {
    case 'ALWAYS':
      return true;
    case 'AFTER_VOTE':
      return viewer === 'voter after';
    case 'AFTER_CLOSE':
      return status === 'CLOSED';
    case 'ORGANIZERS':
      return false;
  }
}

/** Whatever a count of votes can look like in JSON, CSV or a message. */
const TALLY = /"votes":|"share":|"mean":|"median":|"histogram":\[|"rounds":\[|"winner":\{|^result,|tally/im;

let server: TestServer;
let adminToken: string;
beforeAll(async () => {
  server = await startServer({ JWT_SECRET, LIVE_INTERVAL_MS: '0' });
  adminToken = await token({ sub: 'root', role: 'admin' });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Scene extends TestPoll {
  readonly ballot: Record<string, unknown>;
  readonly otherBallot: Record<string, unknown>;
  readonly headers: Record<Viewer, Record<string, string>>;
}

async function set(visibility: Visibility, status: Status, kind: (typeof KINDS)[number]): Promise<Scene> {
  const { graphql } = server;
  const poll = await createPoll(graphql, {
    kind,
    choices: kind === 'RATING' ? null : ['A', 'B', 'C'],
    resultsVisibility: visibility,
    status: status === 'DRAFT' ? 'DRAFT' : 'OPEN',
  });
  const [a, b] = poll.choiceIds;
  const ballot = kind === 'RATING' ? { rating: 4 } : { choiceIds: kind === 'RANKED' ? [a, b] : [a] };
  const otherBallot = kind === 'RATING' ? { rating: 2 } : { choiceIds: [b] };
  const [before, after, third] = await Promise.all([newVoter(graphql), newVoter(graphql), newVoter(graphql)]);
  if (status !== 'DRAFT') {
    for (const [voter, what] of [[after, ballot] as const, [third, otherBallot] as const]) {
      const { __typename } = await castVote(graphql, { pollId: poll.id, ...what, voterToken: voter.voterToken });
      expect(__typename).toBe('CastVoteSuccess');
    }
  }
  if (status === 'CLOSED') await manage(graphql, 'closePoll', poll);
  return {
    ...poll,
    ballot,
    otherBallot,
    headers: {
      stranger: {},
      'voter before': { 'pollcast-voter': before.voterToken },
      'voter after': { 'pollcast-voter': after.voterToken },
      organizer: poll.manage,
      admin: { authorization: `Bearer ${adminToken}` },
    },
  };
}

const COUNTS = `pollId version status isFinal ballotCount tallies { choiceId label votes share }
  runoff { rounds { number tallies { choiceId votes share } eliminated { id } exhausted } winner { id } }
  rating { mean median histogram { value votes } }`;

/** Who asks what, and every byte of the answer, its headers too. */
type Path = (scene: Scene, headers: Record<string, string>) => Promise<string>;

async function bytes(response: Response): Promise<string> {
  return `${JSON.stringify([...response.headers])}\n${await response.text()}`;
}

const graphqlPost =
  (query: string, variables: (scene: Scene) => object = ({ id }) => ({ id })): Path =>
  async (scene, headers) =>
    bytes(
      await fetch(server.graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ query, variables: variables(scene) }),
      }),
    );

const get =
  (path: (scene: Scene) => string, more: Record<string, string> = {}): Path =>
  async (scene, headers) =>
    bytes(await fetch(`${server.url}${path(scene)}`, { headers: { ...more, ...headers } }));

/** An event stream up to its first event with data, or its end. */
const events =
  (path: (scene: Scene) => string, body?: (scene: Scene) => string): Path =>
  async (scene, headers) => {
    const abort = new AbortController();
    const response = await fetch(`${server.url}${path(scene)}`, {
      headers: { accept: 'text/event-stream', 'content-type': 'application/json', ...headers },
      signal: abort.signal,
      ...(body === undefined ? {} : { method: 'POST', body: body(scene) }),
    });
    let text = `${JSON.stringify([...response.headers])}\n`;
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const piece = await reader?.read();
      if (piece === undefined || piece.done) break;
      text += piece.value;
      if (/\ndata: \{.*\n\n/.test(text)) break;
    }
    abort.abort();
    return text;
  };

const socket =
  (query: string): Path =>
  (scene, { authorization, 'pollcast-voter': voterToken }) =>
    new Promise((resolve, reject) => {
      const webSocket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws');
      let text = '';
      webSocket.on('open', () =>
        webSocket.send(JSON.stringify({ type: 'connection_init', payload: { authorization, voterToken } })),
      );
      webSocket.on('error', reject);
      webSocket.on('message', (data) => {
        text += String(data);
        const { type }: { type: string } = JSON.parse(String(data));
        if (type === 'connection_ack') {
          webSocket.send(
            JSON.stringify({ id: '1', type: 'subscribe', payload: { query, variables: { id: scene.id } } }),
          );
        } else if (type === 'next' || type === 'error') {
          webSocket.terminate();
          resolve(text);
        }
      });
    });

const QUERY = `query ($id: ID!) { pollResults(pollId: $id) { ${COUNTS} } }`;
const WATCH = `subscription ($id: ID!) { pollResults(pollId: $id) { ${COUNTS} } }`;
const CHANGES = `subscription ($id: ID!) { pollChanged(pollId: $id) { id results { ${COUNTS} } } }`;
const OWN = `subscription ($id: ID!) { pollChanged(pollId: $id) { id viewerBallot { rating } results { ${COUNTS} } } }`;
const sse = (query: string) => (scene: Scene) => JSON.stringify({ query, variables: { id: scene.id } });

const PATHS: Record<string, Path> = {
  'query pollResults': graphqlPost(QUERY),
  'query poll.results': graphqlPost(`query ($id: ID!) { poll(id: $id) { id results { ${COUNTS} } } }`),
  'query beside other fields': graphqlPost(
    `query ($id: ID!) { __typename pollResults(pollId: $id) { ${COUNTS} } poll(id: $id) { viewerBallot { rating } } }`,
  ),
  'query over GET': get(
    ({ id }) => `/graphql?query=${encodeURIComponent(QUERY)}&variables=${encodeURIComponent(JSON.stringify({ id }))}`,
  ),
  'query as an event stream': events(() => '/graphql', sse(QUERY)),
  'query over WebSocket': socket(QUERY),
  'long polling in GraphQL': graphqlPost(
    `query ($id: ID!) { pollResults(pollId: $id, afterVersion: 0, waitMs: 1000) { ${COUNTS} } }`,
  ),
  WebSocket: socket(WATCH),
  'WebSocket, pollChanged': socket(CHANGES),
  'WebSocket, personal': socket(OWN),
  'GraphQL SSE': events(() => '/graphql', sse(WATCH)),
  'GraphQL SSE, pollChanged': events(() => '/graphql', sse(CHANGES)),
  'plain stream': events(({ id }) => `/polls/${id}/stream`),
  'plain polling': get(({ id }) => `/polls/${id}/results`),
  'plain long polling': get(({ id }) => `/polls/${id}/results?afterVersion=0&waitMs=1000`),
  'plain polling with a stale entity tag': get(({ id }) => `/polls/${id}/results`, { 'if-none-match': '"v0"' }),
};

/** Paths that answer no tallies to anybody but organizers, and those that answer them to nobody. */
const ORGANIZERS_ONLY: Record<string, Path> = {
  'export as CSV': get(({ id }) => `/polls/${id}/export.csv`),
  'export as JSON': get(({ id }) => `/polls/${id}/export.json`),
};
const NOBODY: Record<string, Path> = {
  'an entity tag that fits': async (scene, headers) => {
    const first = await fetch(`${server.url}/polls/${scene.id}/results`, { headers });
    await first.arrayBuffer();
    return get(({ id }) => `/polls/${id}/results`, { 'if-none-match': first.headers.get('etag') ?? '' })(
      scene,
      headers,
    );
  },
  'a ballot that is refused': graphqlPost(
    `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on Error { message } } }`,
    ({ id }) => ({ input: { pollId: id, choiceIds: ['nonsense'] } }),
  ),
  'management by whoever': graphqlPost(
    `mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename ... on Error { message } } }`,
    ({ id }) => ({ input: { pollId: id, minChoices: 77 } }),
  ),
  'an unknown field': graphqlPost('query ($id: ID!) { pollResults(pollId: $id) { secretTallies } }'),
  'the audience': graphqlPost('query ($id: ID!) { poll(id: $id) { question choices { id label } } }'),
};

let cells = 0;

describe.each(VISIBILITIES)('L8 results for %s', (visibility) => {
  describe.each(STATUSES)('in a poll that is %s', (status) => {
    test.each(KINDS)('%s: every viewer on every path', async (kind) => {
      const scene = await set(visibility, status, kind);
      const wrong: string[] = [];
      const look = async (name: string, path: Path, viewer: Viewer, sees: boolean): Promise<void> => {
        const text = await path(scene, scene.headers[viewer]);
        cells++;
        if (TALLY.test(text) !== sees) wrong.push(`${viewer}, ${name}: ${sees ? 'misses' : 'sees'} tallies: ${text}`);
      };
      await Promise.all(
        VIEWERS.flatMap((viewer) => [
          ...Object.entries(PATHS).map(([name, path]) => look(name, path, viewer, maySee(visibility, status, viewer))),
          ...Object.entries(ORGANIZERS_ONLY).map(([name, path]) =>
            look(name, path, viewer, viewer === 'organizer' || viewer === 'admin'),
          ),
          ...Object.entries(NOBODY).map(([name, path]) => look(name, path, viewer, false)),
        ]),
      );
      expect(wrong).toEqual([]);
    });
  });

  test.each(KINDS)('%s: what mutations answer', async (kind) => {
    const scene = await set(visibility, 'OPEN', kind);
    const cast = graphqlPost(
      `mutation ($input: CastVoteInput!) { castVote(input: $input) { ... on CastVoteSuccess { poll { results { ${COUNTS} } } } } }`,
      ({ id, ballot }) => ({ input: { pollId: id, ...ballot } }),
    );
    // Who votes has voted: the answer to the first vote shows it already.
    for (const viewer of VIEWERS) {
      const voted = viewer === 'organizer' || viewer === 'admin' ? viewer : 'voter after';
      expect(TALLY.test(await cast(scene, scene.headers[viewer])), viewer).toBe(maySee(visibility, 'OPEN', voted));
      cells++;
    }
    const closed = await ask<{ poll: unknown }>(
      server.graphql,
      `mutation ($id: ID!) { closePoll(input: { pollId: $id }) { ... on ClosePollSuccess { poll { results { ${COUNTS} } } } } }`,
      { id: scene.id },
      scene.manage,
    );
    expect(JSON.stringify(closed)).toMatch(TALLY);
    cells++;
  });
});

test('the matrix was whole', () => {
  const paths = Object.keys({ ...PATHS, ...ORGANIZERS_ONLY, ...NOBODY }).length;
  const whole = VISIBILITIES.length * KINDS.length * (STATUSES.length * VIEWERS.length * paths + VIEWERS.length + 1);
  console.log(`${cells} cells of the leak matrix`);
  expect(cells).toBe(whole);
});
