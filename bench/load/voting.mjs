// Votes as fast as the server takes them (`rate` absent) or at an offered rate, for a fixed time or a fixed count.
import { cpuOf, shares } from '../lib/proc.mjs';
import { httpBallots, socketBallots } from './ballots.mjs';
import { openHttpLine, openSocketLine } from './lines.mjs';
import { gently, pause, quantiles, until } from './timing.mjs';

const DRAIN_MS = 10_000;
const COUNT_MS = 600_000;

/**
 * With a rate, latency counts from the moment at which the vote was due, not from when a connection was free for it:
 * a server that stalls must not be spared the votes that would have come meanwhile.
 */
export async function vote({ port, polls, over = 'http', connections, width = 1, rate, cpu = {}, ...span }) {
  const { warmup = 0, seconds, count = Infinity } = span;
  const ballot = over === 'http' ? httpBallots(polls) : socketBallots(polls);
  const open = over === 'http' ? openHttpLine : openSocketLine;
  const kinds = {};
  const latencies = [];
  const idle = [];
  const overdue = [];
  const lines = [];
  let from = Infinity;
  let to = Infinity;
  let stopped = false;
  let sent = 0;
  let answered = 0;

  await gently(Array.from({ length: connections }), 100, async () => {
    lines.push(await open({ port, ballot, done, width }));
  });
  for (const line of lines) {
    for (let i = 0; i < line.width; i += 1) {
      if (rate === undefined) send(line, performance.now());
      else idle.push(line);
    }
  }
  const pacer = rate === undefined ? undefined : offer();

  await pause(warmup * 1000);
  from = performance.now();
  const before = cpuOf(cpu);
  if (seconds !== undefined) await pause(seconds * 1000);
  else
    await until(
      () => stopped,
      COUNT_MS,
      () => `only ${answered} of ${count} votes were answered`,
    );
  const after = cpuOf(cpu);
  clearInterval(pacer);
  stop();
  const took = (to - from) / 1000;
  // What was due is still sent and waited for, so that a backlog shows in the latencies instead of vanishing.
  await until(() => answered === sent && overdue.length === 0, DRAIN_MS).catch(() => {});
  for (const line of lines) line.close();

  const recorded = kinds.RECORDED ?? 0;
  return {
    seconds: took,
    recorded,
    perSecond: recorded / took,
    kinds,
    unsent: overdue.length,
    unanswered: sent - answered,
    latency: quantiles(latencies),
    cpu: shares(before, after, took),
  };

  function send(line, at) {
    sent += 1;
    line.send(at);
  }

  function done(line, startedAt, kind) {
    const now = performance.now();
    answered += 1;
    if (now >= from && now < to) kinds[kind] = (kinds[kind] ?? 0) + 1;
    if (startedAt >= from && startedAt < to) latencies.push(now - startedAt);
    if (answered >= count) stop();
    if (line === null) return;
    if (overdue.length > 0) send(line, overdue.shift());
    else if (rate === undefined && !stopped) send(line, now);
    else idle.push(line);
  }

  function offer() {
    const startedAt = performance.now();
    let offered = 0;
    return setInterval(() => {
      for (; offered < ((performance.now() - startedAt) / 1000) * rate; offered += 1) {
        const due = startedAt + (offered * 1000) / rate;
        if (idle.length > 0) send(idle.pop(), due);
        else overdue.push(due);
      }
    }, 1);
  }

  function stop() {
    if (stopped) return;
    stopped = true;
    to = performance.now();
  }
}
