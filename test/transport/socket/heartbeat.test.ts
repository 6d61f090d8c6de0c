/** Dead peers are found and dropped, on real sockets that open a subscription and then say nothing more. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { connect, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { PLAIN } from '../../../src/transport/events/formats.ts';
import { Stream } from '../../../src/transport/events/stream.ts';
import { castVote, createPoll } from '../../support/api.ts';
import { eventually, overEvents, overWebSocket } from '../../support/peers.ts';
import { startServer, type TestServer } from '../../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  // The product looks every 25 s; the rest is the same.
  server = await startServer({ LIVE_INTERVAL_MS: '10' }, { livenessRoundMs: 200, stallMs: 60_000 });
});
afterAll(() => server[Symbol.asyncDispose]());

/** A masked text frame, as a client sends it. */
function clientFrame(text: string): Buffer {
  const data = Buffer.from(text);
  const head =
    data.length < 126
      ? Buffer.from([0x81, 0x80 | data.length])
      : Buffer.from([0x81, 0xfe, data.length >> 8, data.length & 255]);
  return Buffer.concat([head, Buffer.alloc(4), data]);
}

/** Speaks just enough WebSocket to subscribe, and answers no ping. */
async function muteWatcher(pollId: string): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    `GET /graphql HTTP/1.1\r\nHost: ${hostname}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n',
  );
  const seen = (text: string) =>
    new Promise<void>((resolve) => {
      const look = (data: Buffer): void => {
        if (!data.includes(text)) return;
        socket.off('data', look);
        resolve();
      };
      socket.on('data', look);
    });
  await seen('101 Switching');
  socket.write(clientFrame('{"type":"connection_init"}'));
  await seen('connection_ack');
  const query = `subscription { pollResults(pollId: "${pollId}") { version } }`;
  socket.write(clientFrame(JSON.stringify({ type: 'subscribe', id: '1', payload: { query } })));
  await seen('"version"');
  return socket;
}

test('L5 a stream whose reader takes one update after the other is not taken for stuck, however much of each waits', () => {
  const line = new Socket();
  let waits = 0;
  Object.defineProperty(line, 'writableLength', { get: () => waits });
  line.write = () => false;
  const stream = new Stream(new ServerResponse(new IncomingMessage(line)), line, PLAIN, 'somewhere');
  const payload = Buffer.from('{}');
  stream.push({ cursor: 1, payload, final: false });
  waits = 500;
  expect(stream.isAlive()).toBe(true);
  stream.push({ cursor: 2, payload, final: false });
  expect(stream.isAlive()).toBe(true);
  expect(stream.isAlive()).toBe(false);
});

describe('liveness', () => {
  test('a WebSocket that answers no ping is dropped; those that do, or say anything, stay', async () => {
    const poll = await createPoll(server.graphql);
    await using alive = await overWebSocket(server.graphql, { pollId: poll.id });
    await using stream = await overEvents(server.graphql, { pollId: poll.id });
    await alive.next();
    await stream.next();
    const mute = await muteWatcher(poll.id);
    const closed = new Promise((resolve) => mute.once('close', resolve));
    mute.on('error', () => {});
    expect(server.app.connections()).toMatchObject({ webSockets: 2, watching: 3 });
    await closed;
    await eventually(() => server.app.connections().watching === 2, 'only the living watch');
    const { receipt } = await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    expect((await alive.next()).version).toBe(receipt.version);
    expect((await stream.next()).version).toBe(receipt.version);
  });

  test('a WebSocket whose upgrade asked for an event stream stays as well', async () => {
    const headers = { accept: 'text/event-stream' };
    const socket = new WebSocket(server.graphql.replace('http', 'ws'), 'graphql-transport-ws', { headers });
    let closed = false;
    socket.on('close', () => (closed = true));
    await new Promise((resolve) => socket.once('open', resolve));
    for (let ping = 0; ping < 4; ping++) await new Promise((resolve) => socket.once('ping', resolve));
    expect(closed).toBe(false);
    socket.terminate();
  });

  test('an event stream whose reader is stuck is dropped', async () => {
    const poll = await createPoll(server.graphql, {
      choices: Array.from({ length: 100 }, (_, n) => `${n} ${'z'.repeat(190)}`),
    });
    await using awake = await overWebSocket(server.graphql, { pollId: poll.id });
    await awake.next();
    await using stuck = await overEvents(server.graphql, { pollId: poll.id });
    await stuck.next();
    stuck.pause();
    await eventually(async () => {
      const { receipt } = await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
      await awake.until(({ version }) => version >= receipt.version);
      return server.app.connections().streams === 0;
    }, 'the stuck stream is dropped');
  }, 60_000);
});
