// What a message of the bus costs: `node bench/bus.mjs`, after `npm run build`. Two instances' ends of it in this process, on a throwaway Redis.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { openRedisBus } from '../dist/bus/redis/open.js';
import { systemClock } from '../dist/ops/clock.js';
import { discard, scratch } from './lib/scratch.mjs';

const MESSAGES = 100_000;
const RUNS = 5;

const folder = scratch('redis');
const port = await new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});
const options = ['--bind', '127.0.0.1', '--port', String(port), '--dir', folder, '--save', '', '--appendonly', 'no'];
const redis = spawn('redis-server', options, { stdio: 'ignore' });
const log = { debug() {}, info() {}, warn() {}, error() {} };
const open = () => openRedisBus({ url: `redis://127.0.0.1:${port}`, clock: systemClock, log }).bus;
const [speaking, listening] = [open(), open()];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let heard = 0;
await new Promise((resolve) => listening.subscribe('poll', () => heard++, resolve));
while (!speaking.connected) await pause(20);

const counts = new Map([
  ['1', 12_345],
  ['2', 2_345],
  ['3', 345],
  ['4', 45],
]);
async function send(messages) {
  heard = 0;
  for (let version = 1; version <= messages; version++) {
    const at = { kind: 'counts', pollId: 'poll', version, revision: 1 };
    speaking.publish({ ...at, ballotCount: 15_080, updatedAt: 1, counts });
    if (version % 50 === 0) await new Promise(setImmediate);
  }
  while (heard < messages) await pause(2);
}

/** Microseconds of CPU; the kernel counts in hundredths of a second. */
const cpuOfRedis = () => {
  const fields = readFileSync(`/proc/${redis.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
};
await send(MESSAGES / 10);
const samples = [];
for (let run = 0; run < RUNS; run++) {
  const [own, its] = [process.cpuUsage(), cpuOfRedis()];
  await send(MESSAGES);
  const used = process.cpuUsage(own);
  samples.push({ both: (used.user + used.system) / MESSAGES, redis: (cpuOfRedis() - its) / MESSAGES });
}
const middle = (of) =>
  samples
    .map(of)
    .sort((a, b) => a - b)
    [RUNS >> 1].toFixed(1);
console.log(
  `a message: ${middle(({ both }) => both)} µs to publish and receive it, ${middle((s) => s.redis)} µs in Redis`,
);
await Promise.all([speaking.close(), listening.close()]);
redis.kill();
discard(folder);
