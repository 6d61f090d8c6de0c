/** Among whom a subscriber sits: who shares its bytes, and as whom they are made (L8, L9). */

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

/**
 * The key of a group: subscribers with the same key would get the same bytes alone. It holds the coerced values, so that
 * `1` and `"1"` for an ID share, and it tells an absent variable from null, which a default value does too.
 */
export function groupKey(prepared: PreparedOperation, variables: Variables, context: Context, as: Audience): string {
  return JSON.stringify([
    prepared.id,
    innerValues(prepared, variables),
    prepared.dependsOnViewer ? context.viewer : as,
  ]);
}

/** The values that the selection depends on, each in an array; 0 for an absent one. */
function innerValues({ operation, innerVariables }: PreparedOperation, variables: Variables): readonly unknown[] {
  if (innerVariables.length === 0) return innerVariables;
  const { coerced, errors } = getVariableValues(schema, operation.variableDefinitions ?? [], variables ?? {});
  if (coerced === undefined) throw errors?.[0] ?? new Error('Variables cannot be coerced.');
  return innerVariables.map((name) => (Object.hasOwn(coerced, name) ? [coerced[name]] : 0));
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
