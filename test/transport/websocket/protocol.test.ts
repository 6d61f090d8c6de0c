/**
 * graphql-ws' own server stands beside ours, on the same schema: a client that says the same to both, in order or out of it,
 * hears the same from both. A failure prints its seed and what was said: `FUZZ_SEED=… npx vitest run test/transport/protocol`.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ExecutionResult } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { pollNotFound } from '../../../src/core/errors.ts';
import { makeEngine } from '../../../src/graphql/engine/engine.ts';
import { isRefusal } from '../../../src/graphql/engine/operation.ts';
import { asGraphQLError } from '../../../src/graphql/schema/errors.ts';
import { castVote, createPoll, results } from '../../support/api.ts';
import { randomFrom } from '../../support/random.ts';
import { startServer, type TestServer } from '../../support/server.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_122);
const SEQUENCES = 200;
const AT_ONCE = 10;
const PATIENCE_MS = 5_000;
/** What a server says unasked has come by then. */
const QUIET_MS = 20;

interface Reference extends AsyncDisposable {
  readonly url: string;
}

let server: TestServer;
let reference: Reference;
let pollId: string;
let ours: string;
beforeAll(async () => {
  server = await startServer();
  ours = server.graphql.replace('http', 'ws');
  pollId = (await createPoll(server.graphql)).id;
  reference = await startReference();
});
afterAll(async () => {
  await reference[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** Yields the results once, and idles until it is left. */
class Results implements AsyncIterableIterator<ExecutionResult> {
  private begun = false;
  private leave = (): void => {};

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<ExecutionResult>> {
    if (!this.begun) {
      this.begun = true;
      return { done: false, value: { data: { pollResults: { pollId } } } };
    }
    await new Promise<void>((resolve) => (this.leave = resolve));
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<ExecutionResult>> {
    this.leave();
    return { done: true, value: undefined };
  }
}

async function startReference(): Promise<Reference> {
  const engine = makeEngine({ debug() {}, info() {}, warn() {}, error() {} });
  const sockets = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  const graphqlWs = useServer(
    {
      // None: that time is not what is looked at here.
      connectionInitWaitTimeout: 0,
      onSubscribe(_, _id, { query, operationName, variables }) {
        const prepared = engine.prepare(query, operationName);
        if (isRefusal(prepared)) return prepared;
        if (query === WATCH_NOTHING) return [asGraphQLError(pollNotFound('nothing'))];
        return {
          schema: engine.schema,
          document: prepared.document,
          operationName: prepared.operationName,
          variableValues: variables,
        };
      },
      execute: (args) => engine.executeArgs(args),
      subscribe: () => new Results(),
    },
    sockets,
    0,
  );
  await new Promise((resolve) => sockets.once('listening', resolve));
  const address = sockets.address();
  if (address === null || typeof address === 'string') throw new Error('The reference listens on no port.');
  return {
    url: `ws://127.0.0.1:${address.port}/graphql`,
    [Symbol.asyncDispose]: async () => graphqlWs.dispose(),
  };
}

/** A text as it is, bytes as a binary message, all else as JSON. */
type Message = string | Buffer | Readonly<Record<string, unknown>>;

/** What is sent at once; then the answers are waited for. */
type Step = readonly Message[];

interface Answer {
  readonly type: string;
  readonly id?: string;
  readonly payload?: unknown;
}

interface Transcript {
  /** What was heard after each step, sorted by id: answers to different operations may cross. */
  readonly heard: readonly (readonly Answer[])[];
  readonly end: 'open' | { readonly code: number; readonly reason: string };
}

/** How the subprotocol is asked for. */
interface Offer {
  readonly protocols?: string[];
  /** Written past the client, which hangs up where nothing that it asked for is chosen. */
  readonly header?: string;
}

const POLL_ID = '(the poll)';
const WATCH = `subscription { pollResults(pollId: "${POLL_ID}") { pollId } }`;
const WATCH_NOTHING = 'subscription { pollResults(pollId: "nothing") { pollId } }';
const TYPENAME = '{ __typename }';
const NAMED = 'query One { __typename } query Two { __schema { queryType { name } } }';
const VOTE = 'mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename } }';
const WITH_VARIABLE = 'query ($name: String!) { __type(name: $name) { kind } }';

const INIT = { type: 'connection_init' };
const PING = { type: 'ping' };

function subscribe(id: unknown, query: unknown, more: Record<string, unknown> = {}) {
  return { id, type: 'subscribe', payload: { query, ...more } };
}

function ask(id: string) {
  return subscribe(id, TYPENAME);
}

function watch(id: string) {
  return subscribe(id, WATCH);
}

function complete(id: unknown) {
  return { id, type: 'complete' };
}

/** One client, and what it hears. */
class Talk {
  readonly heard: Answer[][] = [];
  end: Transcript['end'] = 'open';
  private readonly socket: WebSocket;
  private changed = (): void => {};

  constructor(url: string, { protocols = ['graphql-transport-ws'], header }: Offer) {
    const headers = header === undefined ? {} : { 'sec-websocket-protocol': header };
    this.socket = new WebSocket(url, protocols, { headers });
    this.socket.on('message', (data, isBinary) => {
      const answer: Answer = isBinary ? { type: 'a binary message' } : JSON.parse(String(data));
      this.heard.at(-1)?.push(answer);
      this.changed();
    });
    this.socket.on('close', (code, reason) => {
      this.end = { code, reason: String(reason) };
      this.changed();
    });
  }

  opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
  }

  /** Resolves when all of it is answered, or the connection is closed. */
  async say(step: Step): Promise<void> {
    const answers: Answer[] = [];
    // The pong tells that what was said before it has been read.
    const sync = { step: this.heard.push(answers) };
    for (const message of [...step, { type: 'ping', payload: sync }]) this.send(message);
    const owed = (): string[] => (this.end === 'open' ? owedAfter(step, sync, answers) : []);
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${this.socket.url} owes ${owed().join()}`)), PATIENCE_MS);
      this.changed = () => {
        if (owed().length > 0) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  leave(): void {
    this.socket.terminate();
  }

  private send(message: Message): void {
    if (Buffer.isBuffer(message)) this.socket.send(message);
    else {
      const text = typeof message === 'string' ? message : JSON.stringify(message);
      this.socket.send(text.replaceAll(POLL_ID, pollId));
    }
  }
}

/** Malformed messages are owed nothing but the close. */
function owedAfter(step: Step, sync: object, answers: readonly Answer[]): string[] {
  const owed = answers.some(({ type, payload }) => type === 'pong' && isDeepStrictEqual(payload, sync))
    ? []
    : ['a pong'];
  for (const [index, message] of step.entries()) {
    if (typeof message === 'string' || Buffer.isBuffer(message)) continue;
    const { type, id } = message;
    if (type === 'connection_init' && !answers.some((answer) => answer.type === 'connection_ack')) owed.push('an ack');
    const isLeft = step.slice(index).some((later) => isDeepStrictEqual(later, complete(id)));
    if (type !== 'subscribe' || isLeft) continue;
    const lasts = JSON.stringify(message).includes('"query":"subscription');
    const last = lasts ? ['next', 'error'] : ['complete', 'error'];
    if (!answers.some((answer) => answer.id === id && last.includes(answer.type))) owed.push(`an answer to ${id}`);
  }
  return owed;
}

async function talk(url: string, steps: readonly Step[], offer: Offer = {}): Promise<Transcript> {
  const talking = new Talk(url, offer);
  await talking.opened();
  try {
    for (const step of steps) {
      if (talking.end !== 'open') break;
      await talking.say(step);
    }
    if (talking.end === 'open') await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  } finally {
    talking.leave();
  }
  const { heard, end } = talking;
  return { heard: heard.map((answers) => answers.toSorted(byId)), end };
}

function byId({ id: a = '' }: Answer, { id: b = '' }: Answer): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** What both say. */
async function compare(steps: readonly Step[], offer?: Offer, where = ''): Promise<Transcript> {
  const [here, there] = await Promise.all([talk(ours, steps, offer), talk(reference.url, steps, offer)]);
  expect(here, `${where}${JSON.stringify(steps)}`).toEqual(there);
  return here;
}

function endOf({ end }: Transcript): 'open' | number {
  return end === 'open' ? end : end.code;
}

const BAD_PAYLOADS: readonly unknown[] = ['text', 7, true, [], ['a']];

/** Each closes the connection, acknowledged or not. */
const MALFORMED: readonly Message[] = [
  '',
  'nonsense',
  '{"type":"ping"',
  '"ping"',
  'null',
  '7',
  '[]',
  '[{"type":"ping"}]',
  '{}',
  { payload: {} },
  { type: '' },
  { type: null },
  { type: 7 },
  { type: ['ping'] },
  { type: 'unknown' },
  { type: 'Ping' },
  { type: '__proto__' },
  { type: 'start', id: '1', payload: { query: TYPENAME } },
  ...['connection_init', 'ping', 'pong', 'connection_ack'].flatMap((type) =>
    BAD_PAYLOADS.map((payload) => ({ type, payload })),
  ),
  { type: 'subscribe' },
  { type: 'subscribe', payload: { query: TYPENAME } },
  ...[undefined, null, '', 7, {}, ['1']].map((id) => subscribe(id, TYPENAME)),
  ...[undefined, null, ...BAD_PAYLOADS].map((payload) => ({ id: '1', type: 'subscribe', payload })),
  ...[undefined, null, 7, {}, [TYPENAME]].map((query) => subscribe('1', query)),
  ...BAD_PAYLOADS.map((variables) => subscribe('1', TYPENAME, { variables })),
  ...[7, true, {}, ['One']].map((operationName) => subscribe('1', TYPENAME, { operationName })),
  ...BAD_PAYLOADS.map((extensions) => subscribe('1', TYPENAME, { extensions })),
  ...[undefined, null, '', 7, {}, ['1']].map((id) => complete(id)),
  { type: 'next', id: '1' },
  { type: 'next', payload: {} },
  { type: 'error', id: '1', payload: {} },
  { type: 'error', id: '1', payload: [{}] },
];

const OPERATIONS: readonly [query: string, more?: Record<string, unknown>][] = [
  [TYPENAME],
  ['{ __schema { queryType { name } } }'],
  ['query { a: __typename b: __typename }', { variables: {}, operationName: null, extensions: {} }],
  [TYPENAME, { variables: null, extensions: null, surplus: 1 }],
  [WITH_VARIABLE, { variables: { name: 'Poll' } }],
  [WITH_VARIABLE, { variables: { name: 'né "quoted" \u2028' } }],
  [WITH_VARIABLE, { variables: { name: 7 } }],
  [WITH_VARIABLE],
  [NAMED, { operationName: 'Two' }],
  [NAMED, { operationName: 'Three' }],
  [NAMED, { operationName: '' }],
  [NAMED],
  [''],
  ['# nothing'],
  ['{ __typename'],
  ['{ nope }'],
  ['{ viewer }'],
  ['{ ...F } fragment F on Query { ...F }'],
  ['fragment F on Query { __typename }'],
  ['subscription { nope }'],
  ['subscription { pollResults { pollId } }'],
  [WATCH_NOTHING],
];

const IDS = ['1', 'a b', 'é"\\\n👍', '\u2028', '__proto__', 'toString', '0', ' '];

describe('heard the same from graphql-ws’ own server:', () => {
  test.each<[what: string, end: 'open' | number, ...steps: Step[]]>([
    ['nothing said', 'open'],
    ['init', 'open', [INIT]],
    ['init with a payload', 'open', [{ ...INIT, payload: { a: [1], voterToken: 7, authorization: null } }]],
    ['init with null', 'open', [{ ...INIT, payload: null, surplus: 1 }]],
    ['init twice', 4429, [INIT], [INIT]],
    ['init after an operation', 4429, [INIT], [watch('1')], [INIT]],
    ['subscribe before init', 4401, [ask('1')]],
    ['subscribe before init, to nothing', 4401, [subscribe('1', '')]],
    ['complete before init', 'open', [complete('1')], [INIT]],
    ['ping before init', 'open', [PING], [{ ...PING, payload: { a: 'é' } }], [INIT]],
    ['ping', 'open', [INIT], [PING], [{ ...PING, payload: {} }], [{ ...PING, payload: null }], [PING, PING]],
    ['ping with a payload', 'open', [INIT], [{ ...PING, payload: { a: { b: [null, 'é"'] } }, id: '1' }]],
    ['pong before init', 'open', [{ type: 'pong' }], [{ type: 'pong', payload: { a: 1 } }], [INIT]],
    [
      'pong',
      'open',
      [INIT],
      [{ type: 'pong' }],
      [{ type: 'pong', payload: { a: 1 } }],
      [{ type: 'pong', payload: null }],
    ],
    ['a query', 'open', [INIT], [ask('1')]],
    ['a query with an id to escape', 'open', [INIT], ...IDS.map((id) => [ask(id)])],
    ['a subscription with an id to escape', 'open', [INIT], ...IDS.map((id) => [watch(id)])],
    ['two queries at once', 'open', [INIT], [ask('1'), subscribe('2', '{ __schema { __typename } }')]],
    ['a query and a subscription at once', 'open', [INIT], [ask('2'), watch('1')]],
    ['two queries at once under one id', 4409, [INIT], [ask('1'), ask('1')]],
    ['two subscriptions at once under one id', 4409, [INIT], [watch('1'), watch('1')]],
    ['a query under the id of a subscription', 4409, [INIT], [watch('é"')], [ask('é"')]],
    ['nonsense under the id of a subscription', 4409, [INIT], [watch('1')], [subscribe('1', '{')]],
    ['the longest reason', 4409, [INIT], [watch('x'.repeat(93))], [watch('x'.repeat(93))]],
    ['the id of a query again', 'open', [INIT], [ask('1')], [watch('1')]],
    ['the id of an error again', 'open', [INIT], [subscribe('1', '{')], [subscribe('1', WATCH_NOTHING)], [watch('1')]],
    ['complete of an unknown id', 'open', [INIT], [complete('1')], [ask('1')], [complete('1')]],
    ['complete of a subscription', 'open', [INIT], [watch('1')], [complete('1')], [complete('1')]],
    [
      'complete of a subscription, and its id again',
      'open',
      [INIT],
      [watch('1')],
      [complete('1')],
      [watch('1')],
      [complete('1')],
    ],
    ['complete of one of two', 4409, [INIT], [watch('1'), watch('2')], [complete('1')], [watch('2')]],
    ['complete of a query on its way', 'open', [INIT], [ask('1'), complete('1')], [ask('2')]],
    ['complete of a subscription on its way', 'open', [INIT], [watch('1'), complete('1')], [watch('2')]],
    ['what comes after a close', 4400, [INIT], ['nonsense', PING, INIT, ask('1'), complete('1')]],
    ['what comes after a close before init', 4401, [ask('1'), INIT, 'nonsense']],
  ])('%s (%s)', async (_, end, ...steps) => {
    expect(endOf(await compare(steps))).toBe(end);
  });

  test.each(OPERATIONS)('%j with %j, and its id is free again', async (query, more) => {
    const operation = subscribe('1', query, more);
    expect(endOf(await compare([[INIT], [operation], [operation], [watch('1')]]))).toBe('open');
  });

  test.each(MALFORMED.map((message) => [message]))('%j, which is malformed', async (message) => {
    for (const before of [[], [[INIT]], [[INIT], [watch('1')]]]) {
      expect(endOf(await compare([...before, [message], [PING]]))).toBe(4400);
    }
  });

  test.each<[what: string, end: 'open' | number, offer: Offer]>([
    ['no subprotocol', 4406, { protocols: [] }],
    ['a choice', 'open', { protocols: ['graphql-ws', 'foreign', 'graphql-transport-ws'] }],
  ])('%s (%s)', async (_, end, offer) => {
    expect(endOf(await compare([[INIT], [ask('1')]], offer))).toBe(end);
  });

  test(`${SEQUENCES} random sequences (seed ${SEED})`, async () => {
    const ends = new Set<'open' | number>();
    let next = 0;
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let index = next++; index < SEQUENCES; index = next++) {
          const steps = randomSteps(randomFrom(SEED * 1_000 + index));
          ends.add(endOf(await compare(steps, {}, `seed ${SEED}, sequence ${index}: `)));
        }
      }),
    );
    // Else they are not worth much.
    expect(ends).toEqual(new Set(['open', 4400, 4401, 4409, 4429]));
  });
});

function randomSteps(random: (below: number) => number): Step[] {
  const oneOf = <T>(from: readonly T[]): T => {
    const found = from[random(from.length)];
    if (found === undefined) throw new Error('There is nothing to choose from.');
    return found;
  };
  const steps: Step[] = random(10) === 0 ? [] : [[INIT]];
  const length = 1 + random(12);
  while (steps.length < length) steps.push([randomMessage()]);
  return steps;

  function randomMessage(): Message {
    const id = oneOf(IDS.slice(0, 4));
    const dice = random(40);
    if (dice < 12) return subscribe(id, ...oneOf(OPERATIONS));
    if (dice < 20) return watch(id);
    if (dice < 32) return complete(id);
    if (dice < 35) return oneOf([PING, { ...PING, payload: { id } }, { type: 'pong' }]);
    if (dice < 38) return oneOf([complete('unknown'), { type: 'pong', payload: {} }]);
    return dice === 38 ? INIT : oneOf(MALFORMED);
  }
}

// graphql-ws does these otherwise.
describe('ours alone:', () => {
  // graphql-ws throws, and whoever uses it closes with 4500.
  test.each([
    { type: 'next', id: '1', payload: {} },
    { type: 'error', id: '1', payload: [{ message: 'x' }] },
    { type: 'connection_ack' },
    { type: 'connection_ack', payload: { a: 1 } },
  ])('%j, which only a server says, is the client’s fault', async (message) => {
    const reason = `Unexpected message of type ${message.type} received`;
    for (const before of [[], [[INIT]]]) {
      const { end } = await talk(ours, [...before, [message]]);
      expect(end).toEqual({ code: 4400, reason });
    }
  });

  // graphql-ws takes any.
  test('an id may have 128 characters', async () => {
    const { heard, end } = await talk(ours, [[INIT], [ask('x'.repeat(128))], [ask('x'.repeat(129))]]);
    expect(heard[1]?.map(({ type }) => type)).toEqual(['pong', 'next', 'complete']);
    expect(end).toEqual({ code: 4400, reason: 'The operation id is too long' });
  });

  // graphql-ws reads its bytes as text.
  test('a binary message is refused', async () => {
    for (const before of [[], [[INIT]]]) {
      const { end } = await talk(ours, [...before, [Buffer.from(JSON.stringify(PING))]]);
      expect(end).toEqual({ code: 4400, reason: 'Text messages only' });
    }
  });

  // graphql-ws closes with 4500: its reason is longer than a frame may hold.
  test('a reason that is too long is cut', async () => {
    const id = '€'.repeat(60);
    const { end } = await talk(ours, [[INIT], [watch(id)], [watch(id)]]);
    expect(end).toEqual({ code: 4409, reason: `Subscriber for ${'€'.repeat(36)}` });
  });

  // graphql-ws knows operations by their ids, takes the first for the second, and says everything twice.
  test('an id is free at once when its subscription is completed on its way', async () => {
    const again = [watch('1'), complete('1'), watch('1')];
    const { heard, end } = await talk(ours, [[INIT], again, [watch('2')], [complete('1')]]);
    expect(heard.map((answers) => answers.map(({ type }) => type))).toEqual([
      ['connection_ack', 'pong'],
      ['pong', 'next'],
      ['pong', 'next'],
      ['pong'],
    ]);
    expect(end).toBe('open');
  });

  // graphql-ws lets a turn of the loop's microtasks pass before each answer: it hears what came in the same piece first.
  test('who does not wait for an answer hears it all the same', async () => {
    const greeted = await talk(ours, [[INIT, ask('1')]]);
    expect(greeted.heard[0]?.map(({ type }) => type)).toEqual(['connection_ack', 'pong', 'next', 'complete']);
    const twice = await talk(ours, [[INIT, INIT]]);
    expect(twice.heard).toEqual([[{ type: 'connection_ack' }]]);
    expect(endOf(twice)).toBe(4429);
    const refused = await talk(ours, [[INIT], [subscribe('1', '{'), complete('1')]]);
    expect(refused.heard[1]?.map(({ type }) => type)).toEqual(['pong', 'error']);
  });

  // graphql-ws reads on, and does it.
  test('what comes after a close is not done', async () => {
    const poll = await createPoll(server.graphql);
    const ballot = { pollId: poll.id, choiceIds: poll.choiceIds.slice(0, 1) };
    const vote = subscribe('1', VOTE, { variables: { input: ballot } });
    const { heard, end } = await talk(ours, [[INIT], ['nonsense', vote]]);
    expect(heard[1]).toEqual([]);
    expect(end).toEqual({ code: 4400, reason: 'Invalid message received' });
    await castVote(server.graphql, ballot);
    expect((await results(server.graphql, poll.id)).ballotCount).toBe(1);
  });
});
