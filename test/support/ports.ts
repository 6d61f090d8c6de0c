import { createServer } from 'node:net';

// Below the range from which kernels take the ports of outgoing connections (32768 on Linux): a program that is down for
// a moment finds its port again.
const LOWEST = 20_000;
const HIGHEST = 32_000;
const ATTEMPTS = 100;

const given = new Set<number>();

/** A TCP port of 127.0.0.1 on which nobody listens now, and which this process has not been given before. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port in ${ATTEMPTS} attempts between ${LOWEST} and ${HIGHEST}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
