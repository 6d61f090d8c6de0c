import { measureVotes, voteTable } from './votes.mjs';

export const name = 'votes-ws';
export const title = 'votes a second over WebSocket operations, each by a new voter';
export const target = 'no less than over HTTP';

const WIDTH = 4;

export async function run(bench) {
  const loads = {
    'over HTTP': { over: 'http', connections: bench.connections },
    'over WebSocket': { over: 'ws', connections: bench.connections / WIDTH, width: WIDTH },
  };
  const names = bench.present(['pollcast']).length === 0 ? [] : Object.keys(loads);
  const samples = await bench.compare(names, (way) =>
    measureVotes(bench, 'pollcast', { server: { store: 'postgres' }, load: loads[way] }),
  );
  return voteTable(
    samples,
    [{ of: 'over WebSocket', to: 'over HTTP', atLeast: 1 }],
    [
      `The same number of votes under way: ${bench.connections} connections with one each, or ${bench.connections / WIDTH} sockets with ${WIDTH} each.`,
    ],
    (way) => `Pollcast ${way}`,
  );
}
