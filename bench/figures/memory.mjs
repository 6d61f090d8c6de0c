import { judge, middle } from '../lib/judge.mjs';
import { show } from '../lib/stats.mjs';
import { subjects } from '../lib/subjects.mjs';

export const name = 'memory';
export const title = 'memory of an idle watcher, 10 000 of them';
export const target = '1.2 × bare `ws` or less for a WebSocket watcher, and no more than that for an SSE watcher';

const NAMES = ['ws', 'socket.io', 'mercurius', 'yoga', 'yoga-sse', 'pollcast', 'pollcast-sse', 'pollcast-stream'];

export async function run(bench) {
  const watchers = bench.watchers ?? 10_000;
  const samples = await bench.compare(bench.present(NAMES), (subject) =>
    bench.session(subject, {}, async (session) => {
      // Some come and go first: what a server loads and compiles on its first guests is not the price of a guest.
      const early = await session.watch(100);
      await early.call('close');
      const before = await session.memory();
      await session.watch(watchers);
      const after = await session.memory();
      const kilobytes = (after - before) / watchers / 1024;
      return {
        kilobytes,
        base: before / 2 ** 20,
        says: `${show(kilobytes)} KB a watcher, ${show(before / 2 ** 20)} MB without`,
      };
    }),
  );
  const each = (sample) => sample.kilobytes;
  return {
    columns: ['server', 'KB a watcher', '× bare ws', 'MB without watchers'],
    rows: Object.entries(samples).map(([subject, all]) => [
      subjects[subject].label,
      show(middle(all, each)),
      samples.ws ? show(middle(all, each) / middle(samples.ws, each)) : '-',
      show(middle(all, (sample) => sample.base)),
    ]),
    verdicts: judge(
      samples,
      each,
      ['pollcast', 'pollcast-sse', 'pollcast-stream'].map((of) => ({ of, to: 'ws', atMost: 1.2 })),
    ),
    notes: [
      `Resident memory of the server with ${watchers} idle watchers less that without, both after a collection; the kernel's socket buffers are not in it.`,
    ],
  };
}
