/** Attacks by connections: slow ones, many, and loud ones. */
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createPoll } from '../support/api.ts';
import { eventually } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { serves, startVictim, type Victim } from '../support/victim.ts';

/** A bare connection, and what comes back on it. */
class Line implements AsyncDisposable {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  text = '';

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (piece) => (this.text += piece));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** `allowHalfOpen`: stays open when the other side has ended. */
  static open(url: string, allowHalfOpen = false): Promise<Line> {
    const { hostname: host, port } = new URL(url);
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port: Number(port), allowHalfOpen }, () => resolve(new Line(socket)));
      socket.once('error', reject);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
  }
}

const everyFew = (run: () => void): NodeJS.Timeout => setInterval(run, 50);

const WEBSOCKET_KEY = 'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n';
const UPGRADE = `GET /graphql HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n${WEBSOCKET_KEY}sec-websocket-protocol: graphql-transport-ws\r\n\r\n`;

describe('slowly', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer({}, { patience: { headersMs: 400, requestMs: 800 } });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('slowloris: heads that never end are cut, while others are served', async () => {
    const lines = await Promise.all(Array.from({ length: 50 }, () => Line.open(server.url)));
    for (const { socket } of lines) socket.write('POST /graphql HTTP/1.1\r\nhost: x\r\n');
    // A drop now and then keeps no head alive.
    const drops = everyFew(() => lines.map(({ socket }) => socket.write('x-more: 1\r\n')));
    await serves(server.graphql);
    await Promise.all(lines.map(({ closed }) => closed));
    clearInterval(drops);
    expect(lines.every(({ text }) => text.startsWith('HTTP/1.1 408 '))).toBe(true);
    await serves(server.graphql);
  });

  test('slow bodies are cut, however they trickle in', async () => {
    const lines = await Promise.all(Array.from({ length: 50 }, () => Line.open(server.url)));
    for (const { socket } of lines) {
      socket.write(
        'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n{',
      );
    }
    const drops = everyFew(() => lines.map(({ socket }) => socket.write(' ')));
    await serves(server.graphql);
    await Promise.all(lines.map(({ closed }) => closed));
    clearInterval(drops);
    await serves(server.graphql);
  });

  test('connections that say nothing are cut too', async () => {
    const lines = await Promise.all(Array.from({ length: 50 }, () => Line.open(server.url)));
    await Promise.all(lines.map(({ closed }) => closed));
    await serves(server.graphql);
  });

  test('what waits for its answer is not: a long poll, a stream and a WebSocket outlive all these times', async () => {
    await using stream = await Line.open(server.url);
    await using webSocket = await Line.open(server.url);
    const poll = await createPoll(server.graphql);
    const { id } = poll;
    stream.socket.write(`GET /polls/${id}/stream HTTP/1.1\r\nhost: x\r\n\r\n`);
    webSocket.socket.write(UPGRADE);
    // Longer than a head, a body and every look at them may take.
    const waited = await fetch(`${server.url}/polls/${id}/results?afterVersion=1&waitMs=2500`);
    expect(waited.status).toBe(304);
    expect(stream.text).toContain('event: results');
    expect(stream.socket.closed).toBe(false);
    expect(webSocket.text).toContain('101 Switching Protocols');
    expect(webSocket.socket.closed).toBe(false);
  });
});

describe('many', () => {
  test('a flood of WebSockets from one address ends at its limit, and votes still pass', async () => {
    await using victim = await startVictim({ CONNECTION_LIMIT: '100' });
    const codes = { open: 0, refused: 0 };
    const sockets = await Promise.all(
      Array.from(
        { length: 300 },
        () =>
          new Promise<WebSocket>((resolve) => {
            const socket = new WebSocket(victim.webSocket, 'graphql-transport-ws');
            socket.on('error', () => {});
            socket.on('open', () => {
              codes.open++;
              resolve(socket);
            });
            socket.on('unexpected-response', (_, response) => {
              if (response.statusCode === 429) codes.refused++;
              socket.terminate();
              resolve(socket);
            });
          }),
      ),
    );
    expect(codes).toEqual({ open: 100, refused: 200 });
    for (const socket of sockets) socket.terminate();
    await eventually(
      async () => (await fetch(`${victim.url}/polls/${victim.poll.id}/results?afterVersion=1&waitMs=1`)).status === 304,
      'there is room',
    );
    await victim.stillServes();
  });

  test('a flood of bare connections from one address ends too', async () => {
    await using victim = await startVictim({ CONNECTION_LIMIT: '10' });
    const lines = await Promise.all(Array.from({ length: 200 }, () => Line.open(victim.url)));
    await eventually(() => lines.filter(({ socket }) => socket.closed).length >= 155, 'those above forty are closed');
    expect(lines.filter(({ socket }) => !socket.closed).length).toBeGreaterThan(30);
    for (const { socket } of lines) socket.destroy();
    await eventually(
      () =>
        fetch(`${victim.url}/healthz`).then(
          ({ ok }) => ok,
          () => false,
        ),
      'there is room',
    );
    await victim.stillServes();
  });

  test('M5 upgrades that are turned away and never closed by their clients hold neither places nor the end', async () => {
    const server = await startServer({ CONNECTION_LIMIT: '5' });
    const lines: Line[] = [];
    for (let time = 0; time < 50; time++) {
      const line = await Line.open(server.url, true);
      lines.push(line);
      line.socket.write(UPGRADE.replace('/graphql', '/nowhere'));
      await eventually(() => line.text.startsWith('HTTP/1.1 404 '), 'it is turned away');
    }
    // Else it would wait for them until the test is over.
    await server[Symbol.asyncDispose]();
    expect(lines.filter(({ socket }) => socket.readyState === 'closed')).toEqual([]);
    for (const { socket } of lines) socket.destroy();
  });

  test('connections that never say connection_init do not stay for good, nor do they stop anybody', async () => {
    await using victim = await startVictim();
    const sockets = Array.from({ length: 200 }, () => new WebSocket(victim.webSocket, 'graphql-transport-ws'));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('open', resolve))));
    await victim.stillServes();
    const [first] = sockets;
    const code = await new Promise((resolve) => first?.once('close', resolve));
    expect(code).toBe(4408);
    for (const socket of sockets) socket.terminate();
    await victim.stillServes();
  }, 40_000);
});

describe('loudly', () => {
  let victim: Victim;
  beforeAll(async () => {
    victim = await startVictim();
  });
  afterAll(() => victim[Symbol.asyncDispose]());

  async function joined(): Promise<{ socket: WebSocket; said: { type: string; id?: string; payload?: unknown }[] }> {
    const socket = new WebSocket(victim.webSocket, 'graphql-transport-ws');
    const said: { type: string }[] = [];
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('open', resolve));
    const acknowledged = new Promise((resolve) => socket.once('message', resolve));
    socket.on('message', (data) => said.push(JSON.parse(String(data))));
    socket.send('{"type":"connection_init"}');
    await acknowledged;
    said.length = 0;
    return { socket, said };
  }

  test('a flood of subscriptions on a connection ends at a hundred, said so to each', async () => {
    const { socket, said } = await joined();
    const query = `subscription { pollResults(pollId: "${victim.poll.id}") { version } }`;
    for (let id = 0; id < 1_000; id++)
      socket.send(JSON.stringify({ id: String(id), type: 'subscribe', payload: { query } }));
    await eventually(() => said.length >= 1_000, 'each was answered');
    expect(said.filter(({ type }) => type === 'next')).toHaveLength(100);
    const errors = said.filter(({ type }) => type === 'error');
    expect(errors).toHaveLength(900);
    expect(JSON.stringify(errors[0]?.payload)).toContain('At most 100 operations at once');
    socket.terminate();
    await victim.stillServes();
  });

  test('subscribing and completing without end costs only the one who does', async () => {
    const { socket, said } = await joined();
    const query = `subscription { pollResults(pollId: "${victim.poll.id}") { version } }`;
    for (let id = 0; id < 3_000; id++) {
      socket.send(JSON.stringify({ id: String(id), type: 'subscribe', payload: { query } }));
      socket.send(JSON.stringify({ id: String(id), type: 'complete' }));
    }
    // Refused as long as too many are on their way; then there is room again, and nothing has been kept.
    let tries = 0;
    const answered = () => {
      const answers = said.filter(({ id }) => id === `try${tries}`);
      if (answers.some(({ type }) => type === 'next')) return true;
      if (tries > 0 && answers.length === 0) return false;
      tries++;
      socket.send(JSON.stringify({ id: `try${tries}`, type: 'subscribe', payload: { query: '{ __typename }' } }));
      return false;
    };
    await eventually(answered, 'there is room again');
    socket.terminate();
    await victim.stillServes();
  });

  test.each<[string, (socket: WebSocket) => void, number]>([
    ['a message of 65 KB', (socket) => socket.send('x'.repeat(65 * 1_024)), 1009],
    [
      'a message of 65 KB in a thousand pieces',
      (socket) => {
        for (let piece = 0; piece < 1_000; piece++) socket.send('x'.repeat(66), { fin: false });
        socket.send('x', { fin: true });
      },
      1009,
    ],
    ['invalid UTF-8', (socket) => socket.send(Buffer.from([0xc3, 0x28, 0xff]), { binary: false }), 1007],
    ['a list', (socket) => socket.send('[]'), 4400],
    ['a nested list', (socket) => socket.send('['.repeat(60_000)), 4400],
    ['an operation by prototype', (socket) => socket.send('{"id":"1","type":"__proto__"}'), 4400],
    [
      'an id that is an object',
      (socket) => socket.send('{"id":{"toString":1},"type":"subscribe","payload":{"query":"{__typename}"}}'),
      4400,
    ],
    [
      'an id of 10 KB',
      (socket) =>
        socket.send(
          JSON.stringify({ id: 'x'.repeat(10_000), type: 'subscribe', payload: { query: '{ __typename }' } }),
        ),
      4400,
    ],
  ])('%s closes the connection that sent it', async (_, send, expected) => {
    const { socket } = await joined();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    send(socket);
    expect(await closed).toBe(expected);
    await victim.stillServes();
  });

  test('an unmasked frame and a frame that announces 2^63 bytes close the connection', async () => {
    for (const frame of [
      Buffer.from([0x81, 0x02, 0x7b, 0x7d]),
      Buffer.from([0x81, 0xff, 0x7f, ...Array(11).fill(0xff)]),
    ]) {
      const line = await Line.open(victim.url);
      line.socket.write(UPGRADE);
      await eventually(() => line.text.includes('101 Switching Protocols'), 'upgraded');
      line.socket.write(frame);
      await line.closed;
    }
    await victim.stillServes();
  });

  test('pings without end, and answers that nobody reads, do not pile up', async () => {
    const { socket } = await joined();
    socket.pause();
    const query = '{ __schema { types { name fields { name description } } } }';
    for (let id = 0; id < 500; id++) {
      socket.ping('x'.repeat(100));
      socket.send('{"type":"ping"}');
      socket.send(JSON.stringify({ id: `q${id}`, type: 'subscribe', payload: { query } }));
    }
    await victim.stillServes();
    socket.terminate();
    await victim.stillServes();
  });

  test('who sends too much reads why, however late it looks, and is not reset while it sends', async () => {
    const line = await Line.open(victim.url);
    line.socket.write(
      'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 4000000\r\n\r\n',
    );
    line.socket.write('x'.repeat(1_100_000));
    await eventually(() => line.text.endsWith('}]}'), 'the answer is here');
    expect(line.text).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*must have at most 1000000 bytes/i);
    const rest = 'x'.repeat(100_000);
    const send = (): Promise<unknown> => new Promise((resolve) => line.socket.write(rest, resolve));
    for (let count = 1; count < 29; count++) {
      expect(await send()).toBeFalsy();
      // Others are served meanwhile, and a connection that was closed would be known to be.
      await serves(victim.graphql);
      expect(line.socket.readyState).toBe('open');
    }
    await send();
    await line.closed;
    expect(line.socket.errored).toBeNull();
    await victim.stillServes();
  });

  test('bodies of 50 MB are refused before they are here', async () => {
    const lines = await Promise.all(Array.from({ length: 10 }, () => Line.open(victim.url)));
    const megabyte = 'x'.repeat(1_000_000);
    for (const { socket } of lines) {
      socket.write(
        'POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
      );
      for (let count = 0; count < 50; count++) socket.write(`${(1_000_000).toString(16)}\r\n${megabyte}\r\n`);
    }
    // Who goes on sending loses the answer with the connection.
    await Promise.all(lines.map(({ closed }) => closed));
    expect(lines.filter(({ text }) => text !== '' && !text.startsWith('HTTP/1.1 413 '))).toEqual([]);
    await victim.stillServes();
    for (const { socket } of lines) socket.destroy();
  });
});
