/**
 * A seeded fuzz over URL parameters, headers and content types of `/graphql` and `/polls`: what a
 * caller sends must not end as a fault of the server or as a line in its log.
 */
import { request } from 'node:http';
import { expect, test } from 'vitest';
import { createPoll } from '../support/api.ts';
import { NASTY_TEXTS } from '../support/nasty.ts';
import { randomFrom } from '../support/random.ts';
import { startServer } from '../support/server.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_126);
const REQUESTS = Number(process.env.FUZZ_REQUESTS ?? 1_500);
const AT_ONCE = 16;

type Pairs = Record<string, string>;

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: Pairs;
  readonly body: string;
}

const QUERIES = [
  '{ __typename }',
  'query A { viewer { isOrganizer } } query B { __typename }',
  'query ($id: ID!, $n: Int = 1) { pollResults(pollId: $id, afterVersion: $n, waitMs: 1) { version } }',
  'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }',
  'subscription ($id: ID!) { pollResults(pollId: $id) { version } }',
  '{',
  '',
];
const JSONS = ['{', '{}', '[]', 'null', '1', '"x"', '', ' ', '{"id":1}', '{"id":null}', '{"__proto__":{}}', '{"a":}'];
const EXTENSIONS = [
  ...JSONS,
  '{"persistedQuery":null}',
  '{"persistedQuery":{"version":1}}',
  '{"persistedQuery":{"version":2,"sha256Hash":"x"}}',
  `{"persistedQuery":{"version":1,"sha256Hash":"${'a'.repeat(64)}"}}`,
  '{"persistedQuery":{"version":1,"sha256Hash":["x"]}}',
];
const TYPES = [
  'application/json',
  'application/json ; charset=utf-8',
  'application/json; charset="utf-8"',
  'application/json; charset=latin1',
  'application/json;;;=',
  'APPLICATION/GRAPHQL',
  'application/graphql+json',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'multipart/form-data',
  'text/plain',
  '/',
  '',
];
const ACCEPTS = [
  'application/json',
  'application/graphql-response+json',
  'text/event-stream',
  'text/html',
  'multipart/mixed;subscriptionSpec=1.0',
  '*/*;q=x',
  ',;=,',
  '',
];
const HEADERS: Record<string, readonly string[]> = {
  accept: ACCEPTS,
  authorization: ['Bearer', 'Bearer a.b.c', 'Basic YTpi', '', 'Bearer \xff'],
  'pollcast-voter': ['', 'nonsense', '\xff', '__proto__'],
  cookie: ['pollcast_voter=', 'pollcast_voter=x', ';;=;', '%'],
  'content-encoding': ['gzip', 'identity', '', 'x, y'],
  'if-none-match': ['*', '"v1"', 'W/"v1", "x', '"v99999999999999999999"', ','],
  'last-event-id': ['1', '-1', '99999999999999999999', 'x', ''],
  origin: ['null', 'http://x y', 'http://[', ''],
  'x-forwarded-for': [',,,', '::', '1.2.3.4.5'],
  'x-request-id': ['', 'a b', '__proto__'],
  host: ['', '[', 'x:99999', 'a,b'],
};

function send({ url }: { readonly url: string }, { method, path, headers, body }: Sent): Promise<string> {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(url);
    const outgoing = request({ hostname, port, method, path, headers }, (response) => {
      const pieces: Buffer[] = [];
      const done = (): void => resolve(`${response.statusCode} ${Buffer.concat(pieces)}`);
      response.on('data', (piece: Buffer) => {
        pieces.push(piece);
        // An event stream does not end by itself.
        if (/event-stream|multipart/.test(response.headers['content-type'] ?? '')) {
          done();
          outgoing.destroy();
        }
      });
      response.on('end', done);
      response.on('error', done);
    });
    outgoing.on('error', (error) => resolve(`closed: ${error.message}`));
    outgoing.end(body);
  });
}

function requestFrom(random: (below: number) => number, pollId: string): Sent {
  const pick = (list: readonly string[]): string => list[random(list.length)] ?? '';
  const nasty = (): string => pick(NASTY_TEXTS).toWellFormed().slice(0, 300);
  const odd = (list: readonly string[]): string => (random(8) === 0 ? nasty() : pick(list));
  const headers: Pairs = {};
  for (const [name, values] of Object.entries(HEADERS)) if (random(5) === 0) headers[name] = pick(values);
  if (random(3) === 0) {
    const params = new URLSearchParams();
    for (const name of ['afterVersion', 'waitMs', 'bom', nasty()]) {
      if (random(2) === 0) params.append(name, odd(['1', '0', '-1', '1e9', '', '9007199254740991', 'x', '1.5']));
    }
    const rest = pick(['results', 'export.json', 'export.csv', '', 'results/', '%', '..%2f']);
    const id = random(4) === 0 ? encodeURIComponent(nasty()) : pollId;
    return { method: pick(['GET', 'GET', 'HEAD', 'PUT']), path: `/polls/${id}/${rest}?${params}`, headers, body: '' };
  }
  const given: Pairs = { query: pick(QUERIES) };
  if (random(2) === 0) given.variables = odd([...JSONS, JSON.stringify({ id: pollId })]);
  if (random(3) === 0) given.extensions = odd(EXTENSIONS);
  if (random(3) === 0) given.operationName = odd(['', 'A', 'B', 'C', '__proto__']);
  if (random(6) === 0) given[nasty()] = nasty();
  if (random(8) === 0) delete given.query;
  if (random(2) === 0) {
    const params = new URLSearchParams(given);
    if (random(6) === 0) params.append('query', pick(QUERIES));
    const path = `/graphql?${params}${random(8) === 0 ? pick(['&%', '&=', '#x', '&variables', '&%ff=%fe']) : ''}`;
    return { method: pick(['GET', 'GET', 'GET', 'HEAD', 'DELETE', 'PATCH']), path, headers, body: '' };
  }
  headers['content-type'] = random(2) === 0 ? 'application/json' : pick(TYPES);
  const parts = Object.entries(given).map(([name, value]) => {
    const isRaw = (name === 'variables' || name === 'extensions') && random(4) > 0;
    return `${JSON.stringify(name)}:${isRaw ? value || 'null' : JSON.stringify(value)}`;
  });
  return { method: 'POST', path: pick(['/graphql', '/graphql?x=1']), headers, body: `{${parts.join()}}` };
}

test(`${REQUESTS} requests with odd parameters, headers and types are no fault (seed ${SEED})`, async () => {
  const faults: string[] = [];
  const quiet = (): void => {};
  const note = (fields: object, message: string): void => {
    const error: unknown = 'err' in fields ? fields.err : undefined;
    faults.push(`log: ${message} ${error instanceof Error ? error.stack : JSON.stringify(fields)}`);
  };
  await using server = await startServer(
    { TRUSTED_PROXIES: '127.0.0.1' },
    { log: { debug: quiet, info: quiet, warn: quiet, error: note } },
  );
  const poll = await createPoll(server.graphql);
  const random = randomFrom(SEED);
  const statuses = new Set<string>();
  let left = REQUESTS;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      const sent = requestFrom(random, poll.id);
      const reply = await send(server, sent);
      statuses.add(reply.slice(0, 3));
      if (/^5|INTERNAL_SERVER_ERROR|^closed/.test(reply)) {
        faults.push(`${JSON.stringify(sent)}\n  ${reply.slice(0, 400)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  expect(faults.slice(0, 10).join('\n\n')).toBe('');
  // The requests reach answers of each kind.
  for (const status of ['200', '400', '404', '405', '415']) expect(statuses).toContain(status);
}, 120_000);
