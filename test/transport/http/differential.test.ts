/**
 * The short way and Yoga's way answer alike. `application/json` takes the short way where the request is in order;
 * `application/graphql+json` always takes Yoga's, which reads it as the same. Hundreds of generated requests, good and bad: same
 * status, same headers that matter, same body.
 */
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { castVote, createPoll, newVoter, type TestPoll } from '../../support/api.ts';
import { startServer, type TestServer } from '../../support/server.ts';

interface Reply {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly cookie: boolean;
  readonly body: string;
}

let server: TestServer;
let poll: TestPoll;
let voterToken: string;
beforeAll(async () => {
  server = await startServer({ LOG_LEVEL: 'silent' });
  poll = await createPoll(server.graphql);
  voterToken = (await newVoter(server.graphql)).voterToken;
  await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]], voterToken });
});
afterAll(() => server[Symbol.asyncDispose]());

function post(type: string, headers: Record<string, string>, body: string | Buffer): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      server.graphql,
      { method: 'POST', headers: { ...headers, 'content-type': type } },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('end', () =>
          resolve({
            status: response.statusCode,
            type: response.headers['content-type'],
            cookie: response.headers['set-cookie'] !== undefined,
            body: Buffer.concat(pieces).toString(),
          }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

const DOCUMENTS = [
  '{ viewer { isOrganizer } }',
  'query Named { viewer { isOrganizer } }',
  'query One { viewer { isOrganizer } } query Two { v: viewer { isOrganizer } }',
  'query ($id: ID!) { poll(id: $id) { id question status choices { id label } results { version tallies { votes share } } } }',
  'query ($id: ID!, $with: Boolean!) { poll(id: $id) { id viewerBallot @include(if: $with) { choiceIds } } }',
  'query ($id: ID) { poll(id: $id, joinCode: "X") { id } }',
  'query ($id: ID!) { pollResults(pollId: $id) { __typename ballotCount runoff { winner { label } } rating { mean } } }',
  'query ($id: ID!) { pollResults(pollId: $id, waitMs: 5) { version } }',
  'query ($id: ID!) { pollResults(pollId: $id, afterVersion: 2, waitMs: 5) { version } }',
  'query ($id: ID!) { pollResults(pollId: $id, waitMs: 99999999) { version } }',
  '{ polls(first: 0) { edges { cursor } } }',
  '{ polls(after: "nonsense") { edges { cursor } } }',
  '{ __schema { queryType { name } } __typename }',
  'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on CastVoteSuccess { voterToken receipt { id outcome version castAt } poll { id } } ... on Error { message } } }',
  'mutation ($input: PollIdInput!) { closePoll(input: $input) { __typename ... on Error { message } } }',
  'mutation { a: openPoll(input: { pollId: "x" }) { __typename } b: deletePoll(input: { pollId: "y" }) { ... on Error { message } } }',
  '{ nope }',
  '{ viewer }',
  '{ viewer { isOrganizer { deeper } } }',
  '{ poll(id: [1]) { id } }',
  '{ viewer { isOrganizer }',
  '',
  '   ',
  '# only a comment',
  'fragment F on Viewer { isOrganizer }',
  '{ ...F } fragment F on Query { viewer { isOrganizer } }',
  '{ ...F } fragment F on Query { ...F }',
  'subscription { pollResults(pollId: "x") { version } }',
  `{ ${'viewer { isOrganizer } '.repeat(900)} }`,
  `mutation { ${Array.from({ length: 12 }, (_, n) => `m${n}: closePoll(input: { pollId: "x" }) { __typename }`).join(' ')} }`,
];

const variables = (): unknown[] => [
  undefined,
  null,
  {},
  { id: poll.id, with: true, input: { pollId: poll.id, choiceIds: [poll.choiceIds[1]], voterToken } },
  { id: poll.id, with: false, input: { pollId: poll.id, choiceIds: [poll.choiceIds[2]], voterToken } },
  { id: 'nothing', with: true, input: { pollId: 'nothing', choiceIds: ['x'], voterToken } },
  { id: 7, with: 'yes', input: { pollId: poll.id, unknown: 1 } },
  { id: null, with: null, input: null },
  { id: poll.id, with: true, input: { pollId: poll.id, choiceIds: [], voterToken: 'forged' }, surplus: { a: [1] } },
  [1],
  'text',
];

const HEADERS: Record<string, string>[] = [
  {},
  { accept: 'application/json' },
  { accept: 'application/graphql-response+json' },
  { accept: 'application/graphql-response+json, application/json;q=0.9' },
  { accept: 'application/json; charset=utf-8' },
  { accept: 'application/json; charset=latin1' },
  { accept: '*/*' },
  { accept: 'application/*' },
  { accept: 'text/html;q=0.1, application/json' },
  { accept: 'text/plain' },
  { authorization: 'Bearer nonsense', cookie: 'pollcast_voter=forged; a=b' },
  { authorization: 'Bearer looks.like.ajwt', accept: 'application/graphql-response+json' },
  { 'sec-fetch-site': 'same-origin', accept: 'application/json' },
];

/** Ids of faults and of new voters differ from request to request. */
const same = (reply: Reply): Reply => ({
  ...reply,
  body: reply.body.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, (id, _at, whole: string) =>
    whole.includes('report the number') ? '(id)' : id,
  ),
});

async function compare(headers: Record<string, string>, body: string | Buffer): Promise<void> {
  const [short, yoga] = [
    await post('application/json', headers, body),
    await post('application/graphql+json', headers, body),
  ];
  expect(same(short), `${JSON.stringify(headers)} ${body}`).toEqual(same(yoga));
}

describe('the short way and Yoga’s', () => {
  test.each(DOCUMENTS.map((document) => [document.slice(0, 70), document]))('agree on %j', async (_, document) => {
    for (const value of variables()) {
      for (const headers of HEADERS.slice(0, document.length > 2_000 ? 3 : undefined)) {
        await compare(headers, JSON.stringify({ query: document, variables: value }));
      }
    }
  });

  test('agree on operation names, extensions and surplus parameters', async () => {
    const query = DOCUMENTS[2];
    for (const operationName of ['One', 'Two', 'Three', '', null, 5, {}])
      await compare({}, JSON.stringify({ query, operationName }));
    for (const extensions of [{}, { a: 1 }, null, 1, [], 'x'])
      await compare({}, JSON.stringify({ query: DOCUMENTS[0], extensions }));
    await compare({}, JSON.stringify({ query: DOCUMENTS[0], id: 'x' }));
    await compare({}, JSON.stringify({ query: DOCUMENTS[0], id: null }));
    await compare({}, JSON.stringify({ query: DOCUMENTS[0], __proto__: null, constructor: 1 }));
    await compare({}, `{"query":${JSON.stringify(DOCUMENTS[0])},"__proto__":{"x":1}}`);
  });

  test.each<[string, string | Buffer]>([
    ['nothing', ''],
    ['white space', '  \n'],
    ['null', 'null'],
    ['a number', '1'],
    ['a text', '"{ viewer { isOrganizer } }"'],
    ['a list', '[{"query":"{ viewer { isOrganizer } }"}]'],
    ['an empty list', '[]'],
    ['half an object', '{"query":"{ viewer'],
    ['a byte order mark', '\ufeff{"query":"{ viewer { isOrganizer } }"}'],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])],
    [
      'invalid UTF-8 in the query',
      Buffer.concat([
        Buffer.from('{"query":"{ viewer { isOrganizer } } # '),
        Buffer.from([0xc3, 0x28]),
        Buffer.from('"}'),
      ]),
    ],
    ['a repeated key', '{"query":"{ nope }","query":"{ viewer { isOrganizer } }"}'],
    ['query as a number', '{"query":1}'],
    ['query as null', '{"query":null}'],
    ['a lone surrogate', '{"query":"{ poll(joinCode: \\"\\ud800\\") { id } }"}'],
  ])('agree on a body that is %s', async (_, body) => {
    for (const headers of HEADERS) await compare(headers, body);
  });
});
