// What the figures of votes a second share.
import { judge, middle } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

/** One sample: votes as fast as they are taken. `prepare(session)` may fill polls and open watchers before. */
export function measureVotes(bench, subject, { server = {}, load = {}, prepare } = {}) {
  return bench.session(subject, server, async (session) => {
    const watching = await prepare?.(session);
    const sample = await session.vote({
      connections: bench.connections,
      warmup: bench.warmup,
      seconds: bench.seconds,
      ...load,
    });
    const { RECORDED, ...others } = sample.kinds;
    if (Object.keys(others).length > 0 || sample.unanswered > 0) {
      bench.problem(
        `${subject}: answers that are no recorded votes ${JSON.stringify(others)}, ${sample.unanswered} without an answer`,
      );
    }
    if (watching !== undefined) sample.seen = await watching();
    sample.says = `${show(sample.perSecond)} votes/s, p50 ${show(sample.latency.p50)} ms, p99 ${show(sample.latency.p99)} ms, server ${percent(sample.cpu[0])}, load ${percent(sample.cpu[1])}`;
    return sample;
  });
}

export const speed = (sample) => sample.perSecond;

export const voteColumns = ['server', 'votes/s', 'p50, ms', 'p99, ms', 'CPU server', 'CPU load', 'CPU Postgres'];

export const voteRow = (label, all) => [
  label,
  show(middle(all, speed)),
  show(middle(all, (sample) => sample.latency.p50)),
  show(middle(all, (sample) => sample.latency.p99)),
  percent(middle(all, (sample) => sample.cpu[0])),
  percent(middle(all, (sample) => sample.cpu[1])),
  all.some((sample) => sample?.cpu.length > 2) ? percent(middle(all, (sample) => sample.cpu[2] ?? 0)) : '-',
];

export const voteTable = (samples, goals, notes, label = (name) => subjects[name].label) => ({
  columns: voteColumns,
  rows: Object.entries(samples).map(([name, all]) => voteRow(label(name), all)),
  verdicts: judge(samples, speed, goals),
  notes,
});
