/** The arguments and the environment of the demo. */
import { parseArgs } from 'node:util';
import { Failure } from './failure.ts';

export const USAGE = `Usage: npm run demo -- [options]

Replays the mayoral election of Burlington, Vermont, 2009: each of 8976 real ballots is cast by a voter of its own, while
the results arrive over a subscription. Ends with the runoff, and with 0 only where it matches the official count.

  --url URL    against the server that runs there, such as http://127.0.0.1:4000; or set POLLCAST_URL.
               Without one, the demo starts a server of its own, which goes away with its data at the end.
  --limit N    cast only the first N ballots; without the comparison then
  --help       this text`;

export interface Options {
  /** The GraphQL endpoint of a running server; null: start one. */
  readonly graphql: URL | null;
  /** How many ballots to cast at most. */
  readonly limit: number;
}

/** Null: help was asked for. Throws a Failure where an option is wrong. */
export function readOptions(args: string[], env: Readonly<Record<string, string | undefined>>): Options | null {
  const { url, limit, help } = parse(args);
  if (help === true) return null;
  const address = url ?? (env.POLLCAST_URL || undefined);
  if (limit !== undefined && !/^[1-9]\d{0,8}$/.test(limit)) {
    throw new Failure(`--limit: "${limit}" must be a whole number from 1.`);
  }
  return {
    graphql: address === undefined ? null : readUrl(address, url === undefined ? 'POLLCAST_URL' : '--url'),
    limit: limit === undefined ? Number.POSITIVE_INFINITY : Number(limit),
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: { url: { type: 'string' }, limit: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new Failure(`${line} (see --help)`);
  }
}

function readUrl(address: string, name: string): URL {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw new Failure(`${name}: "${address}" must be an address such as http://127.0.0.1:4000.`);
  }
  if (!url.pathname.endsWith('/graphql')) url.pathname = `${url.pathname.replace(/\/$/, '')}/graphql`;
  return url;
}
