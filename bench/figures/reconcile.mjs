import { cell, judgeNumber, middle } from '../lib/judge.mjs';
import { show } from '../lib/stats.mjs';

export const name = 'reconcile';
export const title = 'comparing watched polls with the database every 2 s, nothing happening';
export const target = 'at 10 000 watched polls, 5 % of a core more than at one';

/** As the server has it when it is not told otherwise. */
const EVERY_MS = 2_000;

export async function run(bench) {
  const { seconds, watchers = 10_000 } = bench;
  // As many connections each time, so that what differs is the number of polls.
  const counts = { 'one poll': 1, thousand: watchers / 10, 'ten thousand': watchers };
  const names = bench.present(['pollcast']).length === 0 ? [] : Object.keys(counts);
  const samples = await bench.compare(names, (which) => {
    const polls = Array.from({ length: counts[which] }, () => ({}));
    return bench.session('pollcast', { polls, store: 'postgres' }, async (session) => {
      const crowd = await session.watch(watchers);
      const cpu = {
        machine: 'machine',
        server: session.server.pid,
        load: 'self',
        driver: process.pid,
        postgres: { tree: bench.postgres().pid },
      };
      // A whole number of looks, after the connections have come to rest.
      const rounds = Math.max(5, Math.ceil((seconds * 1000) / EVERY_MS));
      await crowd.call('count', { seconds: 4 });
      const seen = await crowd.call('count', { seconds: (rounds * EVERY_MS) / 1000, cpu });
      const { server, postgres } = seen.cpu;
      const says = `server ${share(server)}, Postgres ${share(postgres)}`;
      return { ...seen, says };
    });
  });
  const [one, , most] = Object.values(samples).map((all) => middle(all, ({ cpu }) => cpu.server + cpu.postgres));
  const ms = (value) => (value === null ? '-' : show(value * EVERY_MS));
  return {
    columns: ['watched polls', 'CPU server', 'CPU Postgres', 'ms a look, server', 'ms a look, Postgres'],
    rows: Object.entries(samples).map(([which, all]) => [
      String(counts[which]),
      cell(all, (sample) => sample.cpu.server, share),
      cell(all, (sample) => sample.cpu.postgres, share),
      cell(all, (sample) => sample.cpu.server, ms),
      cell(all, (sample) => sample.cpu.postgres, ms),
    ]),
    verdicts:
      one == null || most == null
        ? []
        : [judgeNumber('server and Postgres, % of a core more than at one poll', (most - one) * 100, { atMost: 5 })],
    notes: [
      `${watchers} WebSocket watchers each time, spread over the polls; no votes. What one poll costs is the idle server with its signs of life; with more polls its larger heap is in the figure, too.`,
    ],
  };
}

const share = (value) => (value === null ? '-' : `${show(value * 100)} %`);
