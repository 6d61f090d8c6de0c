import { judge, middle } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';

export const name = 'many-polls';
export const title = '1 000 polls of 10 watchers each against one poll of 10 000, the same votes';
export const target = 'within 1.5 × CPU';

const RATE = 1000;
// At one update a second and 1 000 votes a second both sides make 10 000 deliveries a second: what differs is the
// number of polls alone. With 100 ms the one large poll would be at the limit of its core, and the ratio would flatter.
const INTERVAL = 1000;

export async function run(bench) {
  if (bench.present(['pollcast']).length === 0) return { columns: ['polls'], rows: [] };
  const watchers = bench.watchers ?? 10_000;
  const counts = { 'one poll': 1, 'many polls': watchers / 10 };
  const samples = await bench.compare(Object.keys(counts), (which) =>
    bench.session(
      'pollcast',
      { interval: INTERVAL, polls: Array.from({ length: counts[which] }, () => ({})) },
      async (session) => {
        const crowd = await session.watch(watchers);
        const [sample, seen] = await Promise.all([
          session.vote({ rate: RATE, connections: 64, warmup: bench.warmup, seconds: bench.seconds }),
          crowd.call('count', { seconds: bench.warmup + bench.seconds }),
        ]);
        const [server, , database = 0] = sample.cpu;
        return {
          ...sample,
          server,
          database,
          seen,
          says: `server ${percent(server)}, Postgres ${percent(database)}, ${show(sample.perSecond)} votes/s, ${show(seen.perSecond)} deliveries/s, p99 ${show(sample.latency.p99)} ms`,
        };
      },
    ),
  );
  return {
    columns: ['polls × watchers', 'CPU server', 'CPU Postgres', 'votes/s', 'deliveries/s', 'p99 of a vote, ms'],
    rows: Object.entries(samples).map(([which, all]) => [
      `${counts[which]} × ${watchers / counts[which]}`,
      percent(middle(all, (sample) => sample.server)),
      percent(middle(all, (sample) => sample.database)),
      show(middle(all, (sample) => sample.perSecond)),
      show(middle(all, (sample) => sample.seen.perSecond)),
      show(middle(all, (sample) => sample.latency.p99)),
    ]),
    verdicts: judge(samples, (sample) => sample.server, [{ of: 'many polls', to: 'one poll', atMost: 1.5 }]),
    notes: [
      `${RATE} votes/s offered in turn to the polls, LIVE_INTERVAL_MS=${INTERVAL}, so that both make the same number of deliveries (${bench.store}).`,
    ],
  };
}
