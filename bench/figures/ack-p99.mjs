import { cell, judgeNumber, middle, values } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { complain } from './fanout.mjs';
import { complainOfVotes } from './votes.mjs';

export const name = 'ack-p99';
export const title = 'acknowledgement of 2 000 votes a second before 5 000 watchers, interval 100';
export const target = 'p99 at most 100 ms, and no vote refused';

const RATE = 2000;

export async function run(bench) {
  const { connections, warmup, seconds, watchers = 5000 } = bench;
  const samples = await bench.compare(bench.present(['pollcast']), (subject) =>
    bench.session(subject, { interval: 100 }, async (session) => {
      const crowd = await session.watch(watchers);
      const [sample, seen] = await Promise.all([
        session.vote({ rate: RATE, connections, warmup, seconds }),
        crowd.call('count', { seconds: warmup + seconds }),
      ]);
      complain(bench, subject, seen);
      const refused = complainOfVotes(bench, subject, sample);
      const { p50, p99, max } = sample.latency;
      const says = `p50 ${show(p50)}, p99 ${show(p99)}, max ${show(max)} ms, refused ${refused}, ${show(seen.perSecond)} deliveries/s, server ${percent(sample.cpu.server)}`;
      return { ...sample, refused, seen, says };
    }),
  );
  const all = samples.pollcast ?? [];
  const p99 = (sample) => sample.latency.p99;
  const refused = values(all, (sample) => sample.refused).reduce((sum, count) => sum + count, 0);
  return {
    columns: [
      'offered',
      'recorded/s',
      'p50, ms',
      'p99, ms',
      'max, ms',
      'refused',
      'deliveries/s',
      'CPU server',
      'CPU load: votes',
      'CPU load: watchers',
    ],
    rows: Object.values(samples).map((all) => [
      show(RATE),
      cell(all, (sample) => sample.perSecond),
      cell(all, (sample) => sample.latency.p50),
      cell(all, p99),
      cell(all, (sample) => sample.latency.max),
      cell(all, (sample) => sample.refused),
      cell(all, (sample) => sample.seen.perSecond),
      cell(all, (sample) => sample.cpu.server, percent),
      cell(all, (sample) => sample.cpu.load, percent),
      cell(all, (sample) => sample.cpu.crowd, percent),
    ]),
    verdicts: Object.keys(samples).flatMap(() => [
      judgeNumber('p99, ms', middle(all, p99), { atMost: 100 }),
      judgeNumber('votes refused in all runs', refused, { atMost: 0 }),
    ]),
    notes: [
      `${watchers} WebSocket watchers. Latency counts from the moment at which a vote was due, whether or not a connection was free for it (${bench.store}). Voters and watchers share the load core, so its queueing is in it.`,
    ],
  };
}
