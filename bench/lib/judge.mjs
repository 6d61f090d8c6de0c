import { median, show } from './stats.mjs';

/** The samples that exist, as one number each. */
export const values = (samples, pick) => samples.filter((sample) => sample !== null).map(pick);

export const middle = (samples, pick) => {
  const all = values(samples, pick);
  return all.length === 0 ? null : median(all);
};

/** A table's cell: the median of the samples. */
export const cell = (samples, pick, format = show) => format(middle(samples, pick));

/**
 * Holds `of` against `to`: the median of the ratios of the runs, because what disturbs a run disturbs both sides of it.
 * Each goal is { of, to, atLeast | atMost }. Those whose sides were not measured are left out.
 */
export function judge(samples, pick, goals) {
  const verdicts = [];
  for (const { of, to, atLeast, atMost } of goals) {
    if (samples[of] === undefined || samples[to] === undefined) continue;
    const ratios = samples[of].flatMap((sample, run) => {
      const other = samples[to][run];
      return sample === null || other === null || other === undefined ? [] : [pick(sample) / pick(other)];
    });
    const value = ratios.length === 0 ? null : median(ratios);
    const spread = value === null ? 'not measured' : `${show(Math.min(...ratios))} to ${show(Math.max(...ratios))}`;
    verdicts.push({ what: `${of} / ${to}`, value, spread, ...bound(value, atLeast, atMost) });
  }
  return verdicts;
}

/** The same for a figure that is a number of its own: { what, atMost | atLeast }. */
export const judgeNumber = (what, value, { atLeast, atMost }) => ({
  what,
  value,
  spread: '',
  ...bound(value, atLeast, atMost),
});

function bound(value, atLeast, atMost) {
  if (atLeast !== undefined) return { target: `at least ${atLeast}`, met: value !== null && value >= atLeast };
  return { target: `at most ${atMost}`, met: value !== null && value <= atMost };
}
