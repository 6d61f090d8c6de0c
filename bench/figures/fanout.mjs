// What the two fan-out figures and the last watcher's share: votes in a closed loop before a crowd.
import { cell, judge, middle } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

/** So many votes each server has taken before it is measured. */
const WARMING_VOTES = 10_000;

/** One sample: a fresh server, its watchers, and rounds of one vote that all must see. */
export function measure(bench, name, watchers) {
  const { warmup, seconds, ahead } = bench;
  return bench.session(name, { interval: 0 }, async (session) => {
    // A round has one vote: in seconds of rounds the way of a vote would hardly be compiled.
    await session.vote({ connections: 8, count: WARMING_VOTES });
    await session.watch(watchers);
    const sample = await session.rounds({ warmup, seconds, ahead });
    complain(bench, name, sample);
    const { server, load } = sample.cpu;
    const says = `${show(sample.perSecond)} deliveries/s, last after ${show(sample.lastSeen.p50)} ms, server ${percent(server)}, load ${percent(load)}`;
    return { ...sample, says };
  });
}

/** What no figure may hide: watchers that were lost, and versions that came twice or went back (rule L2). */
export function complain(bench, name, { backwards, faults }) {
  if (backwards > 0) bench.problem(`${name}: ${backwards} repeated or older versions`);
  if (Object.keys(faults).length > 0) bench.problem(`${name}: watchers lost: ${JSON.stringify(faults)}`);
}

/** Rows and verdicts of deliveries a second. */
export async function compareFanout(bench, names, watchers, goals) {
  const samples = await bench.compare(bench.present(names), (name) => measure(bench, name, watchers));
  const speed = (sample) => sample.perSecond;
  const yardstick = middle(samples.ws ?? [], speed);
  const times = (speed) => (yardstick === null || speed === null ? '-' : show(speed / yardstick));
  const pace = bench.ahead === 0 ? 'the next when all have seen it' : `${bench.ahead} more under way`;
  return {
    columns: [
      'server',
      'deliveries/s',
      '× bare ws',
      'first watcher, ms',
      'last watcher, ms',
      'bytes',
      'CPU server',
      'CPU load',
    ],
    rows: Object.entries(samples).map(([name, all]) => [
      subjects[name].label,
      cell(all, speed),
      cell(all, speed, times),
      cell(all, (sample) => sample.firstSeen.p50),
      cell(all, (sample) => sample.lastSeen.p50),
      cell(all, (sample) => sample.bytesEach),
      cell(all, (sample) => sample.cpu.server, percent),
      cell(all, (sample) => sample.cpu.load, percent),
    ]),
    verdicts: judge(samples, speed, goals),
    notes: [
      `${watchers} watchers, one vote at a time, ${pace}. The milliseconds run from the moment the vote is sent. The peers keep votes in memory, Pollcast commits them (${bench.store}, core: ${bench.pgCore}).`,
    ],
  };
}
