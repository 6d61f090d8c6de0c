// How a watcher of each kind introduces itself. `opened` and `control` return 'ready' once the server has been asked
// for the results; what the server sends before its first update goes through `control`.
import { randomBytes } from 'node:crypto';
import { clientFrame } from './frames.mjs';
import { watchPayload } from './operations.mjs';

const INIT = clientFrame(JSON.stringify({ type: 'connection_init' }));
const PONG = clientFrame(JSON.stringify({ type: 'pong' }));
const ENGINE_PONG = clientFrame('3');
const SOCKETIO_CONNECT = clientFrame('40');

const subscribe = (pollId) =>
  clientFrame(JSON.stringify({ id: '1', type: 'subscribe', payload: watchPayload(pollId) }));

export const dialects = {
  /** The bare peer: connected is subscribed. */
  ws: {
    framing: 'frames',
    request: () => upgrade('/'),
    opened: () => 'ready',
    control: () => undefined,
  },

  'graphql-ws': {
    framing: 'frames',
    request: () => upgrade('/graphql', 'graphql-transport-ws'),
    opened: (watcher) => void watcher.write(INIT),
    control(watcher, text) {
      const { type, payload } = JSON.parse(text);
      if (type === 'connection_ack') {
        watcher.write(watcher.crowd.once(watcher.pollId, subscribe));
        return 'ready';
      }
      if (type === 'ping') watcher.write(PONG);
      else if (type !== 'pong') throw new Error(`${type}: ${JSON.stringify(payload ?? text).slice(0, 200)}`);
    },
  },

  /** Engine.IO 4 over WebSocket: "0" open, "2" ping, "3" pong, "4" message; Socket.IO in it: "40" connect, "42" event. */
  'socket.io': {
    framing: 'frames',
    request: () => upgrade('/socket.io/?EIO=4&transport=websocket'),
    opened: () => undefined,
    control(watcher, text) {
      if (text === '2') return void watcher.write(ENGINE_PONG);
      if (text.startsWith('40')) return 'ready';
      if (text.startsWith('0')) return void watcher.write(SOCKETIO_CONNECT);
      throw new Error(`not expected: ${text.slice(0, 200)}`);
    },
  },

  /** GraphQL over SSE, distinct connections mode. */
  'graphql-sse': {
    framing: 'events',
    request(pollId) {
      const body = JSON.stringify(watchPayload(pollId));
      return Buffer.from(
        `POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    },
    opened: () => 'ready',
    control: streamControl,
  },

  /** Pollcast's plain stream, for EventSource. */
  stream: {
    framing: 'events',
    request: (pollId) =>
      Buffer.from(`GET /polls/${pollId}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`),
    opened: () => 'ready',
    control: streamControl,
  },
};

/** Comments and empty events keep a stream alive; anything that speaks of an error is one. */
function streamControl(_watcher, text) {
  if (/"errors"|event: (complete|error)/.test(text)) throw new Error(text.trim().slice(0, 200));
}

function upgrade(path, protocol) {
  const lines = [
    `GET ${path} HTTP/1.1`,
    'Host: 127.0.0.1',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    'Sec-WebSocket-Version: 13',
  ];
  if (protocol !== undefined) lines.push(`Sec-WebSocket-Protocol: ${protocol}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`);
}
