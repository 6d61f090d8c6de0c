import { judgeNumber, middle, values } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';

export const name = 'ack-p99';
export const title = 'acknowledgement of 2 000 votes a second before 5 000 watchers, interval 100';
export const target = 'p99 at most 100 ms, and no vote refused';

const RATE = 2000;

export async function run(bench) {
  if (bench.present(['pollcast']).length === 0) return { columns: ['server'], rows: [] };
  const watchers = bench.watchers ?? 5000;
  const samples = await bench.compare(['pollcast'], (subject) =>
    bench.session(subject, { interval: 100 }, async (session) => {
      const crowd = await session.watch(watchers);
      const [sample, seen] = await Promise.all([
        session.vote({ rate: RATE, connections: bench.connections, warmup: bench.warmup, seconds: bench.seconds }),
        crowd.call('count', { seconds: bench.warmup + bench.seconds, cpu: ['self'] }),
      ]);
      const { RECORDED, ...others } = sample.kinds;
      const refused = Object.values(others).reduce((sum, count) => sum + count, 0) + sample.unanswered + sample.unsent;
      if (refused > 0)
        bench.problem(`${JSON.stringify(others)}, ${sample.unanswered} unanswered, ${sample.unsent} never sent`);
      const says = `p50 ${show(sample.latency.p50)}, p99 ${show(sample.latency.p99)}, max ${show(sample.latency.max)} ms, refused ${refused}, ${show(seen.perSecond)} deliveries/s, server ${percent(sample.cpu[0])}`;
      return { ...sample, refused, seen, says };
    }),
  );
  const all = samples.pollcast;
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
      'CPU load: votes + watchers',
    ],
    rows: [
      [
        show(RATE),
        show(middle(all, (sample) => sample.perSecond)),
        show(middle(all, (sample) => sample.latency.p50)),
        show(middle(all, (sample) => sample.latency.p99)),
        show(middle(all, (sample) => sample.latency.max)),
        show(middle(all, (sample) => sample.refused)),
        show(middle(all, (sample) => sample.seen.perSecond)),
        percent(middle(all, (sample) => sample.cpu[0])),
        `${percent(middle(all, (sample) => sample.cpu[1]))} + ${percent(middle(all, (sample) => sample.seen.cpu[0]))}`,
      ],
    ],
    verdicts: [
      judgeNumber(
        'p99, ms',
        middle(all, (sample) => sample.latency.p99),
        { atMost: 100 },
      ),
      judgeNumber(
        'votes refused in all runs',
        values(all, (sample) => sample.refused).reduce((a, b) => a + b, 0),
        { atMost: 0 },
      ),
    ],
    notes: [
      `Latency counts from the moment at which a vote was due, whether or not a connection was free (${bench.store}). Voters and watchers share the load core, so its queueing is in it.`,
    ],
  };
}
