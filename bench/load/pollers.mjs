// Watchers without an open stream: long and short polling of `GET /polls/{id}/results`.

import { walkReplies } from './replies.mjs';
import { newTally } from './tally.mjs';
import { gently } from './timing.mjs';
import { versionReader } from './version.mjs';
import { connect } from './wire.mjs';

const WAIT_MS = 25_000;

/** `everyMs` is the interval of short polls; they are spread over it, as those of a real crowd are. */
export function openPollers({ port, dialect, polls, watchers, atOnce = 200, everyMs = 1000 }) {
  const crowd = { ...newTally(), readVersion: versionReader() };
  const kind = dialect === 'long-poll' ? longPoll : shortPoll(everyMs, watchers);
  crowd.watchers = Array.from({ length: watchers }, (_, i) => poller(crowd, port, polls[i % polls.length], kind, i));
  crowd.close = () => {
    crowd.closing = true;
    for (const watcher of crowd.watchers) watcher.stop();
  };
  return gently(crowd.watchers, atOnce, (watcher) => watcher.open()).then(() => crowd);
}

const longPoll = {
  request: (watcher) =>
    get(
      watcher.seen < 0
        ? `/polls/${watcher.pollId}/results`
        : `/polls/${watcher.pollId}/results?afterVersion=${watcher.seen}&waitMs=${WAIT_MS}`,
    ),
  pauseMs: () => 0,
};

const shortPoll = (everyMs, watchers) => ({
  request: (watcher) =>
    get(`/polls/${watcher.pollId}/results`, watcher.seen < 0 ? '' : `If-None-Match: "v${watcher.seen}"\r\n`),
  pauseMs: (index, turn) => (turn === 0 ? (everyMs * index) / watchers : everyMs),
});

const get = (path, headers = '') => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`;

function poller(crowd, port, pollId, kind, index) {
  let timer;
  let turn = 0;
  let ready;
  let failed;
  const watcher = {
    seen: -1,
    pollId,
    wire: null,
    open: () =>
      new Promise((resolve, reject) => {
        ready = resolve;
        failed = reject;
        watcher.wire = connect(port, { opened: ask, walk, closed });
      }),
    stop() {
      clearTimeout(timer);
      watcher.wire?.close();
    },
  };
  return watcher;

  function ask() {
    if (crowd.closing) return;
    const request = kind.request(watcher);
    crowd.requests += 1;
    crowd.bytesOut += request.length;
    watcher.wire.write(request);
  }

  function walk(buf, at, end) {
    return walkReplies(buf, at, end, (status, _head, start, stop) => {
      if (status === 200) {
        const version = crowd.readVersion(buf, start, stop);
        // The same version again is what an interval that ran out may answer; it is not an update.
        if (version !== watcher.seen) crowd.deliver(watcher, version, stop - start);
      } else if (status !== 304) {
        crowd.fault(`HTTP ${status}`);
        failed(new Error(`HTTP ${status}: ${buf.latin1Slice(start, stop).slice(0, 200)}`));
        return;
      }
      ready();
      const ms = kind.pauseMs(index, turn++);
      if (ms > 0) timer = setTimeout(ask, ms);
      else ask();
    });
  }

  function closed() {
    if (crowd.closing) return;
    crowd.fault('closed by the server');
    failed(new Error('closed by the server'));
  }
}
