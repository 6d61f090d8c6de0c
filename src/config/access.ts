/** Who may come in, and how much they may ask: the part of the configuration that faces the outside. */
import { isIP } from 'node:net';

/** What reads one variable; `wrong` collects every mistake. */
export interface Reader {
  given(name: string): string | undefined;
  whole(name: string, preset: number, least: number, most: number): number;
  readonly wrong: string[];
}

export interface AccessConfig {
  /** Null: there are no accounts. Exactly one of `secret` and `jwksUrl` is set. */
  readonly jwt: JwtConfig | null;
  /** `organizers`: creating a poll takes an account with the role organizer or admin. */
  readonly pollCreation: 'open' | 'organizers';
  /** Origins besides our own whose pages may call. */
  readonly corsOrigins: readonly string[] | '*';
  /** Addresses and CIDRs of the proxies whose `X-Forwarded-*` counts. */
  readonly trustedProxies: readonly string[];
  /** For one address; 0 is no limit. */
  readonly limits: {
    /** A second. */
    readonly votes: number;
    /** An hour; accounts each by themselves. */
    readonly polls: number;
    /** At once. */
    readonly connections: number;
    /** Points a second. */
    readonly operationCost: number;
  };
}

export interface JwtConfig {
  readonly secret: string | null;
  readonly jwksUrl: string | null;
  readonly audience: string | null;
  readonly issuer: string | null;
}

export function readAccess(reader: Reader): AccessConfig {
  const { given, whole, wrong } = reader;
  const jwt = readJwt(reader);
  const pollCreation = given('POLL_CREATION') ?? 'open';
  if (pollCreation !== 'open' && pollCreation !== 'organizers') {
    wrong.push(`POLL_CREATION: "${pollCreation}" must be open or organizers`);
  } else if (pollCreation === 'organizers' && jwt === null) {
    wrong.push('POLL_CREATION: organizers needs JWT_SECRET or JWKS_URL, or nobody could create a poll');
  }
  return Object.freeze({
    jwt,
    pollCreation: pollCreation === 'organizers' ? 'organizers' : 'open',
    corsOrigins: readOrigins(reader),
    trustedProxies: readProxies(reader),
    limits: Object.freeze({
      votes: whole('VOTE_RATE_LIMIT', 50, 0, 1_000_000),
      polls: whole('POLL_CREATION_LIMIT', 60, 0, 1_000_000),
      connections: whole('CONNECTION_LIMIT', 2_000, 0, 1_000_000),
      operationCost: whole('OPERATION_COST_LIMIT', 20_000, 0, 1_000_000_000),
    }),
  });
}

function readJwt({ given, wrong }: Reader): JwtConfig | null {
  const secret = given('JWT_SECRET') ?? null;
  const jwksUrl = given('JWKS_URL') ?? null;
  const audience = given('JWT_AUDIENCE') ?? null;
  const issuer = given('JWT_ISSUER') ?? null;
  if (secret !== null && jwksUrl !== null) wrong.push('JWT_SECRET, JWKS_URL: set one of them, not both');
  // RFC 7518, 3.2: the key of HS256 has at least 256 bits.
  if (secret !== null && secret.length < 32) wrong.push('JWT_SECRET: must have at least 32 characters');
  if (jwksUrl !== null && !isSafeUrl(jwksUrl)) {
    wrong.push('JWKS_URL: must be an https:// address; http:// only on this machine or in a private network');
  }
  if (secret !== null || jwksUrl !== null) return Object.freeze({ secret, jwksUrl, audience, issuer });
  for (const [name, value] of Object.entries({ JWT_AUDIENCE: audience, JWT_ISSUER: issuer })) {
    if (value !== null) wrong.push(`${name}: has no meaning without JWT_SECRET or JWKS_URL`);
  }
  return null;
}

function readOrigins({ given, wrong }: Reader): readonly string[] | '*' {
  const entries = listed(given('CORS_ORIGINS'));
  if (entries.length === 1 && entries[0] === '*') return '*';
  for (const entry of entries) {
    if (!/^https?:\/\//.test(entry) || !URL.canParse(entry) || new URL(entry).origin !== entry) {
      const hint = entry === '*' ? 'stands alone' : 'must be an origin, such as https://polls.example';
      wrong.push(`CORS_ORIGINS: "${entry}" ${hint}`);
    }
  }
  return entries;
}

function readProxies({ given, wrong }: Reader): readonly string[] {
  const entries = listed(given('TRUSTED_PROXIES'));
  for (const entry of entries) {
    const [address = '', bits, ...rest] = entry.split('/');
    const most = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    const fits = bits === undefined ? most > 0 : /^\d{1,3}$/.test(bits) && Number(bits) <= most;
    if (!fits || rest.length > 0) {
      wrong.push(`TRUSTED_PROXIES: "${entry}" must be an address or a CIDR, such as 10.0.0.0/8`);
    }
  }
  return entries;
}

function listed(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}

/** Whoever can change the keys on their way here can make tokens: in the open they come by https only. */
function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username } = new URL(text);
  if (username !== '') return false;
  if (protocol === 'https:') return true;
  return protocol === 'http:' && isPrivate(hostname.replace(/^\[|\]$/g, ''));
}

function isPrivate(host: string): boolean {
  switch (isIP(host)) {
    case 4:
      return /^(127|10)\.|^192\.168\.|^172\.(1[6-9]|2\d|3[01])\./.test(host);
    case 6:
      return host === '::1' || /^f[cd]/i.test(host);
    default:
      // A name without a dot is one of this machine or of a container network.
      return !host.includes('.') || host.endsWith('.localhost');
  }
}
