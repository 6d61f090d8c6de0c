import { middle } from '../lib/judge.mjs';
import { percent, show } from '../lib/stats.mjs';

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
  if (bench.present(['pollcast']).length === 0) return { columns: ['transport'], rows: [] };
  const cases = {};
  for (const watchers of bench.watchers === undefined ? [100, 1000] : [bench.watchers]) {
    for (const [label, dialect] of Object.entries(WAYS)) cases[`${label} × ${watchers}`] = { label, dialect, watchers };
  }
  const samples = await bench.compare(Object.keys(cases), (which) =>
    bench.session('pollcast', { interval: 100 }, async (session) => {
      const { dialect, watchers } = cases[which];
      const early = await session.watch(20, { dialect });
      await early.call('close');
      const before = await session.memory();
      const crowd = await session.watch(watchers, { dialect });
      const kilobytes = ((await session.memory()) - before) / watchers / 1024;
      const sample = await crowd.call('pace', {
        port: session.server.port,
        polls: session.polls,
        everyMs: EVERY_MS,
        warmup: bench.warmup,
        seconds: bench.seconds,
        cpu: session.cpu(),
      });
      if (sample.backwards > 0 || Object.keys(sample.faults).length > 0)
        bench.problem(
          `${which}: ${sample.backwards} repeated or older versions, faults ${JSON.stringify(sample.faults)}`,
        );
      return {
        ...sample,
        kilobytes,
        says: `delay p50 ${show(sample.delay.p50)}, p99 ${show(sample.delay.p99)} ms, ${show(sample.bytesEach)} bytes, server ${percent(sample.cpu[0])}`,
      };
    }),
  );
  return {
    columns: [
      'transport',
      'watchers',
      'delay p50, ms',
      'delay p99, ms',
      'bytes an update',
      'requests/s',
      'CPU server',
      'KB a watcher',
    ],
    rows: Object.entries(samples).map(([which, all]) => [
      cases[which].label,
      cases[which].watchers,
      show(middle(all, (sample) => sample.delay.p50)),
      show(middle(all, (sample) => sample.delay.p99)),
      show(middle(all, (sample) => sample.bytesEach)),
      show(middle(all, (sample) => sample.requestsPerSecond)),
      percent(middle(all, (sample) => sample.cpu[0])),
      show(middle(all, (sample) => sample.kilobytes)),
    ]),
    notes: [
      `One vote every ${EVERY_MS} ms, interval 100. Delay: from the vote's acknowledgement until a watcher holds its version or a newer one. ` +
        'Bytes: everything a watcher sends and receives (TCP payload, HTTP heads included), divided by the votes. Memory: resident, after a collection; with 100 watchers it is mostly noise.',
    ],
  };
}
