/** The token of an account over time: refused, expired, or how long it still counts. */
import { InvalidInputError, NotAllowedError, type PollcastError, UnauthenticatedError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { RefusedToken, Viewer } from './viewer.ts';

/** For a voter token in the input, a header or `connectionParams`. */
export const UNSIGNED_VOTER_TOKEN = 'voterToken: not a token that this server has signed.';

const REFUSALS: Record<RefusedToken, string> = {
  voterToken: UNSIGNED_VOTER_TOKEN,
  expired: 'Your session has expired: sign in again.',
  invalid: 'Your session is not valid: sign in again.',
  unsupported: 'This server knows no accounts: send an organizer key, or no authorization.',
};

/** The error for a viewer with a refused token, for all operations but mutations; null for all other viewers. */
export function refusalOf({ refusedToken }: Viewer): PollcastError | null {
  if (refusedToken === null) return null;
  const message = REFUSALS[refusedToken];
  return refusedToken === 'voterToken' ? new InvalidInputError(message) : new UnauthenticatedError(message);
}

/** Every mutation calls this first. Throws if the viewer came with a refused token. */
export function requireSession({ refusedToken }: Viewer): void {
  if (refusedToken === null) return;
  const message = REFUSALS[refusedToken];
  throw refusedToken === 'voterToken' ? new InvalidInputError(message) : new NotAllowedError(message);
}

/** The error that a stream sends when the viewer's token expires. */
export function sessionExpired(): UnauthenticatedError {
  return new UnauthenticatedError(REFUSALS.expired);
}

/** The viewer of a connection after its token has expired. */
export function withoutSession(viewer: Viewer): Viewer {
  return { ...viewer, account: null, refusedToken: 'expired' };
}

/** Shortens a wait so that it ends when the viewer's token expires. Milliseconds. */
export function withinSession(waitMs: number, { account }: Viewer, clock: Clock): number {
  return account === null ? waitMs : Math.max(0, Math.min(waitMs, account.expiresAt - clock.now()));
}
