// What the figures of votes a second share.
import { cell, judge } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

/**
 * One sample: votes as fast as they are taken. `prepare(session)` may fill polls and open watchers before; what it
 * returns is called afterwards and tells what the watchers saw.
 */
export function measureVotes(bench, subject, { server = {}, load = {}, prepare } = {}) {
  const { connections, warmup, seconds } = bench;
  return bench.session(subject, server, async (session) => {
    const watching = await prepare?.(session);
    const sample = await session.vote({ connections, warmup, seconds, ...load });
    complainOfVotes(bench, subject, sample);
    const seen = await watching?.();
    const says = `${show(sample.perSecond)} votes/s, p50 ${show(sample.latency.p50)} ms, p99 ${show(sample.latency.p99)} ms, server ${percent(sample.cpu.server)}, load ${percent(sample.cpu.load)}`;
    return { ...sample, seen, says };
  });
}

/** Reports votes that were not recorded and returns how many. */
export function complainOfVotes(bench, subject, { kinds, unanswered, unsent }) {
  const { RECORDED: _, ...others } = kinds;
  const failed = Object.values(others).reduce((sum, count) => sum + count, unanswered + unsent);
  if (failed > 0) {
    bench.problem(
      `${subject}: not recorded: ${JSON.stringify(others)}, ${unanswered} unanswered, ${unsent} never sent`,
    );
  }
  return failed;
}

const speed = (sample) => sample.perSecond;

export const voteTable = (samples, goals, notes, label = (name) => subjects[name].label) => ({
  columns: ['server', 'votes/s', 'p50, ms', 'p99, ms', 'CPU server', 'CPU load', 'CPU Postgres'],
  rows: Object.entries(samples).map(([name, all]) => [
    label(name),
    cell(all, speed),
    cell(all, (sample) => sample.latency.p50),
    cell(all, (sample) => sample.latency.p99),
    cell(all, (sample) => sample.cpu.server, percent),
    cell(all, (sample) => sample.cpu.load, percent),
    // The cluster runs on, idle, beside the servers that do not use it.
    cell(all, (sample) => sample.cpu.postgres ?? 0, percent),
  ]),
  verdicts: judge(samples, speed, goals),
  notes,
});
