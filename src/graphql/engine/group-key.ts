/**
 * Chooses the group of a subscriber: the subscribers that get the same bytes (L8, L9).
 */

import { getVariableValues } from 'graphql';
import { pollNotFound } from '../../core/errors.ts';
import type { Audience } from '../../core/visibility.ts';
import { managesPoll, seesPoll } from '../../identity/permissions.ts';
import { NOBODY, voterIn } from '../../identity/viewer.ts';
import type { Subscription } from '../../live/hub.ts';
import type { Context } from '../context.ts';
import { schema } from '../schema/schema.ts';
import type { PreparedOperation, Variables } from './operation.ts';

type GroupOptions = Pick<Subscription, 'groupKey' | 'encode'>;

/**
 * The group of this viewer, now and after its vote. Throws `NotFoundError` if the poll
 * does not exist or the viewer may not know of it (L7).
 */
export async function groupFor(
  pollId: string,
  { services, viewer }: Context,
  { dependsOnViewer }: PreparedOperation,
  serve: (as: Audience) => GroupOptions,
): Promise<GroupOptions & Pick<Subscription, 'claim'>> {
  let poll = await services.hub.poll(pollId);
  // The cached poll may be stale: the organizer may have opened the draft since.
  if (poll !== null && !seesPoll(viewer, poll)) poll = (await services.hub.read(pollId))?.poll ?? null;
  if (poll === null || !seesPoll(viewer, poll)) throw pollNotFound(pollId);
  if (managesPoll(viewer, poll)) return { ...serve('manager'), claim: null };
  // A personal operation runs for its viewer each time, which checks visibility again.
  const voter = dependsOnViewer ? null : voterIn(viewer, poll);
  if (voter === null) return { ...serve('other'), claim: null };
  return {
    ...serve('other'),
    claim: { voterKey: services.voters.keyOf(poll.id, voter), asVoter: serve('voter') },
  };
}

/**
 * The key of a group: subscribers with the same key would get the same bytes alone. It
 * holds coerced values, so `1` and `"1"` for an ID share a group. It tells an absent
 * variable from null, because defaults and directives do.
 */
export function groupKey(prepared: PreparedOperation, variables: Variables, context: Context, as: Audience): string {
  return JSON.stringify([
    prepared.id,
    innerValues(prepared, variables),
    prepared.dependsOnViewer ? context.viewer : as,
  ]);
}

/** The values that the selection depends on: each in an array, or 0 if it is absent. */
function innerValues({ operation, innerVariables }: PreparedOperation, variables: Variables): readonly unknown[] {
  if (innerVariables.length === 0) return innerVariables;
  const { coerced, errors } = getVariableValues(schema, operation.variableDefinitions ?? [], variables ?? {});
  if (coerced === undefined) throw errors?.[0] ?? new Error('Variables cannot be coerced.');
  return innerVariables.map((name) => (Object.hasOwn(coerced, name) ? [coerced[name]] : 0));
}

/** The context of a group. Only a personal operation runs for its viewer (L9). */
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
