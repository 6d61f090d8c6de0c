/** Whatever answers results or a poll asks here what of it the caller may see (L8). */

import { type Audience, type ShownResults, show } from '../../core/visibility.ts';
import { managesPoll, seesPoll } from '../../identity/permissions.ts';
import type { PollView } from '../../live/hub.ts';
import type { Context } from '../context.ts';

export async function shownResults(view: PollView, ctx: Context): Promise<ShownResults> {
  const as = view.audience ?? ctx.audience ?? (await ctx.services.votes.shownAs(ctx.viewer, view.poll));
  return show(await view.results(), as);
}

/** The poll where the caller may know of it. */
export function visible(view: PollView | null, ctx: Context): PollView | null {
  return view !== null && (ctx.audience === 'manager' || seesPoll(ctx.viewer, view.poll)) ? view : null;
}

/** What a mutation answers to whom it has just made that. */
export function visibleTo(view: PollView, as: Audience, ctx: Context): PollView {
  return { ...view, audience: managesPoll(ctx.viewer, view.poll) ? 'manager' : as };
}
