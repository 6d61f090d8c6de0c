// Shows that the load generator is not the bottleneck: it drives the two bare servers until their core is full, and its
// own core is not. `npm run selfcheck`
import { parseArgs } from 'node:util';
import { makeBench } from './lib/bench.mjs';
import { percent, show } from './lib/stats.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '5' } } });
const seconds = Number(values.seconds);
const bench = makeBench({ store: 'pglite' });

const watching = (watchers) =>
  bench.session('ws', {}, async (session) => {
    await session.watch(watchers);
    // One vote ahead, so that the server never waits for the next one.
    return session.rounds({ warmup: 2, seconds, ahead: 1 });
  });
const voting = (connections) =>
  bench.session('http', {}, (session) => session.vote({ connections, warmup: 2, seconds }));

let good = true;
for (const [what, unit, measure] of [
  ['bare ws, 1 000 watchers', 'deliveries/s', () => watching(1000)],
  ['bare ws, 10 000 watchers', 'deliveries/s', () => watching(10_000)],
  ['bare node:http, 64 connections', 'requests/s', () => voting(64)],
  ['bare node:http, 256 connections', 'requests/s', () => voting(256)],
]) {
  const { perSecond, cpu } = await measure();
  const full = cpu.server >= 0.95;
  const spare = cpu.load < 0.95;
  good &&= full && spare;
  const verdict =
    full && spare ? 'the server is the limit' : full ? 'BOTH are at their limit' : 'the server is NOT at its limit';
  const shares = `server core ${percent(cpu.server)}, load core ${percent(cpu.load)}, others ${percent(cpu.others)}`;
  console.log(`${what.padEnd(32)} ${show(perSecond).padStart(8)} ${unit.padEnd(13)} ${shares}: ${verdict}`);
}
if (!good)
  console.log('Not all at the limit of the server: were others busy on this machine? Try again when it is quiet.');
