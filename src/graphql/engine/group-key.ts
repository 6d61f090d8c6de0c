/** Among whom a subscriber sits: who shares its bytes, and as whom they are made (L8, L9). */

import { pollNotFound } from '../../core/errors.ts';
import type { ShownAs } from '../../core/visibility.ts';
import { managesPoll, seesPoll } from '../../identity/permissions.ts';
import { NOBODY, voterIn } from '../../identity/viewer.ts';
import type { Watch } from '../../live/hub.ts';
import type { Context } from '../context.ts';
import type { Prepared, Variables } from './operation.ts';

type Served = Pick<Watch, 'groupKey' | 'encode'>;

/**
 * How this viewer is served, and how once it has voted. Throws `NotFoundError` where there is no such poll, or none that it may
 * know of (L7).
 */
export async function seatOf(
  pollId: string,
  { services, viewer }: Context,
  { personal }: Prepared,
  serve: (as: ShownAs) => Served,
): Promise<Served & Pick<Watch, 'claim'>> {
  let poll = await services.hub.poll(pollId);
  // What is remembered may be a moment old, and a draft is opened some day.
  if (poll !== null && !seesPoll(viewer, poll)) poll = (await services.hub.read(pollId))?.poll ?? null;
  if (poll === null || !seesPoll(viewer, poll)) throw pollNotFound(pollId);
  if (managesPoll(viewer, poll)) return { ...serve('manager'), claim: null };
  // A personal operation is run for its viewer each time: what it may see is seen then.
  const voter = personal ? null : voterIn(viewer, poll);
  if (voter === null) return { ...serve('other'), claim: null };
  return {
    ...serve('other'),
    claim: { voterKey: services.voters.keyOf(poll.id, voter), asVoter: serve('voter') },
  };
}

export function groupKey(prepared: Prepared, variables: Variables, context: Context, as: ShownAs): string {
  const inner = prepared.innerVariables.map((name) => variables?.[name]);
  return JSON.stringify([prepared.id, inner, prepared.personal ? context.viewer : as]);
}

/** Only a personal operation is run for its viewer; any other for nobody, whoever was the first of the group (L9). */
export function groupContext(prepared: Prepared, context: Context, as: ShownAs): Context {
  const { services, viewer } = context;
  return {
    services,
    viewer: prepared.personal ? viewer : NOBODY,
    shownAs: prepared.personal ? null : as,
    address: '',
    voterToken: null,
    keepVoterToken: null,
    origin: null,
  };
}
