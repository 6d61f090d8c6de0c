/** Among whom a subscriber sits: who shares its bytes, and as whom they are made (L8, L9). */

import { pollNotFound } from '../../core/errors.ts';
import type { Audience } from '../../core/visibility.ts';
import { managesPoll, seesPoll } from '../../identity/permissions.ts';
import { NOBODY, voterIn } from '../../identity/viewer.ts';
import type { Subscription } from '../../live/hub.ts';
import type { Context } from '../context.ts';
import type { PreparedOperation, Variables } from './operation.ts';

type GroupOptions = Pick<Subscription, 'groupKey' | 'encode'>;

/**
 * How this viewer is served, and how once it has voted. Throws `NotFoundError` where there is no such poll, or none that it may
 * know of (L7).
 */
export async function groupFor(
  pollId: string,
  { services, viewer }: Context,
  { dependsOnViewer }: PreparedOperation,
  serve: (as: Audience) => GroupOptions,
): Promise<GroupOptions & Pick<Subscription, 'claim'>> {
  let poll = await services.hub.poll(pollId);
  // What is remembered may be a moment old, and a draft is opened some day.
  if (poll !== null && !seesPoll(viewer, poll)) poll = (await services.hub.read(pollId))?.poll ?? null;
  if (poll === null || !seesPoll(viewer, poll)) throw pollNotFound(pollId);
  if (managesPoll(viewer, poll)) return { ...serve('manager'), claim: null };
  // A personal operation is run for its viewer each time: what it may see is seen then.
  const voter = dependsOnViewer ? null : voterIn(viewer, poll);
  if (voter === null) return { ...serve('other'), claim: null };
  return {
    ...serve('other'),
    claim: { voterKey: services.voters.keyOf(poll.id, voter), asVoter: serve('voter') },
  };
}

export function groupKey(prepared: PreparedOperation, variables: Variables, context: Context, as: Audience): string {
  const inner = prepared.innerVariables.map((name) => variables?.[name]);
  return JSON.stringify([prepared.id, inner, prepared.dependsOnViewer ? context.viewer : as]);
}

/** Only a personal operation is run for its viewer; any other for nobody, whoever was the first of the group (L9). */
export function groupContext(prepared: PreparedOperation, context: Context, as: Audience): Context {
  const { services, viewer } = context;
  return {
    services,
    viewer: prepared.dependsOnViewer ? viewer : NOBODY,
    audience: prepared.dependsOnViewer ? null : as,
    address: '',
    voterToken: null,
    keepVoterToken: null,
    origin: null,
  };
}
