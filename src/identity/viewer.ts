/** Who asks: read once a request or connection, from what it sent. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { NotAllowedError, UnauthenticatedError } from '../core/errors.ts';
import type { Poll } from '../core/poll.ts';
import type { Clock } from '../ports/clock.ts';
import type { Account, Accounts, RefusedToken } from './accounts.ts';
import type { Voters } from './voter-keys.ts';

export const VOTER_COOKIE = 'pollcast_voter';
export const VOTER_HEADER = 'pollcast-voter';

/** What a request or a connection brought along; all of it may be missing or nonsense. */
export interface Credentials {
  readonly authorization?: string | undefined;
  readonly cookie?: string | undefined;
  readonly voterToken?: string | undefined;
}

export interface Viewer {
  /** SHA-256 of the organizer key that the viewer bears; null without one. */
  readonly organizerKeyHash: string | null;
  /** The device's voter; null until it has a token. */
  readonly voter: string | null;
  /** Whose token was checked and counts; null without one. */
  readonly account: Account | null;
  /** A token came along that does not count, and why: the viewer is nobody then, and is told so. */
  readonly refusedToken: RefusedToken | null;
}

export const NOBODY: Viewer = { organizerKeyHash: null, voter: null, account: null, refusedToken: null };

/** Three parts of base64url, the last of which may be empty: no organizer key looks like that. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/**
 * Who asks. A promise only where a token of an account came along; that one rejects with `UnavailableError` where it cannot
 * be checked.
 */
export function readViewer(
  credentials: Credentials,
  voters: Voters,
  accounts: Accounts | null = null,
): Viewer | Promise<Viewer> {
  const { authorization, cookie, voterToken } = credentials;
  if (authorization === undefined && cookie === undefined && voterToken === undefined) return NOBODY;
  const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
  const token = voterToken ?? readCookie(cookie ?? '', VOTER_COOKIE);
  const voter = token === null ? null : voters.read(token);
  if (bearer === undefined || !JWT.test(bearer)) {
    return { ...NOBODY, organizerKeyHash: bearer === undefined ? null : hashKey(bearer), voter };
  }
  if (accounts === null) return { ...NOBODY, voter, refusedToken: 'unsupported' };
  return accounts
    .check(bearer)
    .then((found) =>
      typeof found === 'string' ? { ...NOBODY, voter, refusedToken: found } : { ...NOBODY, voter, account: found },
    );
}

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

/** Who the viewer is as a voter of this poll; null: nobody yet. */
export function voterIn(viewer: Viewer, poll: Poll): string | null {
  if (poll.voterIdentity !== 'ACCOUNT') return viewer.voter;
  return viewer.account === null ? null : accountVoter(viewer.account.sub);
}

export function accountVoter(sub: string): string {
  return `account:${sub}`;
}

/** Whether the viewer may create polls where that is for organizers. */
export function isOrganizer({ account }: Viewer): boolean {
  return account !== null && account.role !== null;
}

export function newOrganizerKey(): { readonly key: string; readonly hash: string } {
  const key = `pck_${randomBytes(24).toString('base64url')}`;
  return { key, hash: hashKey(key) };
}

/** Who bears the poll's own key, every admin, and the organizer whose account made it. */
export function managesPoll({ organizerKeyHash, account }: Viewer, poll: Poll): boolean {
  if (account !== null) return account.role === 'admin' || (account.role === 'organizer' && poll.owner === account.sub);
  if (organizerKeyHash === null) return false;
  return timingSafeEqual(Buffer.from(organizerKeyHash, 'hex'), Buffer.from(poll.organizerKeyHash, 'hex'));
}

/** A DRAFT is nobody's but its organizers'. */
export function seesPoll(viewer: Viewer, poll: Poll): boolean {
  return poll.status !== 'DRAFT' || managesPoll(viewer, poll);
}

/** Throws `NotAllowedError` unless the viewer manages the poll. */
export function requireManager(viewer: Viewer, poll: Poll): void {
  requireSession(viewer);
  if (managesPoll(viewer, poll)) return;
  if (viewer.account !== null) throw new NotAllowedError('Your account does not manage this poll.');
  throw new NotAllowedError(
    viewer.organizerKeyHash === null
      ? 'Managing a poll takes its organizer key, as "Authorization: Bearer …".'
      : 'That is not the organizer key of this poll.',
  );
}

function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

function readCookie(header: string, name: string): string | null {
  for (const part of header.split(';')) {
    const at = part.indexOf('=');
    if (at !== -1 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return null;
}
