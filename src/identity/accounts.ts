/**
 * Accounts by JWT. A token counts only when its signature, algorithm, times, audience and issuer are all in order; whatever
 * cannot be checked is never taken for good.
 */
import { createSecretKey } from 'node:crypto';
import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { UnavailableError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';

export const ROLES = ['admin', 'organizer'] as const;
export type Role = (typeof ROLES)[number];

export interface Account {
  /** Names the account, in the words of whoever issued the token: 1 to 255 characters. */
  readonly sub: string;
  readonly role: Role | null;
  /** From when on the token is not taken any more; milliseconds since 1970. */
  readonly expiresAt: number;
}

/** Why a token does not count. `unsupported`: this server knows no accounts. */
export type RefusedAccountToken = 'expired' | 'invalid' | 'unsupported';

export interface Accounts {
  /** Rejects with `UnavailableError` where the keys cannot be had. */
  check(token: string): Promise<Account | RefusedAccountToken>;
}

export interface AccountsOptions {
  readonly secret: string | null;
  readonly jwksUrl: string | null;
  readonly audience: string | null;
  readonly issuer: string | null;
}

/** Clocks of issuers go wrong by that much. */
const TOLERANCE_S = 5;
const LONGEST_SUB = 255;

export function makeAccounts(options: AccountsOptions, clock: Clock, log: Log): Accounts {
  const { secret, jwksUrl, audience, issuer } = options;
  // The key decides about the algorithm, never the token: a public key must not be taken for a secret.
  const algorithms = secret === null ? ['RS256', 'ES256'] : ['HS256'];
  const own = secret === null ? null : createSecretKey(Buffer.from(secret));
  const remote = jwksUrl === null ? null : remoteKeys(new URL(jwksUrl), log);
  const keyOf: JWTVerifyGetKey = (header, token) => {
    if (own !== null) return own;
    if (remote === null) throw new Error('Accounts need a secret or an address of keys.');
    return remote(header, token);
  };

  const verify = async (token: string, key: JWTVerifyGetKey): Promise<JWTPayload> => {
    const { payload } = await jwtVerify(token, key, {
      algorithms,
      requiredClaims: ['exp', 'sub'],
      clockTolerance: TOLERANCE_S,
      currentDate: new Date(clock.now()),
      ...(audience === null ? {} : { audience }),
      ...(issuer === null ? {} : { issuer }),
    });
    return payload;
  };

  return {
    async check(token) {
      try {
        return accountOf(await verify(token, keyOf)) ?? 'invalid';
      } catch (error) {
        if (!(error instanceof errors.JWKSMultipleMatchingKeys)) return refusal(error, log);
        // Several keys fit because the token names none: any of them may have signed it.
        let last: RefusedAccountToken = 'invalid';
        for await (const key of error) {
          try {
            return accountOf(await verify(token, () => key)) ?? 'invalid';
          } catch (reason) {
            const refused = refusal(reason, log);
            if (refused === 'expired') last = refused;
          }
        }
        return last;
      }
    },
  };
}

/** What exactly is wrong with a token would help only who makes such tokens: it is not told. */
function refusal(error: unknown, log: Log): RefusedAccountToken {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JOSEError) return 'invalid';
  if (!(error instanceof TypeError)) throw error;
  // The issuer's key is of no use, such as one of too few bits.
  log.warn({ err: error }, 'a token cannot be checked');
  return 'invalid';
}

function accountOf({ sub, exp, role }: JWTPayload): Account | null {
  if (typeof sub !== 'string' || sub === '' || sub.length > LONGEST_SUB || !sub.isWellFormed() || /\p{Cc}/u.test(sub))
    return null;
  if (exp === undefined) return null;
  const known = ROLES.find((name) => name === role) ?? null;
  return { sub, role: known, expiresAt: (exp + TOLERANCE_S) * 1_000 };
}

/** The issuer's keys, fetched when needed, kept for ten minutes, and looked at again where a key is new, at most every 30 s. */
function remoteKeys(url: URL, log: Log): JWTVerifyGetKey {
  const keys = createRemoteJWKSet(url, { timeoutDuration: 3_000, cooldownDuration: 30_000, cacheMaxAge: 600_000 });
  return async (header, token) => {
    try {
      return await keys(header, token);
    } catch (error) {
      if (isAboutToken(error)) throw error;
      log.warn({ err: error }, 'the keys of JWKS_URL cannot be had');
      throw new UnavailableError('Accounts cannot be checked now; try again in a moment.');
    }
  };
}

/** The keys are there, and none of them is the one that this token names. */
function isAboutToken(error: unknown): boolean {
  return (
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSENotSupported
  );
}
