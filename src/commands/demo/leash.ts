/** Loaded into the server that the demo starts: it stops when the demo is gone, however that ended, and leaves no data. */
import { rmSync } from 'node:fs';

const STOP_MS = 10_000;
const folder = process.env.DATA_DIR;

process.once('exit', () => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

process.once('disconnect', () => {
  // Nobody reads it any more.
  for (const output of [process.stdout, process.stderr]) output.on('error', () => {});
  setTimeout(() => process.exit(1), STOP_MS).unref();
  if (!process.emit('SIGTERM', 'SIGTERM')) process.exit(1);
});
