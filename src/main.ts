#!/usr/bin/env -S node --max-semi-space-size=32
/**
 * The process: arguments, environment and signals. Nothing else touches `process`.
 *
 * The flag above (also in `npm start`) gives young objects room: a vote lives as long as its batch is committed, and with
 * V8's default of 16 MB the collector copies each several times. Measured on two cores: 10 700 votes/s with 16, 13 800 with
 * 32, 12 700 with 64, and the idle server grows with it.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { exportPoll, makeLog, recount, startApp } from './app.ts';
import { startWorkers } from './cluster/primary.ts';
import { connectToPrimary } from './cluster/worker.ts';
import { type Config, readConfig } from './config/config.ts';
import { secretsIn } from './config/redact.ts';
import { PollcastError } from './core/errors.ts';
import type { Log } from './ports/log.ts';

const USAGE = `Usage: pollcast [command]

  serve     start the server (the default)
  recount   count all ballots again and compare them with the tallies; exits with 1 on a difference
  export <pollId> [--format csv|json]
            write the results and the ballots of a poll, without its voters, to the standard output

The environment is described in README.md.`;

/** Null where this process is not one of several workers. */
const primary = connectToPrimary();

async function main(): Promise<void> {
  const [command = 'serve', ...rest] = process.argv.slice(2);
  const wanted = command === 'export' ? readExport(rest) : null;
  if (wanted === null && (rest.length > 0 || !['serve', 'recount'].includes(command))) {
    const asked = ['help', '--help', '-h'].includes(command);
    (asked ? process.stdout : process.stderr).write(`${USAGE}\n`);
    process.exitCode = asked ? 0 : 2;
    return;
  }
  const config = readConfig(process.env);
  if (wanted !== null) await write(config, wanted);
  else if (command === 'recount') await compare(config);
  else await serve(config);
}

interface Wanted {
  readonly pollId: string;
  readonly format: 'csv' | 'json';
}

function readExport([pollId, option, format, ...rest]: readonly string[]): Wanted | null {
  if (pollId === undefined || pollId.startsWith('-') || rest.length > 0) return null;
  if (option === undefined) return { pollId, format: 'csv' };
  return option === '--format' && (format === 'csv' || format === 'json') ? { pollId, format } : null;
}

async function write(config: Config, { pollId, format }: Wanted): Promise<void> {
  await exportPoll(config, pollId, format, async (pieces) => {
    try {
      await pipeline(Readable.from(pieces), process.stdout);
    } catch (error) {
      // `pollcast export … | head` has what it wants.
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
    }
  });
}

/** What runs here: the server itself, or the primary of several that share its port. */
interface Running {
  readonly started: Promise<string>;
  stop(): Promise<void>;
}

async function serve(config: Config): Promise<void> {
  const { stdout } = process;
  const log = makeLog(config.logLevel, stdout.isTTY === true, {
    secrets: secretsIn(process.env),
    ...(primary === null ? {} : { worker: primary.worker }),
  });
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled promise rejection'));
  const running = config.workers > 1 && primary === null ? startWorkers(config.workers, log) : startOne(config, log);
  let stopping = false;
  const leave = (signal: string): void => {
    if (stopping) {
      // A second signal: leave at once. A worker hears of each from the terminal and from its primary; it goes with that.
      if (primary === null) process.exit(1);
      return;
    }
    stopping = true;
    if (primary === null) stdout.write(`${signal}: finishing and closing; a second signal leaves at once.\n`);
    running.stop().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  // From the first moment on: a signal while it starts must not leave the data folder locked.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => leave(signal));
  const url = await running.started;
  if (primary !== null) return;
  const where = config.databaseUrl === null ? `PGlite in ${config.dataDir}` : 'Postgres';
  const many = config.workers === 1 ? '' : ` with ${config.workers} workers`;
  stdout.write(`Pollcast is running on ${where}${many}. Open ${url}/graphql\n`);
}

function startOne(config: Config, log: Log): Running {
  const starting = startApp(config, { log, ...(primary === null ? {} : { gather: primary.gather }) });
  return {
    started: starting.then((app) => {
      primary?.ready(app.url, app.metrics);
      return app.url;
    }),
    stop: () => starting.then((app) => app.stop()),
  };
}

async function compare(config: Config): Promise<void> {
  const { polls, ballots, differences } = await recount(config);
  for (const { pollId, what, kept, recounted } of differences) {
    process.stderr.write(`poll ${pollId}, ${what}: kept ${kept}, recounted ${recounted}\n`);
  }
  process.stdout.write(`${polls} polls, ${ballots} ballots, ${differences.length} differences\n`);
  if (differences.length > 0) process.exitCode = 1;
}

main().catch(async (error: unknown) => {
  const text =
    error instanceof PollcastError
      ? error.message
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error);
  // The primary says it, once for all workers.
  if (primary === null) process.stderr.write(`pollcast: ${text}\n`);
  else await primary.failed(text);
  process.exit(1);
});
