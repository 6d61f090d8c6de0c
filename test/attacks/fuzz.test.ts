/**
 * A seeded fuzz over the whole schema: thousands of operations, in order and out of it, side by side at one real server, over
 * HTTP, event streams, WebSockets and the plain paths. Nothing of it may be our fault, show what is inside, leave something behind
 * or break what others do. A failure prints its seed and the operation: `FUZZ_SEED=… npx vitest run test/attacks/fuzz`.
 * The long form: `FUZZ_OPERATIONS=20000`.
 */
import { Agent, type IncomingMessage, request } from 'node:http';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { schema } from '../../src/graphql/schema/schema.ts';
import type { Log } from '../../src/ports/log.ts';
import { ask, castVote, createPoll, newVoter, results } from '../support/api.ts';
import { leakIn, NASTY_TEXTS, withRaw } from '../support/nasty.ts';
import { type KnownPoll, type Operation, operationFrom, type World } from '../support/operations.ts';
import { randomFrom } from '../support/random.ts';
import { startServer } from '../support/server.ts';
import { bearer, forged, JWT_SECRET, token } from '../support/tokens.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_122);
const OPERATIONS = Number(process.env.FUZZ_OPERATIONS ?? 3_000);
const AT_ONCE = 24;
/** After so many, some of the polls are new: operations close and delete them. */
const RENEW = 250;
/** How long a stream is read that says nothing. */
const PATIENCE_MS = 40;
const MOST_GROWTH_MB = 32;
/** Nobody asks to wait as long: by then there is an answer. */
const ANSWER_MS = 15_000;

const KINDS = ['SINGLE', 'MULTIPLE', 'RANKED', 'RATING'];
const IDENTITIES = ['DEVICE', 'DEVICE', 'CODE', 'ACCOUNT'];
const VISIBILITIES = ['ALWAYS', 'AFTER_VOTE', 'AFTER_CLOSE', 'ORGANIZERS'];

type Random = (below: number) => number;

/** What came back: whole, or as much as was read of a stream. */
interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | null;
}

function exchange(url: URL, agent: Agent, { method, path, headers, body }: Sent): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: url.hostname, port: url.port, agent, method, path, headers }, (incoming) => {
      const pieces: Buffer[] = [];
      const type = incoming.headers['content-type'] ?? '';
      const done = (): void =>
        resolve({ status: incoming.statusCode ?? 0, type, body: Buffer.concat(pieces).toString() });
      incoming.on('data', (piece: Buffer) => pieces.push(piece));
      incoming.on('end', done);
      incoming.on('error', reject);
      if (type.startsWith('text/event-stream')) leaveSoon(incoming, done);
    });
    outgoing.on('error', reject);
    outgoing.setTimeout(ANSWER_MS, () => outgoing.destroy(new Error('no answer')));
    outgoing.end(body ?? undefined);
  });
}

function leaveSoon(incoming: IncomingMessage, done: () => void): void {
  const leave = (): void => {
    done();
    incoming.destroy();
  };
  const timer = setTimeout(leave, PATIENCE_MS);
  incoming.on('end', () => clearTimeout(timer));
  incoming.removeAllListeners('error').on('error', () => {});
}

/** What is wrong with an answer at `/graphql`; null: nothing. */
function faultIn({ status, type, body }: Reply): string | null {
  if (status >= 500 || status === 0) return `status ${status}`;
  if (body.includes('INTERNAL_SERVER_ERROR')) return 'an INTERNAL_SERVER_ERROR';
  const leak = type.startsWith('text/html') ? null : leakIn(body);
  if (leak !== null) return `a leak: ${leak}`;
  if (type.startsWith('text/event-stream')) {
    for (const [, data] of body.matchAll(/^data: (.+)\n\n/gm)) {
      const wrong = wrongShape(data ?? '');
      if (wrong !== null) return wrong;
    }
    return null;
  }
  if (type.includes('json')) return wrongShape(body);
  if (type.startsWith('text/html')) return body.includes('graphiql') ? null : 'a page that is not GraphiQL';
  return body === '' && [204, 304, 404, 405, 406].includes(status)
    ? null
    : `a body of type "${type}", status ${status}`;
}

function wrongShape(text: string): string | null {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return 'no JSON';
  }
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) return 'no object';
  const { data, errors, ...rest }: Record<string, unknown> = { ...answer };
  if (Object.keys(rest).length > 0) return `more than data and errors: ${Object.keys(rest).join()}`;
  if (data === undefined && errors === undefined) return 'neither data nor errors';
  if (data !== undefined && typeof data !== 'object') return 'data is no object';
  if (errors === undefined) return data === null ? 'no data, and no errors' : null;
  return Array.isArray(errors) && errors.length > 0 && errors.every(hasMessage) ? null : 'errors without messages';
}

function hasMessage(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string';
}

/** Which errors and successes an answer holds, each once. */
function codesIn(body: string): string[] {
  const found = [...body.matchAll(/"code":"(\w+)"|"__typename":"(\w+(?:Error|Success))"/g)];
  return [...new Set(found.map(([, code, type]) => code ?? type ?? ''))];
}

/** Frees what nobody holds; megabytes that are left. */
function heapLeft(): number {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new Error('There is no gc to call.');
  collect();
  collect();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

test(`${OPERATIONS} operations out of the schema do no harm (seed ${SEED})`, { timeout: 300_000 }, async () => {
  const faults: string[] = [];
  const note = (level: string) => (fields: object, message: string) => {
    const err: unknown = 'err' in fields ? fields.err : undefined;
    faults.push(`log ${level}: ${message} ${err instanceof Error ? err.stack : JSON.stringify(fields)}`);
  };
  const quiet = (): void => {};
  const log: Log = { debug: quiet, info: quiet, warn: note('warn'), error: note('error') };
  const rejected = (reason: unknown): void => void faults.push(`unhandled: ${reason}`);
  process.on('unhandledRejection', rejected);
  await using server = await startServer({ JWT_SECRET, LIVE_INTERVAL_MS: '5', TRUSTED_PROXIES: '127.0.0.1' }, { log });
  const { graphql } = server;
  const url = new URL(server.url);
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE * 2 });

  const sessions = await Promise.all([
    token({ role: 'admin' }),
    token({ role: 'organizer' }),
    token({ sub: 'bob' }),
    token({ exp: 1 }),
    token({ sub: '__proto__', role: 'constructor' }),
    forged({ alg: 'none' }, { sub: 'eve', role: 'admin' }, ''),
    forged({ alg: 'HS256' }, { sub: 'eve', role: 'admin' }, 'AAAA'),
  ]);
  const voterTokens = await Promise.all(Array.from({ length: 20 }, async () => (await newVoter(graphql)).voterToken));
  const [admin = ''] = sessions;
  let made = 0;
  const makePoll = async (): Promise<KnownPoll> => {
    const n = made++;
    const kind = KINDS[n % 4] ?? '';
    const voterIdentity = IDENTITIES[Math.floor(n / 4) % 4] ?? '';
    const poll = await createPoll(graphql, {
      kind,
      voterIdentity,
      resultsVisibility: VISIBILITIES[Math.floor(n / 3) % 4],
      allowVoteChange: n % 3 !== 0,
      status: n % 11 === 10 ? 'DRAFT' : 'OPEN',
      ...(kind === 'RATING' ? { choices: null } : {}),
    });
    const { joinCode } = await ask<{ joinCode: string }>(
      graphql,
      'query ($id: ID!) { poll(id: $id) { joinCode } }',
      { id: poll.id },
      poll.manage,
    );
    const { codes } = await ask<{ codes?: string[] }>(
      graphql,
      'mutation ($input: IssueVoterCodesInput!) { issueVoterCodes(input: $input) { ... on IssueVoterCodesSuccess { codes } } }',
      { input: { pollId: poll.id, count: 10 } },
      poll.manage,
    );
    return { ...poll, kind, joinCode, codes: codes ?? [] };
  };
  const polls: KnownPoll[] = [];
  while (polls.length < 32) polls.push(await makePoll());
  const { edges } = await ask<{ edges: { cursor: string }[] }>(
    graphql,
    '{ polls(first: 5) { edges { cursor } } }',
    {},
    bearer(admin),
  );
  const far = Buffer.from('999999999999999 abc').toString('base64url');
  const deepAudit = Buffer.from('audit 999999999999999').toString('base64url');
  const cursors = [...edges.map(({ cursor }) => cursor), far, deepAudit];
  const world: World = { polls, voterTokens, cursors };
  const canary = await createPoll(graphql, { question: 'Does it still count?' });

  const statuses = new Map<string, number>();
  const codes = new Map<string, number>();
  const raise = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);

  function headersOf(random: Random, { poll, type, mood }: Operation): Record<string, string> {
    const pick = (list: readonly string[]): string => list[random(list.length)] ?? '';
    const headers: Record<string, string> = {};
    const who = random(10);
    if (who < (type === 'mutation' ? 6 : 3)) headers.authorization = `Bearer ${poll.organizerKey}`;
    else if (who === 7) headers.authorization = `Bearer ${pick(sessions)}`;
    else if (who === 8 && mood !== 'good')
      headers.authorization = pick([
        '',
        'Bearer',
        'Bearer  ',
        'Basic YTpi',
        'Bearer a.b.c',
        'bearer \xff',
        `Bearer ${'x'.repeat(5_000)}`,
      ]);
    const token =
      random(4) === 0
        ? pick(['', 'nonsense', `v1.${'A'.repeat(22)}.${'A'.repeat(22)}`, '__proto__', '\xff\xfe'])
        : pick(voterTokens);
    if (random(5) === 0) headers['pollcast-voter'] = token;
    if (random(5) === 0)
      headers.cookie = pick([`pollcast_voter=${token}`, `a=b; pollcast_voter=${token}; c`, ';;=;', 'pollcast_voter']);
    if (random(20) === 0) headers['sec-fetch-site'] = pick(['same-origin', 'none', 'cross-site', 'x']);
    if (random(30) === 0) headers.origin = pick([server.url, 'http://evil.example', 'null', 'x y']);
    if (random(30) === 0) headers['x-forwarded-for'] = pick(['1.2.3.4', '::1', ',,,', 'x'.repeat(3_000)]);
    if (random(30) === 0) headers['x-request-id'] = pick(['a', '', '\xff', '__proto__', 'x'.repeat(3_000)]);
    if (random(30) === 0) headers['last-event-id'] = pick(['1', '0', '9999999999', '-1', '1e3', '__proto__']);
    if (type === 'subscription' ? random(10) < 9 : random(25) === 0) headers.accept = 'text/event-stream';
    else if (random(10) === 0)
      headers.accept = pick([
        'application/graphql-response+json',
        '*/*',
        'text/html',
        'application/json;q=0',
        'x',
        ',;,',
        '',
        'application/json; charset=utf-16',
      ]);
    return headers;
  }

  function requestOf(random: Random, operation: Operation): Sent {
    const headers = headersOf(random, operation);
    const { query, variables, poll } = operation;
    const way = random(100);
    if (way < 3) {
      const id =
        random(3) === 0 ? encodeURIComponent((NASTY_TEXTS[random(NASTY_TEXTS.length)] ?? '').toWellFormed()) : poll.id;
      const what = [
        'results',
        'results?afterVersion=1',
        'results?afterVersion=-1&waitMs=1e9',
        'results?afterVersion=0&waitMs=10',
        'stream',
        'export.json',
        'export.csv',
        '',
      ][random(8)];
      return {
        method: random(5) === 0 ? 'HEAD' : 'GET',
        path: `/polls/${id.slice(0, 500)}/${what}`,
        headers,
        body: null,
      };
    }
    const envelope: Record<string, unknown> = { query, variables };
    if (random(25) === 0) envelope.operationName = ['Poll', null, 1, '', '__proto__', 'constructor'][random(6)];
    if (random(60) === 0)
      envelope.extensions = [null, {}, [], { persistedQuery: { version: 1, sha256Hash: 'x' } }][random(4)];
    if (random(120) === 0) envelope.variables = [[], 'x', 1, true][random(4)];
    if (random(200) === 0) envelope.query = [null, 1, '', [], {}][random(5)];
    if (way < 10) {
      const params = new URLSearchParams({
        query: String(envelope.query),
        variables: withRaw(JSON.stringify(envelope.variables)),
      });
      if (params.size < 8_000 && String(params).length < 8_000) {
        return { method: 'GET', path: `/graphql?${params}`, headers, body: null };
      }
    }
    const type =
      random(100) === 0
        ? ['text/plain', 'application/json; charset=latin1', 'application/graphql', 'application/JSON'][random(4)]
        : undefined;
    const whole = withRaw(JSON.stringify(random(300) === 0 ? [envelope] : envelope));
    const body = random(200) === 0 ? whole.slice(0, random(whole.length)) : whole;
    return {
      method: 'POST',
      path: '/graphql',
      headers: { ...headers, 'content-type': type ?? 'application/json' },
      body,
    };
  }

  /** One operation on a connection of its own. */
  function overSocket(random: Random, { query, variables, poll }: Operation): Promise<string | null> {
    return new Promise((resolve) => {
      const params = [
        {},
        { authorization: `Bearer ${poll.organizerKey}` },
        { voterToken: voterTokens[0] },
        { authorization: 1, voterToken: ['__proto__'] },
        { authorization: `Bearer ${sessions[random(sessions.length)]}` },
        null,
      ][random(6)];
      const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
      let wrong: string | null = null;
      const end = (): void => socket.close(1000);
      const late = setTimeout(() => {
        wrong ??= 'no answer';
        socket.terminate();
      }, ANSWER_MS);
      let timer: NodeJS.Timeout | undefined;
      socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init', payload: params })));
      socket.on('message', (data) => {
        const text = data.toString();
        const { type, payload }: { type: string; payload?: unknown } = JSON.parse(text);
        if (text.includes('INTERNAL_SERVER_ERROR')) wrong ??= 'an INTERNAL_SERVER_ERROR';
        const leak = leakIn(text);
        if (leak !== null) wrong ??= `a leak: ${leak}`;
        for (const code of codesIn(text)) raise(codes, code);
        if (type === 'connection_ack') {
          const id = ['1', '', '__proto__', '"\\\n\u{1f389}', 'x'.repeat(200)][random(5)];
          socket.send(withRaw(JSON.stringify({ id, type: 'subscribe', payload: { query, variables } })));
          timer = setTimeout(end, PATIENCE_MS);
        } else if (type === 'next') wrong ??= wrongShape(JSON.stringify(payload));
        else if (type === 'error')
          wrong ??= Array.isArray(payload) && payload.every(hasMessage) ? null : 'errors without messages';
        if (type === 'error' || type === 'complete') end();
      });
      socket.on('error', (error) => (wrong ??= `${error}`));
      socket.on('close', (code, reason) => {
        clearTimeout(timer);
        clearTimeout(late);
        raise(statuses, `ws ${code}`);
        // 1011 and 4500: the server's fault.
        if (code === 1011 || code === 4500 || code === 1006) wrong ??= `closed with ${code} ${reason}`;
        resolve(wrong);
      });
    });
  }

  let next = 0;
  const failures: string[] = [];

  async function run(index: number): Promise<void> {
    const random = randomFrom(SEED + index * 7_919);
    const operation = operationFrom(schema, random, world);
    let wrong: string | null;
    let shown: unknown = operation;
    if (random(100) < 3) wrong = await overSocket(random, operation);
    else {
      const sent = requestOf(random, operation);
      shown = sent;
      const reply = await exchange(url, agent, sent).catch((error: unknown) => ({
        status: 0,
        type: '',
        body: `${error}`,
      }));
      raise(statuses, `${reply.status}${reply.type.startsWith('text/event-stream') ? ' events' : ''}`);
      for (const code of codesIn(reply.body)) raise(codes, code);
      const plain = sent.path.startsWith('/polls/');
      wrong = plain && reply.status > 0 && reply.status < 400 ? null : faultIn(reply);
      if (plain) wrong ??= leakIn(reply.body);
      if (sent.method === 'HEAD' && reply.status > 0 && reply.status < 500 && reply.body === '') wrong = null;
      if (wrong !== null) wrong += `\n  answered ${reply.status} ${reply.type} ${reply.body.slice(0, 600)}`;
    }
    if (wrong !== null && failures.length < 20) {
      failures.push(`seed ${SEED}, operation ${index}: ${wrong}\n  ${JSON.stringify(shown).slice(0, 3_000)}`);
    }
  }

  async function runTo(end: number): Promise<void> {
    const worker = async (): Promise<void> => {
      while (next < end) {
        const index = next++;
        if (index % RENEW === 0)
          for (let n = 0; n < 4; n++) polls[(index / RENEW + n * 8) % polls.length] = await makePoll();
        await run(index);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  const started = performance.now();
  await runTo(Math.floor(OPERATIONS / 2));
  const middle = heapLeft();
  await runTo(OPERATIONS);
  const growth = heapLeft() - middle;
  agent.destroy();
  process.off('unhandledRejection', rejected);

  const listed = (counts: Map<string, number>): string =>
    [...counts]
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  console.log(
    `fuzz: seed ${SEED}, ${OPERATIONS} operations in ${seconds} s, heap ${Math.round(middle)} MB, then ${Math.round(growth)} MB more\n` +
      `  by status: ${listed(statuses)}\n  by code: ${listed(codes)}`,
  );
  expect([...faults.slice(0, 10), ...failures].join('\n\n')).toBe('');
  expect(growth).toBeLessThan(MOST_GROWTH_MB);
  // It got far enough to mean something.
  for (const reached of [
    'CastVoteSuccess',
    'CastVotesSuccess',
    'CreatePollSuccess',
    'UpdatePollSuccess',
    'ClosePollSuccess',
  ]) {
    expect(codes.get(reached), reached).toBeGreaterThan(0);
  }

  expect((await server.app.store.recount()).differences).toEqual([]);
  expect(await castVote(graphql, { pollId: canary.id, choiceIds: [canary.choiceIds[1]] })).toMatchObject({
    __typename: 'CastVoteSuccess',
    receipt: { outcome: 'RECORDED', version: 2 },
  });
  expect(await results(graphql, canary.id)).toMatchObject({ version: 2, ballotCount: 1 });
  expect(server.app.connections()).toMatchObject({ waiting: 0 });
});
