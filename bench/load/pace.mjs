// A steady trickle of votes, and how long after its acknowledgement each vote is seen by each watcher.
import { cpuOf, shares } from '../lib/proc.mjs';
import { httpBallots } from './ballots.mjs';
import { openHttpLine } from './lines.mjs';
import { pause, quantiles } from './timing.mjs';

/**
 * A vote every `everyMs`. A watcher has seen a vote when it receives its version or a newer one. What arrives before the
 * acknowledgement itself counts as 0 ms. `settle` seconds at the end let the last votes arrive.
 */
export async function pace(crowd, { port, polls, everyMs, warmup, seconds, settle = 3, cpu = {} }) {
  const known = new Map(); // version -> when its vote was sent and acknowledged
  const early = new Map(); // version -> when it was seen, while its acknowledgement is still to come
  let delays = [];
  let sinceSent = [];
  let votes = 0;
  let trouble;
  let underWay = false;
  const line = await openHttpLine({ port, ballot: httpBallots(polls.slice(0, 1)), done: acknowledged });

  function acknowledged(_line, sent, kind, version) {
    underWay = false;
    if (kind !== 'RECORDED') {
      trouble = kind;
      return;
    }
    votes += 1;
    const times = { sent, acknowledged: performance.now() };
    known.set(version, times);
    for (const now of early.get(version) ?? []) record(times, now);
    early.delete(version);
  }

  function record(times, now) {
    delays.push(Math.max(0, now - times.acknowledged));
    sinceSent.push(now - times.sent);
  }

  crowd.onSeen = (_watcher, before, version) => {
    const now = performance.now();
    for (let seen = Math.max(before + 1, version - 100); seen <= version; seen += 1) {
      const times = known.get(seen);
      if (times !== undefined) record(times, now);
      else if (!early.has(seen)) early.set(seen, [now]);
      else early.get(seen).push(now);
    }
  };

  // A vote that is still under way makes the next one wait for its turn.
  const timer = setInterval(() => {
    if (underWay) return;
    underWay = true;
    line.send(performance.now());
  }, everyMs);
  await pause(warmup * 1000);
  delays = [];
  sinceSent = [];
  const start = {
    at: performance.now(),
    votes,
    in: crowd.bytesIn(),
    out: crowd.bytesOut,
    requests: crowd.requests,
    cpu: cpuOf(cpu),
  };
  await pause(seconds * 1000);
  const took = (performance.now() - start.at) / 1000;
  const used = shares(start.cpu, cpuOf(cpu), took);
  const counted = {
    votes: votes - start.votes,
    bytes: crowd.bytesIn() - start.in + crowd.bytesOut - start.out,
    requests: crowd.requests - start.requests,
  };
  clearInterval(timer);
  await pause(settle * 1000);
  crowd.onSeen = () => {};
  line.close();
  if (trouble !== undefined) throw new Error(`a vote was answered with ${trouble}`);
  return {
    delay: quantiles(delays),
    sinceSent: quantiles(sinceSent),
    bytesEach: counted.bytes / (counted.votes * crowd.watchers.length),
    requestsPerSecond: counted.requests / took,
    votesPerSecond: counted.votes / took,
    backwards: crowd.backwards,
    faults: crowd.faults,
    cpu: used,
  };
}
