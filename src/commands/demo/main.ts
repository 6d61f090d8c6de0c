#!/usr/bin/env node
/** `npm run demo`: the process. Arguments, signals and the end; what happens in between is in `play.ts`. */
import { constants } from 'node:os';
import { Failure, Interrupted } from './failure.ts';
import { readOptions, USAGE } from './options.ts';
import { play } from './play.ts';
import { openScreen } from './screen.ts';

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === null) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => ending.abort(new Interrupted(128 + constants.signals[signal])));
  }
  // Who reads has gone: `npm run demo | head`.
  process.stdout.on('error', () => ending.abort(new Interrupted(128 + constants.signals.SIGPIPE)));
  process.stderr.on('error', () => {});
  const screen = openScreen(process.stdout, process.env);
  process.once('exit', screen.restore);
  await play(options, screen, ending.signal);
}

main().catch((error: unknown) => {
  const isExpected = error instanceof Failure || error instanceof Interrupted;
  const text = isExpected || !(error instanceof Error) ? String(error) : error.stack;
  process.stderr.write(`demo: ${isExpected ? error.message : text}\n`);
  process.exitCode = error instanceof Interrupted ? error.exitCode : 1;
});
