import { compareFanout } from './fanout.mjs';

export const name = 'fanout-ws';
export const title = 'WebSocket deliveries a second, 1 000 watchers, interval 0';
export const target = '1.0 × bare `ws`, 1.25 × Socket.IO, 4.5 × mercurius, 5.5 × yoga as documented';

export const run = (bench) =>
  compareFanout(bench, ['ws', 'socket.io', 'mercurius', 'yoga', 'pollcast'], bench.watchers ?? 1000, [
    { of: 'pollcast', to: 'ws', atLeast: 1 },
    { of: 'pollcast', to: 'socket.io', atLeast: 1.25 },
    { of: 'pollcast', to: 'mercurius', atLeast: 4.5 },
    { of: 'pollcast', to: 'yoga', atLeast: 5.5 },
  ]);
