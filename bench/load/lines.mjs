// A line is a connection that votes. `send(startedAt)` casts the next ballot, `done(line, startedAt, kind, version)` hears what became
// of it: RECORDED, or a word for what went wrong. `width` is how many votes it may have under way.
import { SLOTS } from './ballots.mjs';
import { CLOSE, clientFrame, PING, pong, TEXT, walkFrames } from './frames.mjs';
import { walkReplies } from './replies.mjs';
import { versionReader } from './version.mjs';
import { connect } from './wire.mjs';

const RECORDED = Buffer.from('"RECORDED"');

const has = (buf, needle, start, end) => {
  const found = buf.indexOf(needle, start);
  return found >= 0 && found < end;
};

/** Keep-alive HTTP/1.1, one request at a time. */
export function openHttpLine({ port, ballot, done }) {
  const readVersion = versionReader();
  let startedAt = 0;
  let busy = false;
  return new Promise((ready, failed) => {
    const line = {
      width: 1,
      send(at) {
        startedAt = at;
        busy = true;
        line.wire.write(ballot());
      },
      close: () => line.wire.close(),
      wire: connect(port, {
        opened: () => ready(line),
        walk: (buf, at, end) =>
          walkReplies(buf, at, end, (status, _head, start, stop) => {
            busy = false;
            const good = status === 200 && has(buf, RECORDED, start, stop);
            done(
              line,
              startedAt,
              good ? 'RECORDED' : kindOf(status, buf.utf8Slice(start, stop)),
              readVersion(buf, start, stop),
            );
          }),
        closed() {
          failed(new Error('refused'));
          if (busy) done(null, startedAt, 'connection closed', -1);
        },
      }),
    };
  });
}

const UPGRADE =
  'GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n';
const INIT = clientFrame('{"type":"connection_init"}');
const NEXT = Buffer.from('"type":"next"');
const ACK = Buffer.from('"connection_ack"');
const COMPLETE = Buffer.from('"type":"complete"');
const ID = Buffer.from('"id":"v');
const PONG = clientFrame('{"type":"pong"}');

/** Operations over graphql-transport-ws, `width` of them at a time on one socket. */
export function openSocketLine({ port, ballot, done, width }) {
  const readVersion = versionReader();
  const starts = new Float64Array(SLOTS);
  let slot = 0;
  let underWay = 0;
  let upgraded = false;

  return new Promise((ready, failed) => {
    const line = {
      width,
      send(at) {
        slot = (slot + 1) % SLOTS;
        starts[slot] = at;
        underWay += 1;
        line.wire.write(ballot(slot));
      },
      close: () => line.wire.close(),
      wire: connect(port, {
        opened: (wire) => wire.write(UPGRADE),
        walk(buf, at, end) {
          if (!upgraded) {
            const blank = buf.indexOf('\r\n\r\n', at);
            if (blank < 0 || blank + 4 > end) return at;
            if (buf.latin1Slice(at + 9, at + 12) !== '101') return failed(new Error(buf.latin1Slice(at, end))) ?? end;
            upgraded = true;
            line.wire.write(INIT);
            at = blank + 4;
          }
          return walkFrames(buf, at, end, (opcode, start, stop) => {
            if (opcode === PING) line.wire.write(pong(buf.subarray(start, stop)));
            if (opcode === CLOSE) failed(new Error(buf.latin1Slice(start + 2, stop)));
            if (opcode === TEXT) hear(buf, start, stop);
          });
        },
        closed() {
          failed(new Error('closed'));
          for (; underWay > 0; underWay -= 1) done(null, 0, 'connection closed', -1);
        },
      }),
    };

    function hear(buf, start, stop) {
      if (has(buf, COMPLETE, start, Math.min(stop, start + 64))) return;
      const id = buf.indexOf(ID, start);
      if (id < 0 || id >= stop) {
        if (has(buf, ACK, start, stop)) ready(line);
        else line.wire.write(PONG);
        return;
      }
      underWay -= 1;
      const startedAt = starts[Number(buf.latin1Slice(id + ID.length, id + ID.length + 4))];
      const good = has(buf, NEXT, start, stop) && has(buf, RECORDED, start, stop);
      done(
        line,
        startedAt,
        good ? 'RECORDED' : kindOf(200, JSON.stringify(JSON.parse(buf.utf8Slice(start, stop)).payload)),
        readVersion(buf, start, stop),
      );
    }
  });
}

/** A short name for an answer that is not a recorded vote. */
function kindOf(status, body) {
  try {
    const { data, errors } = JSON.parse(body);
    const vote = data?.castVote;
    const what = vote?.receipt?.outcome ?? vote?.__typename ?? errors?.[0]?.message;
    return status === 200 ? what : `${status} ${what ?? ''}`;
  } catch {
    return `${status} ${body.slice(0, 80)}`;
  }
}
