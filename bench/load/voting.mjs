// Votes as fast as the server takes them (`rate` absent) or at an offered rate, for a fixed time or a fixed count.
import { cpuOf } from '../lib/proc.mjs';
import { httpBallots, socketBallots } from './ballots.mjs';
import { gently } from './gently.mjs';
import { openHttpLine, openSocketLine } from './lines.mjs';
import { quantiles } from './quantiles.mjs';

const DRAIN_MS = 10_000;

/**
 * With a rate, latency counts from the moment at which the vote was due, not from when a connection was free for it:
 * a server that stalls must not be spared the votes that would have come meanwhile.
 */
export async function vote({
  port,
  polls,
  over = 'http',
  connections,
  width = 1,
  seconds,
  count = Infinity,
  warmup = 0,
  rate,
  cpu = [],
}) {
  const ballot = over === 'http' ? httpBallots(polls) : socketBallots(polls);
  const kinds = {};
  const latencies = [];
  const idle = [];
  const overdue = [];
  let from = Infinity;
  let until = Infinity;
  let stopped = false;
  let sent = 0;
  let answered = 0;
  let recorded = 0;
  let drained;

  const lines = [];
  const open = over === 'http' ? openHttpLine : openSocketLine;
  await gently(Array.from({ length: connections }), 100, async () =>
    lines.push(await open({ port, ballot, done, width })),
  );

  function send(line, at) {
    sent += 1;
    line.send(at);
  }

  function done(line, startedAt, kind) {
    const now = performance.now();
    answered += 1;
    if (now >= from && now < until) {
      kinds[kind] = (kinds[kind] ?? 0) + 1;
      if (kind === 'RECORDED') recorded += 1;
    }
    if (startedAt >= from && startedAt < until) latencies.push(now - startedAt);
    if (answered >= count) stop();
    if (line !== null) {
      if (stopped) idle.push(line);
      else if (rate === undefined) send(line, now);
      else if (overdue.length > 0) send(line, overdue.shift());
      else idle.push(line);
    }
    if (stopped && answered === sent) drained?.();
  }

  function stop() {
    if (stopped) return;
    stopped = true;
    until = Math.min(until, performance.now());
  }

  const startedAt = performance.now();
  let pacer;
  for (const line of lines) {
    for (let i = 0; i < line.width; i += 1) {
      if (rate === undefined) send(line, performance.now());
      else idle.push(line);
    }
  }
  if (rate !== undefined) {
    let offered = 0;
    pacer = setInterval(() => {
      for (; offered < ((performance.now() - startedAt) / 1000) * rate; offered += 1) {
        const due = startedAt + (offered * 1000) / rate;
        if (idle.length > 0) send(idle.pop(), due);
        else overdue.push(due);
      }
    }, 1);
  }

  await new Promise((resolve) => setTimeout(resolve, warmup * 1000));
  from = performance.now();
  const before = cpuOf(cpu);
  await new Promise((resolve) => {
    if (seconds !== undefined) setTimeout(resolve, seconds * 1000);
    else {
      const watch = setInterval(() => stopped && resolve(clearInterval(watch)), 20);
    }
  });
  const after = cpuOf(cpu);
  clearInterval(pacer);
  const unsent = overdue.length;
  stop();
  if (answered < sent) {
    await Promise.race([
      new Promise((resolve) => {
        drained = resolve;
      }),
      new Promise((resolve) => setTimeout(resolve, DRAIN_MS)),
    ]);
  }
  for (const line of lines) line.close();

  const took = (until - from) / 1000;
  return {
    seconds: took,
    recorded,
    perSecond: recorded / took,
    kinds,
    unsent,
    unanswered: sent - answered,
    latency: quantiles(latencies),
    cpu: after.map((used, i) => (used - before[i]) / took),
  };
}
