// Many watchers in one process, over sockets that stay open. What they see is counted here.
import { dialects } from './dialects.mjs';
import { eventWalker } from './events.mjs';
import { CLOSE, PING, pong, TEXT, walkFrames } from './frames.mjs';
import { newTally } from './tally.mjs';
import { gently } from './timing.mjs';
import { versionReader } from './version.mjs';
import { connect } from './wire.mjs';

const HEAD_END = Buffer.from('\r\n\r\n');

/** `polls` are watched in turn: watcher i watches polls[i % polls.length]. Opens at most `atOnce` at the same time. */
export function openCrowd({ port, dialect, polls, watchers, atOnce = 200 }) {
  const ways = dialects[dialect];
  const memo = new Map();
  const crowd = {
    ...newTally(),
    ways,
    readVersion: versionReader(),
    walkEvents: eventWalker(),
    /** Bytes that are the same for all watchers of a poll, made once. */
    once(key, make) {
      if (!memo.has(key)) memo.set(key, make(key));
      return memo.get(key);
    },
  };
  crowd.watchers = Array.from({ length: watchers }, (_, i) => new Watcher(crowd, polls[i % polls.length]));
  crowd.close = () => {
    crowd.closing = true;
    for (const watcher of crowd.watchers) watcher.wire?.close();
  };
  return gently(crowd.watchers, atOnce, (watcher) => watcher.open(port)).then(() => crowd);
}

class Watcher {
  seen = -1;
  greeted = false;
  wire = null;

  constructor(crowd, pollId) {
    this.crowd = crowd;
    this.pollId = pollId;
    this.walk = crowd.ways.framing === 'frames' ? this.walkFrames : this.walkEvents;
  }

  open(port) {
    return new Promise((ready, failed) => {
      this.ready = ready;
      this.failed = failed;
      this.wire = connect(port, {
        opened: (wire) => wire.write(this.crowd.ways.request(this.pollId)),
        walk: (buf, at, end) => (this.greeted ? this.walk(buf, at, end) : this.greet(buf, at, end)),
        closed: () => {
          if (!this.crowd.closing) this.fault('closed by the server');
        },
      });
    });
  }

  write(bytes) {
    this.wire.write(bytes);
    this.crowd.bytesOut += bytes.length;
  }

  greet(buf, at, end) {
    const blank = buf.indexOf(HEAD_END, at);
    if (blank < 0 || blank + 4 > end) return at;
    const status = buf.latin1Slice(at + 9, at + 12);
    if (status !== (this.crowd.ways.framing === 'frames' ? '101' : '200')) {
      this.fault(`HTTP ${status}: ${buf.latin1Slice(blank + 4, end).slice(0, 200)}`);
      return end;
    }
    this.greeted = true;
    this.settle(this.crowd.ways.opened(this));
    return this.walk(buf, blank + 4, end);
  }

  walkFrames(buf, at, end) {
    return walkFrames(buf, at, end, (opcode, start, stop) => {
      if (opcode === TEXT) this.text(buf, start, stop);
      else if (opcode === PING) this.write(pong(buf.subarray(start, stop)));
      else if (opcode === CLOSE) this.fault(`closed: ${buf.readUInt16BE(start)} ${buf.latin1Slice(start + 2, stop)}`);
    });
  }

  walkEvents(buf, at, end) {
    return this.crowd.walkEvents(buf, at, end, (start, stop) => this.text(buf, start, stop));
  }

  text(buf, start, stop) {
    const version = this.crowd.readVersion(buf, start, stop);
    if (version >= 0) return this.crowd.deliver(this, version, stop - start);
    try {
      this.settle(this.crowd.ways.control(this, buf.latin1Slice(start, stop)));
    } catch (error) {
      this.fault(error.message);
    }
  }

  settle(word) {
    if (word === 'ready') this.ready();
  }

  fault(reason) {
    this.crowd.fault(reason);
    this.failed(new Error(reason));
  }
}
