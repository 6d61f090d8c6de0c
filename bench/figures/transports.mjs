import { cell } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';
import { complain } from './fanout.mjs';

export const name = 'transports';
export const title = 'the four transports, the same poll, votes and watchers';
export const target = 'none: it is the comparison';

const EVERY_MS = 200;
const WAYS = {
  WebSocket: 'graphql-ws',
  'SSE, GraphQL': 'graphql-sse',
  'SSE, plain': 'stream',
  'long polling': 'long-poll',
  'short polling, 1 s': 'short-poll',
};

export async function run(bench) {
  const { warmup, seconds } = bench;
  const cases = {};
  for (const watchers of bench.watchers === undefined ? [100, 1000] : [bench.watchers]) {
    for (const [label, dialect] of Object.entries(WAYS)) cases[`${label} × ${watchers}`] = { label, dialect, watchers };
  }
  const names = bench.present(['pollcast']).length === 0 ? [] : Object.keys(cases);
  const samples = await bench.compare(names, (which) =>
    bench.session('pollcast', { interval: 100 }, async (session) => {
      const { dialect, watchers } = cases[which];
      const early = await session.watch(20, { dialect });
      await early.call('close');
      const before = await session.memory();
      await session.watch(watchers, { dialect });
      const kilobytes = ((await session.memory()).rest - before.rest) / watchers / 1024;
      const sample = await session.pace({ everyMs: EVERY_MS, warmup, seconds });
      complain(bench, which, sample);
      const { delay, bytesEach, cpu } = sample;
      const says = `delay p50 ${show(delay.p50)}, p99 ${show(delay.p99)} ms, ${show(bytesEach)} bytes, server ${percent(cpu.server)}`;
      return { ...sample, kilobytes, says };
    }),
  );
  return {
    columns: [
      'transport',
      'watchers',
      'delay p50, ms',
      'delay p99, ms',
      'since sent p50, ms',
      'bytes an update',
      'requests/s',
      'CPU server',
      'KB a watcher',
    ],
    rows: Object.entries(samples).map(([which, all]) => [
      cases[which].label,
      cases[which].watchers,
      cell(all, (sample) => sample.delay.p50),
      cell(all, (sample) => sample.delay.p99),
      cell(all, (sample) => sample.sinceSent.p50),
      cell(all, (sample) => sample.bytesEach),
      cell(all, (sample) => sample.requestsPerSecond),
      cell(all, (sample) => sample.cpu.server, percent),
      cell(all, (sample) => sample.kilobytes),
    ]),
    notes: [
      `One vote every ${EVERY_MS} ms, interval 100 (${bench.store}). Delay: from the vote's acknowledgement until a watcher holds its version or a newer one, 0 where the update came first; beside it the same since the vote was sent. ` +
        'Bytes: all that a watcher sends and receives (HTTP heads included, TCP/IP not), divided by the votes. Memory: resident, after a collection; with 100 watchers it is mostly noise.',
    ],
  };
}
