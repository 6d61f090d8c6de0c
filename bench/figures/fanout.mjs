// What the two fan-out figures and the last watcher's share: votes in a closed loop before a crowd.
import { judge, middle } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

/** One sample: a fresh server, its watchers, and rounds of one vote that all must see. */
export function measure(bench, name, watchers) {
  return bench.session(name, { interval: 0 }, async (session) => {
    const crowd = await session.watch(watchers);
    const sample = await crowd.call('rounds', {
      port: session.server.port,
      polls: session.polls,
      warmup: bench.warmup,
      seconds: bench.seconds,
      ahead: bench.ahead,
      cpu: session.cpu(),
    });
    sample.says = `${show(sample.perSecond)} deliveries/s, last after ${show(sample.lastSeen.p50)} ms, server ${percent(sample.cpu[0])}, load ${percent(sample.cpu[1])}`;
    const faults = Object.keys(sample.faults).length > 0 ? `, faults ${JSON.stringify(sample.faults)}` : '';
    if (sample.backwards > 0 || faults !== '')
      bench.problem(`${name}: ${sample.backwards} repeated or older versions${faults}`);
    return sample;
  });
}

/** Rows and verdicts of deliveries a second. */
export async function compareFanout(bench, names, watchers, goals) {
  const samples = await bench.compare(bench.present(names), (name) => measure(bench, name, watchers));
  const speed = (sample) => sample.perSecond;
  const yardstick = samples.ws && middle(samples.ws, speed);
  return {
    columns: [
      'server',
      'deliveries/s',
      '× bare ws',
      'vote to first / last watcher, ms',
      'bytes each',
      'CPU server',
      'CPU load',
    ],
    rows: Object.entries(samples).map(([name, all]) => [
      subjects[name].label,
      show(middle(all, speed)),
      yardstick ? show(middle(all, speed) / yardstick) : '-',
      `${show(middle(all, (sample) => sample.firstSeen.p50))} / ${show(middle(all, (sample) => sample.lastSeen.p50))}`,
      show(middle(all, (sample) => sample.bytesEach)),
      percent(middle(all, (sample) => sample.cpu[0])),
      percent(middle(all, (sample) => sample.cpu[1])),
    ]),
    verdicts: judge(samples, speed, goals),
    notes: [
      `${watchers} watchers, one vote at a time, ${bench.ahead === 0 ? 'the next when all have seen it' : `${bench.ahead} more under way`}; the peers keep votes in memory, Pollcast commits them (${bench.store}).`,
    ],
  };
}
