import { describe, expect, test } from 'vitest';
import { Receiver } from 'ws';
import { chunk, Frames, nextPrefix, serverSentEvent } from '../../src/transport/frames.ts';

/** What a WebSocket client makes of the bytes. */
function decode(bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const receiver = new Receiver({ isServer: false });
    receiver.on('message', (data) => resolve(String(data)));
    receiver.on('error', reject);
    receiver.write(bytes);
  });
}

describe('WebSocket frames', () => {
  // Around the boundaries of the frame header: 125 | 126 and 65 535 | 65 536 bytes of message.
  test.each([
    2, 79, 80, 81, 82, 83, 84, 85, 300, 65_480, 65_488, 65_489, 65_490, 65_491, 65_492, 65_493, 65_494, 70_000,
  ])('a payload of %i bytes arrives whole, for every subscriber', async (size) => {
    const payload = Buffer.from(JSON.stringify('x'.repeat(size - 2)));
    const frames = new Frames(payload);
    for (const id of ['1', 'another one', '"quoted"\\\u2028é', 'i'.repeat(128)]) {
      const text = await decode(Buffer.from(frames.frame(nextPrefix(id))));
      expect(JSON.parse(text)).toEqual({ id, type: 'next', payload: 'x'.repeat(size - 2) });
    }
  });

  test('a prefix longer than the room gets a buffer of its own', async () => {
    const frames = new Frames(Buffer.from('1'));
    const id = 'é'.repeat(600);
    expect(JSON.parse(await decode(frames.frame(nextPrefix(id))))).toEqual({ id, type: 'next', payload: 1 });
    expect(JSON.parse(await decode(frames.frame(nextPrefix('2'))))).toEqual({ id: '2', type: 'next', payload: 1 });
  });

  test('a frame that is kept is not written to again', async () => {
    const frames = new Frames(Buffer.from('{"data":1}'));
    const first = frames.frame(nextPrefix('first'));
    frames.keep();
    const second = frames.frame(nextPrefix('second'));
    expect(JSON.parse(await decode(first)).id).toBe('first');
    expect(JSON.parse(await decode(second)).id).toBe('second');
  });
});

test('a server-sent event and a chunk are framed as their standards say', () => {
  expect(serverSentEvent('next', Buffer.from('{"a":1}'), 7).toString()).toBe('id: 7\nevent: next\ndata: {"a":1}\n\n');
  expect(serverSentEvent('complete', '').toString()).toBe('event: complete\ndata: \n\n');
  expect(chunk(Buffer.from('x'.repeat(26))).toString()).toBe(`1a\r\n${'x'.repeat(26)}\r\n`);
});
