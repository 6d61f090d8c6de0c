/** Attacks by what is asked: documents and variables made to cost much. Each is refused, named, and costs nobody else anything. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Answer, castVote, manage, operate, results } from '../support/api.ts';
import { startVictim, type Victim } from '../support/victim.ts';

let victim: Victim;
beforeAll(async () => {
  victim = await startVictim();
});
afterAll(() => victim[Symbol.asyncDispose]());

const repeat = (count: number, make: (n: number) => string): string =>
  Array.from({ length: count }, (_, n) => make(n)).join(' ');

/** Each fragment spreads the next one ten times. */
const fragmentBomb = (levels: number): string =>
  `{ ...F0 } ${repeat(levels, (n) => `fragment F${n} on Query { ${repeat(10, () => `...F${n + 1}`)} }`)} fragment F${levels} on Query { viewer { isOrganizer } }`;

/** Fields of one name that validation compares with each other, pair by pair. */
const mergeBomb = `{ ${repeat(600, () => 'viewer { isOrganizer }').slice(0, 14_000)} }`;

const DOCUMENTS: [string, () => string, RegExp][] = [
  ['an alias bomb', () => `{ ${repeat(1_200, (n) => `a${n}: __typename`)} }`, /2000 tokens/],
  [
    'an alias bomb below the token limit',
    () => `{ ...F ...F ...F } fragment F on Query { ${repeat(180, (n) => `a${n}: viewer { isOrganizer }`)} }`,
    /1080 fields, at most 1000/,
  ],
  ['a fragment bomb of 10^60', () => fragmentBomb(60), /fields, at most 1000/],
  [
    'a circle of fragments',
    () => '{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }',
    /Cannot spread fragment/,
  ],
  [
    'a fragment that spreads itself',
    () => `{ ...A } fragment A on Query { ${repeat(300, () => '...A')} }`,
    /Cannot spread fragment/,
  ],
  ['deep nesting', () => `{ ${'poll { results { '.repeat(100)} id ${'} '.repeat(200)}}`, /levels deep, at most 12/],
  [
    'deep nesting in fragments',
    () =>
      `{ ...F0 } ${repeat(20, (n) => `fragment F${n} on Poll { results { ...F${n + 1} } }`)} fragment F20 on Poll { id }`,
    /levels deep, at most 12/,
  ],
  [
    'deep introspection',
    () => `{ __schema { types { ${'fields { type { '.repeat(30)} name ${'} } '.repeat(30)} } } }`,
    /introspection depth/i,
  ],
  [
    'a hundred looks at the schema',
    () =>
      `{ ${repeat(100, (n) => `a${n}: __schema { ...S }`)} } fragment S on __Schema { types { name fields { name args { name } } } }`,
    /20000 fields, at most 1000/,
  ],
  [
    'fifty mutations',
    () => `mutation { ${repeat(50, (n) => `m${n}: castVote(input: { pollId: "x" }) { __typename }`)} }`,
    /50 mutations, at most 10/,
  ],
  [
    'mutations in fragments',
    () =>
      `mutation { ...M ...M2 } fragment M on Mutation { ${repeat(20, (n) => `m${n}: castVote(input: { pollId: "x" }) { __typename }`)} } fragment M2 on Mutation { __typename }`,
    /mutations, at most 10/,
  ],
  [
    'a directive bomb',
    () => `{ viewer ${repeat(700, () => '@a')} { isOrganizer } }`,
    /Unknown directive|not.*known|@a/,
  ],
  ['a bomb of equal fields', () => mergeBomb, /tokens|fields, at most/],
  [
    'a list nested a thousand times',
    () => `{ poll(id: ${'['.repeat(900)}${']'.repeat(900)}) { id } }`,
    /cannot represent|depth|tokens/i,
  ],
  [
    'five hundred operations',
    () => repeat(390, (n) => `query Q${n} { __typename }`),
    /Could not determine what operation|Must provide operation name/,
  ],
  ['a string of 900 KB', () => `{ poll(joinCode: "${'x'.repeat(900_000)}") { id } }`, /^$/],
  ['a comment of 900 KB', () => `# ${'x'.repeat(900_000)}\n{ __typename }`, /^$/],
  ['an unterminated string', () => `{ poll(id: "${'\\\\'.repeat(10_000)}`, /Unterminated string/],
];

test.each(DOCUMENTS)('%s is refused, over HTTP and WebSocket alike', async (_, make, message) => {
  const query = make();
  const answer = await operate(victim.graphql, query);
  const said = (answer.errors ?? []).map((error) => error.message).join('\n');
  expect(said).toMatch(message);
  // Errors are few, however many there are to say.
  expect((answer.errors ?? []).length).toBeLessThanOrEqual(21);
  if (query.length < 60_000) expect(await overSocket(query)).toMatch(message);
  await victim.stillServes();
});

/** What a WebSocket is answered, as text. */
async function overSocket(query: string): Promise<string> {
  const { WebSocket } = await import('ws');
  const socket = new WebSocket(victim.webSocket, 'graphql-transport-ws');
  const answer = await new Promise<string>((resolve) => {
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    socket.on('message', (data) => {
      const message: { type: string; payload: Answer['errors'] } = JSON.parse(String(data));
      if (message.type === 'connection_ack') {
        socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
      } else resolve((Array.isArray(message.payload) ? message.payload : []).map((error) => error.message).join('\n'));
    });
  });
  socket.terminate();
  return answer;
}

test('a flood of different documents of the largest size stops adding memory', async () => {
  let round = 0;
  await victim.stopsGrowing(async () => {
    round++;
    for (let batch = 0; batch < 5; batch++) {
      await Promise.all(
        Array.from({ length: 50 }, (_, n) =>
          operate(
            victim.graphql,
            `{ ${repeat(180, (index) => `a${round}_${batch}_${n}_${index}: viewer { isOrganizer }`)} }`,
          ),
        ),
      );
    }
  });
  await victim.stillServes();
});

const DEEP = 20_000;
const nested = `${'['.repeat(DEEP)}${']'.repeat(DEEP)}`;

test.each<[string, string]>([
  ['a list', nested],
  ['an object', `${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`],
])('variables nested %s deep are refused', async (_, deep) => {
  const vote = 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }';
  const watch = `subscription ($x: ID) { pollResults(pollId: "${victim.poll.id}") { version tallies @include(if: true) { label } } }`;
  const wait = 'query ($id: ID!, $x: ID) { pollResults(pollId: $id, afterVersion: 1, waitMs: 1) { version } }';
  for (const query of [vote, watch, wait]) {
    for (const name of ['input', 'x', 'id']) {
      const response = await fetch(victim.graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
        body: `{"query":${JSON.stringify(query)},"variables":{"${name}":${deep}}}`,
      });
      expect(await firstPiece(response)).not.toMatch(/INTERNAL_SERVER_ERROR|call stack/);
    }
  }
  await victim.stillServes();
});

async function firstPiece(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const piece = await reader?.read();
  await reader?.cancel();
  return Buffer.from(piece?.value ?? []).toString();
}

test('a list of a hundred thousand choices is refused whole', async () => {
  const choiceIds = Array.from({ length: 100_000 }, () => 'x');
  const answer = await castVote(victim.graphql, { pollId: victim.poll.id, choiceIds });
  expect(answer).toMatchObject({ __typename: 'InvalidBallotError' });
  expect((answer.message ?? '').length).toBeLessThan(500);
  await victim.stillServes();
});

test('ids of every length and kind name nothing, and messages do not grow with them', async () => {
  for (const id of [
    '',
    ' ',
    '.',
    '..',
    '%00',
    '\u0000',
    '\ud800',
    '💥'.repeat(100),
    'x'.repeat(400_000),
    "' OR 1=1 --",
    '1.1',
    '-1',
  ]) {
    const answer = await castVote(victim.graphql, { pollId: id, choiceIds: [id] });
    expect(answer).toMatchObject({ __typename: 'NotFoundError' });
    expect((answer.message ?? '').length).toBeLessThan(500);
    const wrong = await castVote(victim.graphql, { pollId: victim.poll.id, choiceIds: [id] });
    expect(wrong).toMatchObject({ __typename: 'InvalidBallotError' });
    expect((wrong.message ?? '').length).toBeLessThan(500);
    expect(await operate(victim.graphql, 'query ($id: ID!) { poll(id: $id) { id } }', { id })).toEqual({
      data: { poll: null },
    });
    expect(await manage(victim.graphql, 'closePoll', { ...victim.poll, id })).toMatchObject({
      __typename: 'NotFoundError',
    });
    expect(await operate(victim.graphql, 'query ($id: String!) { poll(joinCode: $id) { id } }', { id })).toEqual({
      data: { poll: null },
    });
  }
  expect((await results(victim.graphql, victim.poll.id)).ballotCount).toBe(0);
  await victim.stillServes();
});
