/** `pollcast serve`: runs the server until a signal ends it. */
import { makeLog, startApp } from '../app.ts';
import { startWorkers } from '../cluster/primary.ts';
import type { PrimaryChannel } from '../cluster/worker.ts';
import type { Config } from '../config/config.ts';
import { secretsIn } from '../config/redact.ts';
import type { Log } from '../ports/log.ts';

/** The server itself, or the primary of several workers that share its port. */
interface Running {
  readonly started: Promise<string>;
  stop(): Promise<void>;
}

/** Resolves when the server listens and has printed its address. */
export async function serve(config: Config, primary: PrimaryChannel | null): Promise<void> {
  const { stdout } = process;
  const log = makeLog(config.logLevel, stdout.isTTY === true, {
    secrets: secretsIn(process.env),
    ...(primary === null ? {} : { worker: primary.worker }),
  });
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled promise rejection'));
  const running =
    config.workers > 1 && primary === null ? startWorkers(config.workers, log) : startOne(config, log, primary);
  let stopping = false;
  const leave = (signal: string): void => {
    if (stopping) {
      // A second signal ends the process at once. A worker ignores it: it gets each signal twice,
      // from the terminal and from its primary, and exits with the primary.
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
  // Listen before the start: a signal during it must not leave the data folder locked.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => leave(signal));
  const url = await running.started;
  if (primary !== null) return;
  const where = config.databaseUrl === null ? `PGlite in ${config.dataDir}` : 'Postgres';
  const many = config.workers === 1 ? '' : ` with ${config.workers} workers`;
  stdout.write(`Pollcast is running on ${where}${many}. Open ${url}/graphql\n`);
}

function startOne(config: Config, log: Log, primary: PrimaryChannel | null): Running {
  const starting = startApp(config, { log, ...(primary === null ? {} : { gather: primary.gather }) });
  return {
    started: starting.then((app) => {
      primary?.ready(app.url, app.metrics);
      return app.url;
    }),
    stop: () => starting.then((app) => app.stop()),
  };
}
