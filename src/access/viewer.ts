/** Who asks: read once a request or connection, from what it sent. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { NotAllowedError } from '../core/errors.ts';
import type { Poll } from '../core/poll.ts';
import type { Voters } from './voters.ts';

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
}

export const NOBODY: Viewer = { organizerKeyHash: null, voter: null };

export function readViewer(credentials: Credentials, voters: Voters): Viewer {
  const { authorization, cookie, voterToken } = credentials;
  if (authorization === undefined && cookie === undefined && voterToken === undefined) return NOBODY;
  const key = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
  const token = voterToken ?? readCookie(cookie ?? '', VOTER_COOKIE);
  return {
    organizerKeyHash: key === undefined ? null : hashKey(key),
    voter: token === null ? null : voters.read(token),
  };
}

export function newOrganizerKey(): { readonly key: string; readonly hash: string } {
  const key = `pck_${randomBytes(24).toString('base64url')}`;
  return { key, hash: hashKey(key) };
}

export function managesPoll(viewer: Viewer, poll: Poll): boolean {
  if (viewer.organizerKeyHash === null) return false;
  return timingSafeEqual(Buffer.from(viewer.organizerKeyHash, 'hex'), Buffer.from(poll.organizerKeyHash, 'hex'));
}

/** Throws `NotAllowedError` unless the viewer manages the poll. */
export function requireManager(viewer: Viewer, poll: Poll): void {
  if (managesPoll(viewer, poll)) return;
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
