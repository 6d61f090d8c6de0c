import { cell, judge } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { complain } from './fanout.mjs';
import { complainOfVotes } from './votes.mjs';

export const name = 'many-polls';
export const title = '1 000 polls of 10 watchers each against one poll of 10 000, the same votes';
export const target = 'within 1.5 × CPU';

const RATE = 1000;
// At one update a second and 1 000 votes a second both sides make 10 000 deliveries a second: what differs is the
// number of polls alone. With 100 ms the one large poll would be at the limit of its core, and the ratio would flatter.
const INTERVAL = 1000;

export async function run(bench) {
  const { warmup, seconds, watchers = 10_000 } = bench;
  const counts = { 'one poll': 1, 'many polls': watchers / 10 };
  const names = bench.present(['pollcast']).length === 0 ? [] : Object.keys(counts);
  const samples = await bench.compare(names, (which) => {
    const polls = Array.from({ length: counts[which] }, () => ({}));
    return bench.session('pollcast', { interval: INTERVAL, polls }, async (session) => {
      const crowd = await session.watch(watchers);
      const [sample, seen] = await Promise.all([
        session.vote({ rate: RATE, connections: 64, warmup, seconds }),
        crowd.call('count', { seconds: warmup + seconds }),
      ]);
      complain(bench, which, seen);
      complainOfVotes(bench, which, sample);
      const { server, postgres } = sample.cpu;
      const says = `server ${percent(server)}, Postgres ${percent(postgres)}, ${show(sample.perSecond)} votes/s, ${show(seen.perSecond)} deliveries/s, p99 ${show(sample.latency.p99)} ms`;
      return { ...sample, seen, says };
    });
  });
  const server = (sample) => sample.cpu.server;
  return {
    columns: ['polls × watchers', 'CPU server', 'CPU Postgres', 'votes/s', 'deliveries/s', 'p99 of a vote, ms'],
    rows: Object.entries(samples).map(([which, all]) => [
      `${counts[which]} × ${watchers / counts[which]}`,
      cell(all, server, percent),
      cell(all, (sample) => sample.cpu.postgres, percent),
      cell(all, (sample) => sample.perSecond),
      cell(all, (sample) => sample.seen.perSecond),
      cell(all, (sample) => sample.latency.p99),
    ]),
    verdicts: judge(samples, server, [{ of: 'many polls', to: 'one poll', atMost: 1.5 }]),
    notes: [
      `${RATE} votes/s offered to the polls in turn, LIVE_INTERVAL_MS=${INTERVAL}, so that both sides make the same number of deliveries (${bench.store}).`,
    ],
  };
}
