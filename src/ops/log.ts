import { pino } from 'pino';
import pretty from 'pino-pretty';
import type { Log } from '../core/ports.ts';

/** JSON lines; readable ones on a terminal. What may hold a secret is taken out wherever it stands. */
export function makeLog(level: string, terminal: boolean): Log {
  const secrets = ['authorization', 'cookie', 'organizerKey', 'voterToken', 'code', 'codes', 'secret'];
  return pino(
    { level, redact: secrets.flatMap((name) => [name, `*.${name}`]), base: null },
    terminal ? pretty({ colorize: true, ignore: 'pid,hostname', sync: true }) : pino.destination({ fd: 1, sync: true }),
  );
}
