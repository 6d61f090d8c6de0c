/** Who sees what of a poll (L8). Turnout, version and status are everybody's who may see the poll; the rest is shown or hidden here. */
import type { ResultsVisibility } from './poll.ts';
import type { Results, Tally } from './tally.ts';

/** As whom results are shown: who manages the poll, who has a ballot in it, or anybody else. */
export type Audience = 'manager' | 'voter' | 'other';

/** Results as one viewer may see them. Only `show` makes them, so none reach a client that were not asked about here. */
export interface ShownResults extends Omit<Results, 'tallies'> {
  /** Null: hidden, like `runoff` and `rating`. */
  readonly tallies: readonly Tally[] | null;
  readonly shownAs: Audience;
}

const SEES: Record<ResultsVisibility, (results: Results, as: Audience) => boolean> = {
  ALWAYS: () => true,
  AFTER_VOTE: (_, as) => as === 'voter',
  AFTER_CLOSE: ({ status }) => status === 'CLOSED',
  ORGANIZERS: () => false,
};

export function show(results: Results, as: Audience): ShownResults {
  const { visibility, tallies, runoff, rating } = results;
  const seen = as === 'manager' || SEES[visibility](results, as);
  return {
    ...results,
    shownAs: as,
    tallies: seen ? tallies : null,
    runoff: seen ? runoff : null,
    rating: seen ? rating : null,
  };
}
