// The same as fanout-ws and fanout-sse with votes on their way all the time: what a delivery costs, whatever a vote takes before it.
import { compareFanout } from './fanout.mjs';

const AHEAD = 4;

export const name = 'fanout-busy';
export const title = `deliveries a second, 1 000 watchers, interval 0, ${AHEAD} more votes always under way`;
export const target =
  'that of fanout-ws and fanout-sse; their closed loop has the time of a commit in each round, which the peers do not have';

export const run = (bench) =>
  compareFanout(
    { ...bench, ahead: AHEAD },
    ['ws', 'socket.io', 'pollcast', 'pollcast-sse', 'pollcast-stream'],
    bench.watchers ?? 1000,
    [
      { of: 'pollcast', to: 'ws', atLeast: 1 },
      { of: 'pollcast', to: 'socket.io', atLeast: 1.25 },
      { of: 'pollcast-sse', to: 'ws', atLeast: 0.95 },
      { of: 'pollcast-stream', to: 'ws', atLeast: 0.95 },
    ],
  );
