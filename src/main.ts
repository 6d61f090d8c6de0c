#!/usr/bin/env -S node --max-semi-space-size=32
/**
 * The process: arguments, environment and signals. Nothing else touches `process`.
 *
 * The flag above (also in `npm start`) gives young objects room: a vote lives as long as its batch is committed, and with
 * V8's default of 16 MB the collector copies each several times. Measured on two cores: 10 700 votes/s with 16, 13 800 with
 * 32, 12 700 with 64, and the idle server grows with it.
 */
import { connectToPrimary } from './cluster/worker.ts';
import { readExportArguments, runExport } from './commands/export.ts';
import { runRecount } from './commands/recount.ts';
import { serve } from './commands/serve.ts';
import { readConfig } from './config/config.ts';
import { PollcastError } from './core/errors.ts';

const USAGE = `Usage: pollcast [command]

  serve     start the server (the default)
  recount   count all ballots again and compare them with the tallies; exits with 1 on a difference
  export <pollId> [--format csv|json] [--no-bom]
            write the results and the ballots of a poll, without its voters, to the standard output;
            CSV begins with a byte order mark for Excel unless --no-bom is given

The environment is described in README.md.`;

/** Null if this process is not one of several workers. */
const primary = connectToPrimary();

async function main(): Promise<void> {
  const [command = 'serve', ...rest] = process.argv.slice(2);
  const wanted = command === 'export' ? readExportArguments(rest) : null;
  if (wanted === null && (rest.length > 0 || !['serve', 'recount'].includes(command))) {
    const asked = ['help', '--help', '-h'].includes(command);
    (asked ? process.stdout : process.stderr).write(`${USAGE}\n`);
    process.exitCode = asked ? 0 : 2;
    return;
  }
  const config = readConfig(process.env);
  if (wanted !== null) await runExport(config, wanted);
  else if (command === 'recount') process.exitCode = await runRecount(config);
  else await serve(config, primary);
}

main().catch(async (error: unknown) => {
  const text =
    error instanceof PollcastError
      ? error.message
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error);
  // The primary prints the error once for all workers.
  if (primary === null) process.stderr.write(`pollcast: ${text}\n`);
  else await primary.failed(text);
  process.exit(1);
});
