import { compareFanout } from './fanout.mjs';

export const name = 'fanout-sse';
export const title = 'SSE deliveries a second, 1 000 watchers, interval 0';
export const target = "0.95 × bare `ws`, 6 × yoga's SSE, for GraphQL over SSE and for the plain stream";

export const run = (bench) =>
  compareFanout(bench, ['ws', 'yoga-sse', 'pollcast-sse', 'pollcast-stream'], bench.watchers ?? 1000, [
    { of: 'pollcast-sse', to: 'ws', atLeast: 0.95 },
    { of: 'pollcast-sse', to: 'yoga-sse', atLeast: 6 },
    { of: 'pollcast-stream', to: 'ws', atLeast: 0.95 },
    { of: 'pollcast-stream', to: 'yoga-sse', atLeast: 6 },
  ]);
