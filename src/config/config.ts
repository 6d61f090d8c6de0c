/** The environment becomes one frozen, typed Config; every mistake is named at once. */
import { InvalidInputError } from '../core/errors.ts';
import { type AccessConfig, readAccess } from './access.ts';

export const LOG_LEVELS = ['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Config {
  readonly port: number;
  readonly host: string;
  /** Null: PGlite in `dataDir`. */
  readonly databaseUrl: string | null;
  /** Null: one instance alone. */
  readonly redisUrl: string | null;
  readonly dataDir: string;
  /** Null: made once and kept in `dataDir`. */
  readonly secret: string | null;
  /** Milliseconds between two updates of a poll; 0 sends every change. */
  readonly liveIntervalMs: number;
  readonly logLevel: LogLevel;
  readonly access: AccessConfig;
  /** Milliseconds over which the connections are closed when the server is stopped; 0: at once. */
  readonly drainMs: number;
  /** How many processes share the port on this machine. */
  readonly workers: number;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Throws one `InvalidInputError` that names every mistake. */
export function readConfig(env: Environment): Config {
  const wrong: string[] = [];
  const given = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);

  const whole = (name: string, preset: number, least: number, most: number): number => {
    const text = given(name);
    if (text === undefined) return preset;
    const value = /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    wrong.push(`${name}: "${text}" must be a whole number from ${least} to ${most}`);
    return preset;
  };

  const databaseUrl = given('DATABASE_URL') ?? null;
  if (databaseUrl !== null && !/^postgres(ql)?:\/\/./.test(databaseUrl)) {
    // The value may hold a password: it is not shown.
    wrong.push('DATABASE_URL: must begin with postgres:// or postgresql://');
  }
  const redisUrl = given('REDIS_URL') ?? null;
  const wrongRedis = redisUrl === null ? null : wrongRedisUrl(redisUrl);
  if (wrongRedis !== null) wrong.push(`REDIS_URL: ${wrongRedis}`);
  if (redisUrl !== null && databaseUrl === null) {
    wrong.push('REDIS_URL: needs DATABASE_URL; the embedded database serves one process only');
  }
  const secret = given('SECRET') ?? null;
  if (secret !== null && secret.length < 16) wrong.push('SECRET: must have at least 16 characters');
  if (secret === null && databaseUrl !== null) {
    wrong.push('SECRET: must be set with DATABASE_URL, the same for all instances (try: openssl rand -hex 32)');
  }
  const logLevel = LOG_LEVELS.find((level) => level === (given('LOG_LEVEL') ?? 'info'));
  if (logLevel === undefined) wrong.push(`LOG_LEVEL: "${given('LOG_LEVEL')}" must be one of ${LOG_LEVELS.join(', ')}`);
  const workers = whole('WORKERS', 1, 1, 64);
  if (workers > 1 && (databaseUrl === null || redisUrl === null)) {
    wrong.push('WORKERS: more than 1 needs DATABASE_URL and REDIS_URL, through which they share polls and results');
  }

  const config: Config = {
    port: whole('PORT', 4000, 0, 65_535),
    host: given('HOST') ?? '127.0.0.1',
    databaseUrl,
    redisUrl,
    dataDir: given('DATA_DIR') ?? './data',
    secret,
    liveIntervalMs: whole('LIVE_INTERVAL_MS', 100, 0, 60_000),
    logLevel: logLevel ?? 'info',
    access: readAccess({ given, whole, wrong }),
    drainMs: whole('DRAIN_MS', 10_000, 0, 600_000),
    workers,
  };
  if (wrong.length > 0) throw new InvalidInputError(`The environment is wrong:\n  ${wrong.join('\n  ')}`);
  return Object.freeze(config);
}

/** What is wrong with it. The value may hold a password: it is not shown. */
function wrongRedisUrl(text: string): string | null {
  if (!/^rediss?:\/\/./.test(text)) return 'must begin with redis:// or rediss://';
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || url.hostname === '') return 'is not a URL; a password in it must be percent-encoded';
  for (const part of [url.username, url.password]) {
    try {
      decodeURIComponent(part);
    } catch {
      return 'user or password is not percent-encoded as it should be';
    }
  }
  if (!/^\/?\d{0,5}$/.test(url.pathname)) return 'after the host only the number of a database may follow';
  if (url.search !== '' || url.hash !== '') return 'takes no options after ? or #';
  return null;
}
