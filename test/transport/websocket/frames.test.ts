import { describe, expect, test } from 'vitest';
import { chunk, serverSentEvent } from '../../../src/transport/events/encoding.ts';
import { Frames } from '../../../src/transport/websocket/frames.ts';

/** The text of one unmasked frame that is just these bytes (RFC 6455, 5.2). */
function decode(bytes: Buffer): string {
  expect(bytes[0]).toBe(0x81);
  const short = bytes[1] ?? 0;
  const [head, length] =
    short < 126 ? [2, short] : short === 126 ? [4, bytes.readUInt16BE(2)] : [10, Number(bytes.readBigUInt64BE(2))];
  // The shortest form that holds the length is the only right one.
  expect(head).toBe(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  expect(bytes.length).toBe(head + length);
  return bytes.toString('utf8', head);
}

describe('WebSocket frames', () => {
  // Around the boundaries of the frame header: 125 | 126 and 65 535 | 65 536 bytes of message.
  test.each([
    2, 79, 80, 81, 82, 83, 84, 85, 300, 65_480, 65_488, 65_489, 65_490, 65_491, 65_492, 65_493, 65_494, 70_000,
  ])('a payload of %i bytes arrives whole, for every subscriber', async (size) => {
    const payload = Buffer.from(JSON.stringify('x'.repeat(size - 2)));
    const frames = new Frames(payload);
    for (const id of [
      '1',
      '2',
      'another one',
      'another two',
      '"quoted"\\\u2028é',
      'another three',
      'tab\t',
      'i'.repeat(128),
      '',
    ]) {
      const text = decode(Buffer.from(frames.frame(id)));
      expect(JSON.parse(text)).toEqual({ id, type: 'next', payload: 'x'.repeat(size - 2) });
    }
  });

  test('an id longer than the room gets a buffer of its own', async () => {
    const frames = new Frames(Buffer.from('1'));
    for (const id of ['é'.repeat(600), 'i'.repeat(512), 'i'.repeat(513)]) {
      expect(JSON.parse(decode(frames.frame(id)))).toEqual({ id, type: 'next', payload: 1 });
    }
    expect(JSON.parse(decode(frames.frame('2')))).toEqual({ id: '2', type: 'next', payload: 1 });
  });

  test('a frame that is kept is not written to again', async () => {
    const frames = new Frames(Buffer.from('{"data":1}'));
    const first = frames.frame('first');
    frames.keep();
    const second = frames.frame('second');
    expect(JSON.parse(decode(first)).id).toBe('first');
    expect(JSON.parse(decode(second)).id).toBe('second');
  });
});

test('a server-sent event and a chunk are framed as their standards say', () => {
  expect(serverSentEvent('next', Buffer.from('{"a":1}'), 7).toString()).toBe('id: 7\nevent: next\ndata: {"a":1}\n\n');
  expect(serverSentEvent('complete', '').toString()).toBe('event: complete\ndata: \n\n');
  expect(chunk(Buffer.from('x'.repeat(26))).toString()).toBe(`1a\r\n${'x'.repeat(26)}\r\n`);
});
