import { cell, judge, middle } from '../lib/judge.mjs';
import { show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

export const name = 'memory';
export const title = 'memory of an idle watcher, 10 000 of them';
export const target = '1.2 × bare `ws` or less for a WebSocket watcher, and no more than that for an SSE watcher';

const NAMES = ['ws', 'socket.io', 'mercurius', 'yoga', 'yoga-sse', 'pollcast', 'pollcast-sse', 'pollcast-stream'];
const EARLY = 100;

const each = (sample) => sample.kilobytes;

export async function run(bench) {
  const watchers = bench.watchers ?? 10_000;
  const samples = await bench.compare(bench.present(NAMES), (subject) =>
    bench.session(subject, {}, async (session) => {
      // Some come and go first: what a server loads and compiles for its first guests is not the price of a guest.
      const early = await session.watch(EARLY);
      await early.call('close');
      const before = await session.memory();
      await session.watch(watchers);
      const after = await session.memory();
      const kilobytes = (after.rest - before.rest) / watchers / 1024;
      const base = before.rest / 2 ** 20;
      const young = after.young / 2 ** 20;
      return { kilobytes, base, young, says: `${show(kilobytes)} KB a watcher, ${show(base)} MB without` };
    }),
  );
  const yardstick = middle(samples.ws ?? [], each);
  const times = (kilobytes) => (yardstick === null || kilobytes === null ? '-' : show(kilobytes / yardstick));
  return {
    columns: ['server', 'KB a watcher', '× bare ws', 'MB without watchers', 'MB of young generation'],
    rows: Object.entries(samples).map(([subject, all]) => [
      subjects[subject].label,
      cell(all, each),
      cell(all, each, times),
      cell(all, (sample) => sample.base),
      cell(all, (sample) => sample.young),
    ]),
    verdicts: judge(
      samples,
      each,
      ['pollcast', 'pollcast-sse', 'pollcast-stream'].map((of) => ({ of, to: 'ws', atMost: 1.2 })),
    ),
    notes: [
      `Resident memory of the server with ${watchers} idle watchers less that without, both after a collection. V8's young generation is a column of its own: it grows to the size that is allowed (Pollcast starts with --max-semi-space-size=32, the peers with Node's 16) while they join, however many they are. The kernel's socket buffers are not in it.`,
    ],
  };
}
