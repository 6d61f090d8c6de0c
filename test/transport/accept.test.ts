/** Who begins by asking for an event stream leaves Node's HTTP server: byte for byte it must behave like any other connection. */
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Store } from '../../src/ports/store.ts';
import { castVote, createPoll, manage, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';

const soon = (check: () => void) => vi.waitFor(check, { timeout: 5_000, interval: 10 });

const STREAM = 'accept: text/event-stream\r\n';

let server: TestServer;
let poll: TestPoll;
const lines: Socket[] = [];
beforeAll(async () => {
  server = await startServer({ LIVE_INTERVAL_MS: '10', CONNECTION_LIMIT: '20' });
  poll = await createPoll(server.graphql);
});
afterAll(async () => {
  for (const line of lines) line.destroy();
  await server[Symbol.asyncDispose]();
});

/** A bare connection: what comes back on it, and whether the other side has ended it. */
async function open(url = server.url) {
  const { hostname, port } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
  lines.push(socket);
  const line = { socket, text: '', ended: false };
  socket.setEncoding('latin1');
  socket.on('data', (piece: string) => (line.text += piece));
  socket.on('end', () => (line.ended = true));
  socket.on('error', () => (line.ended = true));
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  return line;
}

const count = (text: string, part: string): number => text.split(part).length - 1;
const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nhost: x\r\n${headers}\r\n`;
const streamOf = (id: string): string => get(`/polls/${id}/stream`, STREAM);
const vote = (to = poll) => castVote(server.graphql, { pollId: to.id, choiceIds: [to.choiceIds[0]] });
const idle = () => soon(() => expect(server.app.connections()).toMatchObject({ streams: 0, watching: 0 }));

test('a stream has its connection to itself, and says so; who leaves it leaves nothing behind', async () => {
  const line = await open();
  line.socket.write(streamOf(poll.id));
  await soon(() => expect(line.text).toContain('event: results'));
  expect(line.text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(line.text).toMatch(/\r\nconnection: close\r\n/i);
  await vote();
  await soon(() => expect(count(line.text, 'event: results')).toBe(2));
  line.socket.destroy();
  await idle();
});

test('a request in pieces, a byte at a time, is the same stream', async () => {
  const line = await open();
  for (const byte of streamOf(poll.id)) {
    line.socket.write(byte);
    await new Promise(setImmediate);
  }
  await soon(() => expect(line.text).toContain('event: results'));
  await vote();
  await soon(() => expect(count(line.text, 'event: results')).toBe(2));
  line.socket.destroy();
  await idle();
});

test('a GraphQL stream whose body comes later', async () => {
  const line = await open();
  const body = JSON.stringify({ query: `subscription { pollResults(pollId: "${poll.id}") { version } }` });
  const head = `POST /graphql HTTP/1.1\r\nhost: x\r\n${STREAM}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
  line.socket.write(head);
  await new Promise((resolve) => setTimeout(resolve, 30));
  line.socket.write(body.slice(0, 10));
  await new Promise((resolve) => setTimeout(resolve, 30));
  line.socket.write(body.slice(10));
  await soon(() => expect(line.text).toContain('event: next'));
  line.socket.destroy();
  await idle();
});

test('what is no stream after all is answered, and the connection goes on', async () => {
  const line = await open();
  line.socket.write(streamOf('nothing'));
  await soon(() => expect(line.text).toContain('NOT_FOUND'));
  expect(line.text).toMatch(/^HTTP\/1\.1 404 /);
  line.socket.write(get(`/polls/${poll.id}/results`));
  await soon(() => expect(line.text).toContain('"version"'));
  line.socket.write(streamOf(poll.id));
  await soon(() => expect(line.text).toContain('event: results'));
  line.socket.destroy();
  await idle();
});

test('several requests in one piece are answered in turn', async () => {
  const line = await open();
  line.socket.write(get(`/polls/${poll.id}/results`) + get('/healthz') + get('/nothing', STREAM));
  await soon(() => expect(count(line.text, 'HTTP/1.1 ')).toBe(3));
  expect(line.text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 404']);
  line.socket.write('nonsense\r\n\r\n');
  await soon(() => expect(line.text).toContain('HTTP/1.1 400 '));
  await soon(() => expect(line.ended).toBe(true));
});

test('an answer of megabytes arrives whole, however slowly it is read', async () => {
  const choices = Array.from({ length: 100 }, (_, index) => `${index} ${'x'.repeat(190)}`);
  const large = await createPoll(server.graphql, { choices });
  const line = await open();
  // Asked with the stream's header in the first piece, so that all of it passes through the stand-in.
  const one = get(`/polls/${large.id}/results`);
  line.socket.pause();
  line.socket.write(get('/nothing', STREAM) + one.repeat(100));
  await new Promise((resolve) => setTimeout(resolve, 300));
  line.socket.resume();
  await soon(() => expect(count(line.text, '"version"')).toBe(100));
  expect(line.text.length).toBeGreaterThan(2_000_000);
  line.socket.destroy();
});

test('L6 after the final results the body ends as chunks end, and then the connection', async () => {
  const own = await createPoll(server.graphql);
  const line = await open();
  line.socket.write(streamOf(own.id));
  await soon(() => expect(line.text).toContain('event: results'));
  const mutation = `mutation { closePoll(input: { pollId: "${own.id}" }) { __typename } }`;
  await fetch(server.graphql, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${own.organizerKey}` },
    body: JSON.stringify({ query: mutation }),
  });
  await soon(() => expect(line.ended).toBe(true));
  expect(line.text).toContain('"isFinal":true');
  expect(line.text.endsWith('\r\n0\r\n\r\n')).toBe(true);
  await idle();
});

test.each([STREAM, 'accept: text/event-stream, */*\r\n'])('HTTP/1.0 gets no chunks (%j)', async (accept) => {
  const own = await createPoll(server.graphql);
  const line = await open();
  line.socket.write(get(`/polls/${own.id}/stream`, accept).replace('HTTP/1.1', 'HTTP/1.0'));
  await soon(() => expect(line.text).toContain('event: results'));
  await manage(server.graphql, 'closePoll', own);
  await soon(() => expect(line.ended).toBe(true));
  const [head = '', body = ''] = line.text.split(/\r\n\r\n([\s\S]*)/);
  expect(head).not.toMatch(/transfer-encoding/i);
  expect(body).toMatch(/^retry: \d+\n:\n\nid: 1\nevent: results\n/);
  expect(body).not.toContain('\r');
  expect(body.endsWith('event: complete\ndata: \n\n')).toBe(true);
});

test('who ends its side has left', async () => {
  const line = await open();
  line.socket.write(streamOf(poll.id));
  await soon(() => expect(line.text).toContain('event: results'));
  line.socket.end();
  await idle();
  await soon(() => expect(line.ended).toBe(true));
});

test('who ends its side before it has said anything gives its place back at once', async () => {
  for (let time = 0; time < 200; time++) (await open()).socket.end();
  const line = await open();
  line.socket.write(streamOf(poll.id));
  await soon(() => expect(line.text).toContain('event: results'));
  line.socket.destroy();
  await idle();
});

test('what is sent after the request is not read as one', async () => {
  const line = await open();
  line.socket.write(streamOf(poll.id));
  await soon(() => expect(line.text).toContain('event: results'));
  line.socket.write(get('/healthz').repeat(100));
  await vote();
  await soon(() => expect(count(line.text, 'event: results')).toBe(2));
  expect(count(line.text, 'HTTP/1.1')).toBe(1);
  line.socket.destroy();
  await idle();
});

describe('places', () => {
  test('a stream takes one until its connection ends, not only until it has begun', async () => {
    const streams = await Promise.all(Array.from({ length: 20 }, () => open()));
    for (const line of streams) line.socket.write(streamOf(poll.id));
    await soon(() => expect(streams.every(({ text }) => text.includes('event: results'))).toBe(true));
    const late = await open();
    late.socket.write(streamOf(poll.id));
    await soon(() => expect(late.text).toMatch(/^HTTP\/1\.1 429 /));
    for (const { socket } of streams.slice(0, 5)) socket.destroy();
    await soon(() => expect(server.app.connections().streams).toBe(15));
    const next = await open();
    next.socket.write(streamOf(poll.id));
    await soon(() => expect(next.text).toContain('event: results'));
    for (const { socket } of [...streams, next]) socket.destroy();
    await idle();
  });
});

describe('at the end', () => {
  test('connections that said nothing do not hold the server, nor do streams that nobody reads', async () => {
    const own = await startServer({ DRAIN_MS: '200' });
    const [silent, stream] = [await open(own.url), await open(own.url)];
    const theirs = await createPoll(own.graphql);
    stream.socket.write(streamOf(theirs.id));
    await soon(() => expect(stream.text).toContain('event: results'));
    await own[Symbol.asyncDispose]();
    await soon(() => expect([silent.ended, stream.ended]).toEqual([true, true]));
    expect(stream.text).toContain('retry: ');
  });

  test.each([STREAM, 'accept: */*\r\n'])(
    'a stream to nothing that is sent away before that is known (%j)',
    async (accept) => {
      let reached = false;
      let goOn = (): void => {};
      const later = new Promise<void>((resolve) => (goOn = resolve));
      const slowly = (store: Store): Store => {
        const loadPoll = async (...args: Parameters<Store['loadPoll']>): ReturnType<Store['loadPoll']> => {
          reached = true;
          const state = await store.loadPoll(...args);
          await later;
          return state;
        };
        return Object.assign(Object.create(store), { loadPoll });
      };
      const faults: unknown[] = [];
      const note = (error: unknown): void => void faults.push(error);
      process.on('unhandledRejection', note);
      const own = await startServer({}, { storeBehind: slowly });
      const line = await open(own.url);
      line.socket.write(get('/polls/aaaaaaaaaaaaaaaa/stream', accept));
      await soon(() => expect(reached).toBe(true));
      const stopped = own[Symbol.asyncDispose]();
      goOn();
      await stopped;
      await new Promise(setImmediate);
      process.off('unhandledRejection', note);
      expect(faults).toEqual([]);
      // Not for good: its client comes back, to whoever takes it then.
      expect(line.text).toMatch(/^HTTP\/1\.1 200 [\s\S]*retry: /);
    },
  );
});
