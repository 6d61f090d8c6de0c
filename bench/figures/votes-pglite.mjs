import { measureVotes, voteTable } from './votes.mjs';

export const name = 'votes-pglite';
export const title = 'votes a second on the embedded default';
export const target = 'half of the Postgres figure';

export async function run(bench) {
  const names = bench.present(['pollcast', 'pollcast-pglite']);
  const samples = await bench.compare(names, (subject) =>
    measureVotes(bench, subject, { server: subject === 'pollcast' ? { store: 'postgres' } : {} }),
  );
  return voteTable(
    samples,
    [{ of: 'pollcast-pglite', to: 'pollcast', atLeast: 0.5 }],
    ['PGlite runs inside the server: its work is in the CPU of the server.'],
  );
}
