// A steady trickle of votes, and how long after its acknowledgement each vote is seen by each watcher.
import { cpuOf } from '../lib/proc.mjs';
import { httpBallots } from './ballots.mjs';
import { openHttpLine } from './lines.mjs';
import { pause } from './pause.mjs';
import { quantiles } from './quantiles.mjs';

/**
 * A vote every `everyMs`. A watcher has seen a vote when it receives its version or a newer one. What arrives before the
 * acknowledgement itself counts as 0 ms. `settle` seconds at the end let the last votes arrive.
 */
export async function pace(crowd, { port, polls, everyMs, warmup, seconds, settle = 3, cpu = [] }) {
  const acknowledgedAt = new Map();
  const early = new Map();
  let delays = [];
  let votes = 0;
  let trouble;
  const line = await openHttpLine({ port, ballot: httpBallots(polls.slice(0, 1)), done: acknowledged });

  function acknowledged(_line, _at, kind, version) {
    if (kind !== 'RECORDED') {
      trouble = kind;
      return;
    }
    votes += 1;
    acknowledgedAt.set(version, performance.now());
    for (let i = early.get(version) ?? 0; i > 0; i -= 1) delays.push(0);
    early.delete(version);
  }

  crowd.onSeen = (_watcher, before, version) => {
    const now = performance.now();
    for (let seen = Math.max(before + 1, version - 100); seen <= version; seen += 1) {
      const at = acknowledgedAt.get(seen);
      if (at !== undefined) delays.push(now - at);
      else if (seen === version) early.set(version, (early.get(version) ?? 0) + 1);
    }
  };

  const timer = setInterval(() => line.send(performance.now()), everyMs);
  await pause(warmup * 1000);
  delays = [];
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
  const used = cpuOf(cpu).map((now, i) => (now - start.cpu[i]) / took);
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
    bytesEach: counted.bytes / (counted.votes * crowd.watchers.length),
    requestsPerSecond: counted.requests / took,
    votesPerSecond: counted.votes / took,
    backwards: crowd.backwards,
    faults: crowd.faults,
    cpu: used,
  };
}
