/** The token of an account over time: refused, expired, or how long it still counts. */
import { NotAllowedError, UnauthenticatedError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { RefusedToken } from './accounts.ts';
import type { Viewer } from './viewer.ts';

const REFUSALS: Record<RefusedToken, string> = {
  expired: 'Your session has expired: sign in again.',
  invalid: 'Your session is not valid: sign in again.',
  unsupported: 'This server knows no accounts: send an organizer key, or no authorization.',
};

/** What whoever came with a token that does not count is answered where an answer is no mutation's; null for all others. */
export function refusalOf({ refusedToken }: Viewer): UnauthenticatedError | null {
  return refusedToken === null ? null : new UnauthenticatedError(REFUSALS[refusedToken]);
}

/** Every mutation begins with this. Throws `NotAllowedError` where a token came along that does not count. */
export function requireSession({ refusedToken }: Viewer): void {
  if (refusedToken !== null) throw new NotAllowedError(REFUSALS[refusedToken]);
}

/** What a stream says whose viewer's token expires. */
export function sessionExpired(): UnauthenticatedError {
  return new UnauthenticatedError(REFUSALS.expired);
}

/** The viewer of a connection from the moment on in which the token expires. */
export function withoutSession(viewer: Viewer): Viewer {
  return { ...viewer, account: null, refusedToken: 'expired' };
}

/** How long the viewer may wait for an answer: no longer than its token counts. Milliseconds. */
export function withinSession(waitMs: number, { account }: Viewer, clock: Clock): number {
  return account === null ? waitMs : Math.max(0, Math.min(waitMs, account.expiresAt - clock.now()));
}
