/** Whatever answers results or a poll asks here what of it the caller may see (L8). */

import { type ShownAs, type ShownResults, show } from '../../core/visibility.ts';
import { managesPoll, seesPoll } from '../../identity/permissions.ts';
import type { PollView } from '../../live/hub.ts';
import type { Context } from '../context.ts';

export async function shownResults(view: PollView, ctx: Context): Promise<ShownResults> {
  const as = view.shownAs ?? ctx.shownAs ?? (await ctx.services.intake.shownAs(ctx.viewer, view.poll));
  return show(await view.results(), as);
}

/** The poll where the caller may know of it. */
export function visible(view: PollView | null, ctx: Context): PollView | null {
  return view !== null && (ctx.shownAs === 'manager' || seesPoll(ctx.viewer, view.poll)) ? view : null;
}

/** What a mutation answers to whom it has just made that. */
export function shownTo(view: PollView, as: ShownAs, ctx: Context): PollView {
  return { ...view, shownAs: managesPoll(ctx.viewer, view.poll) ? 'manager' : as };
}
