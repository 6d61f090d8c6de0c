/** Who asks: read once a request or connection, from what it sent. */
import { createHash, randomBytes } from 'node:crypto';
import type { Poll } from '../core/poll.ts';
import type { Account, Accounts, RefusedAccountToken } from './accounts.ts';
import type { VoterKeys } from './voter-keys.ts';

export const VOTER_COOKIE = 'pollcast_voter';
export const VOTER_HEADER = 'pollcast-voter';

/** What a request or a connection brought along; all of it may be missing or nonsense. */
export interface Credentials {
  readonly authorization?: string | undefined;
  readonly cookie?: string | undefined;
  readonly voterToken?: string | undefined;
}

/** `voterToken`: a voter token that this server has not signed. The others are about the token of an account. */
export type RefusedToken = RefusedAccountToken | 'voterToken';

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
  voters: VoterKeys,
  accounts: Accounts | null = null,
): Viewer | Promise<Viewer> {
  const { authorization, cookie, voterToken } = credentials;
  if (authorization === undefined && cookie === undefined && voterToken === undefined) return NOBODY;
  const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
  const given = voterToken === undefined || voterToken === '' ? null : voterToken;
  const token = given ?? readCookie(cookie ?? '', VOTER_COOKIE);
  const voter = token === null ? null : voters.read(token);
  // A cookie may outlive the secret that signed it: then the browser gets a new one. A token that the caller
  // sends itself must be right.
  if (given !== null && voter === null) return { ...NOBODY, refusedToken: 'voterToken' };
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

/** Who the viewer is as a voter of this poll; null: nobody yet. */
export function voterIn(viewer: Viewer, poll: Poll): string | null {
  if (poll.voterIdentity !== 'ACCOUNT') return viewer.voter;
  return viewer.account === null ? null : accountVoter(viewer.account.sub);
}

export function accountVoter(sub: string): string {
  return `account:${sub}`;
}

export function newOrganizerKey(): { readonly key: string; readonly hash: string } {
  const key = `pck_${randomBytes(24).toString('base64url')}`;
  return { key, hash: hashKey(key) };
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
