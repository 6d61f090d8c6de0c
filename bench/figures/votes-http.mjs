import { measureVotes, voteTable } from './votes.mjs';

export const name = 'votes-http';
export const title = 'votes a second over HTTP GraphQL, each by a new voter';
export const target =
  '1.0 × mercurius in memory, 6 × yoga in memory, 5 × one `INSERT` a vote; Pollcast commits to Postgres with fsync on';

export async function run(bench) {
  const names = bench.present(['http', 'mercurius', 'yoga', 'one-insert', 'pollcast']);
  const samples = await bench.compare(names, (subject) =>
    measureVotes(bench, subject, { server: { store: 'postgres' } }),
  );
  return voteTable(
    samples,
    [
      { of: 'pollcast', to: 'mercurius', atLeast: 1 },
      { of: 'pollcast', to: 'yoga', atLeast: 6 },
      { of: 'pollcast', to: 'one-insert', atLeast: 5 },
    ],
    [
      `${bench.connections} keep-alive connections with one request each under way. Bare node:http counts nothing; it is the ceiling.`,
    ],
  );
}
