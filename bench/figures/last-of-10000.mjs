import { cell, judge } from '../lib/judge.mjs';
import { subjects } from '../lib/subjects.mjs';
import { measure } from './fanout.mjs';

export const name = 'last-of-10000';
export const title = 'until the last of 10 000 watchers sees a vote, interval 0';
export const target = "within 1.1 × bare `ws`'s time";

const last = (sample) => sample.lastSeen.p50;

export async function run(bench) {
  const watchers = bench.watchers ?? 10_000;
  const names = bench.present(['ws', 'pollcast']);
  const samples = await bench.compare(names, (subject) => measure(bench, subject, watchers));
  return {
    columns: ['server', 'first watcher, ms', 'last watcher, ms (median)', 'last watcher, ms (p99)', 'votes'],
    rows: Object.entries(samples).map(([subject, all]) => [
      subjects[subject].label,
      cell(all, (sample) => sample.firstSeen.p50),
      cell(all, last),
      cell(all, (sample) => sample.lastSeen.p99),
      cell(all, (sample) => sample.lastSeen.count),
    ]),
    verdicts: judge(samples, last, [{ of: 'pollcast', to: 'ws', atMost: 1.1 }]),
    notes: [
      `${watchers} watchers; from the moment the vote is sent, so Pollcast's time has its commit in it (${bench.store}).`,
    ],
  };
}
