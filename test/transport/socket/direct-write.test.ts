/** Bytes past Node's streams, on real sockets: what the kernel does not take at once still arrives, whole and in order. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { DetachableSocket } from '../../../src/transport/events/detached-socket.ts';
import { writeDirect } from '../../../src/transport/socket/direct-write.ts';
import { eventually } from '../../support/peers.ts';

/** Both ends of a connection. */
async function openPair(): Promise<{ near: Socket; far: Socket } & AsyncDisposable> {
  const server = createServer();
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const far = connect(port, '127.0.0.1');
  far.on('error', () => {});
  const near = await accepted;
  near.on('error', () => {});
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      near.destroy();
      far.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A piece that says where it belongs. */
const piece = (n: number, length: number): Buffer => Buffer.from(`${n} `.padEnd(length, 'x'));

test('what there is room for is taken at once, and Node keeps nothing of it', async () => {
  await using pair = await openPair();
  let text = '';
  pair.far.setEncoding('utf8').on('data', (data) => (text += data));
  expect(writeDirect(pair.near, Buffer.from('one '))).toBe(true);
  pair.near.write('two ');
  await eventually(() => pair.near.writableLength === 0, 'the stream has written');
  expect(writeDirect(pair.near, Buffer.from('three'))).toBe(true);
  expect(pair.near.writableLength).toBe(0);
  await eventually(() => text === 'one two three', 'all is there, in order');
});

test('L5 a reader that stops: the rest waits in the stream, whole and in order, and nothing passes it', async () => {
  await using pair = await openPair();
  pair.far.pause();
  const sent: Buffer[] = [];
  let taken = true;
  while (taken) {
    const next = piece(sent.length, 100_000);
    sent.push(next);
    taken = writeDirect(pair.near, next);
    expect(sent.length).toBeLessThan(1_000);
  }
  expect(pair.near.writableLength).toBeGreaterThan(0);
  // Behind what waits, however little it is.
  const last = piece(sent.length, 10);
  sent.push(last);
  expect(writeDirect(pair.near, last)).toBe(false);
  const whole = Buffer.concat(sent);
  const got: Buffer[] = [];
  let length = 0;
  pair.far.on('data', (data: Buffer) => {
    got.push(data);
    length += data.length;
  });
  pair.far.resume();
  await eventually(() => length >= whole.length, 'all is there');
  expect(Buffer.concat(got).equals(whole)).toBe(true);
  // And it goes on directly.
  expect(pair.near.writableLength).toBe(0);
  expect(writeDirect(pair.near, Buffer.from('more'))).toBe(true);
});

test('L5 through the stand-in for a connection too, what the kernel has not taken is not said to be taken', async () => {
  await using pair = await openPair();
  pair.far.pause();
  const guest = new DetachableSocket(pair.near);
  guest.on('error', () => {});
  let sent = 0;
  // Each a little, as a frame is: Node's stream takes many of them before it asks for patience.
  while (writeDirect(guest, piece(sent, 1_000))) expect(++sent).toBeLessThan(100_000);
  expect(pair.near.writableLength).toBeLessThanOrEqual(1_000);
  expect(guest.writableLength).toBeGreaterThan(0);
  let length = 0;
  pair.far.on('data', (data: Buffer) => (length += data.length));
  pair.far.resume();
  await eventually(() => length === (sent + 1) * 1_000, 'all is there');
  expect(guest.writableLength).toBe(0);
  expect(writeDirect(guest, piece(sent, 1_000))).toBe(true);
});

test('a peer that is gone closes the stream, as with any write; a closed one takes nothing, and throws nothing', async () => {
  await using pair = await openPair();
  const closed = new Promise((resolve) => pair.near.once('close', resolve));
  pair.far.resetAndDestroy();
  for (let n = 0; n < 100 && !pair.near.destroyed; n++) {
    writeDirect(pair.near, piece(n, 1_000));
    await new Promise(setImmediate);
  }
  await closed;
  expect(() => writeDirect(pair.near, Buffer.from('late'))).not.toThrow();
});

test('the number of a closed connection goes to the next one: what is written to the first never reaches it', async () => {
  await using first = await openPair();
  first.near.destroy();
  await new Promise((resolve) => first.near.once('close', resolve));
  await using second = await openPair();
  let text = '';
  second.far.setEncoding('utf8').on('data', (data) => (text += data));
  writeDirect(first.near, Buffer.from('for the first'));
  writeDirect(second.near, Buffer.from('for the second'));
  await eventually(() => text !== '', 'something is there');
  expect(text).toBe('for the second');
});

test('a stream that is no socket is written to as such', async () => {
  const written: string[] = [];
  const stream = new Duplex({
    read() {},
    write(data, _, done) {
      written.push(String(data));
      done();
    },
  });
  writeDirect(stream, Buffer.from('a'));
  expect(written).toEqual(['a']);
});
