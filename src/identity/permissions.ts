/** What a viewer may do with a poll. */
import { timingSafeEqual } from 'node:crypto';
import { NotAllowedError } from '../core/errors.ts';
import type { Poll } from '../core/poll.ts';
import { requireSession } from './session.ts';
import type { Viewer } from './viewer.ts';

/** Whether the viewer may create polls where that is for organizers. */
export function isOrganizer({ account }: Viewer): boolean {
  return account !== null && account.role !== null;
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
