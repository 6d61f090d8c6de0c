/** Whether the instance can do its work, asked of what it works with, answered in time whatever hangs. */
import type { Clock } from '../ports/clock.ts';
import type { Dependency } from '../ports/dependency.ts';
import type { Log } from '../ports/log.ts';

export interface Readiness {
  /** Needed, and not there: the instance cannot do its work. */
  readonly missing: readonly string[];
  /** Not there, and the work goes on without it. */
  readonly degraded: readonly string[];
}

/** How long a dependency may take to answer. */
const PATIENCE_MS = 2_000;
/** Checks of one dependency that may hang at once: asking more often does not help one that hangs. */
const HANGING = 3;

export function makeReadiness(dependencies: readonly Dependency[], clock: Clock, log: Log): () => Promise<Readiness> {
  const all = dependencies.map((dependency) => ({ dependency, hanging: 0, was: true }));

  return async () => {
    const answers = await Promise.all(
      all.map(async (item) => {
        const error = await trouble(item);
        const { name } = item.dependency;
        if (error !== null && item.was) log.warn({ err: error, dependency: name }, 'a dependency is missing');
        if (error === null && !item.was) log.info({ dependency: name }, 'a dependency is there again');
        item.was = error === null;
        return { ...item.dependency, gone: error !== null };
      }),
    );
    const names = (needed: boolean): string[] =>
      answers.filter((answer) => answer.gone && answer.needed === needed).map(({ name }) => name);
    return { missing: names(true), degraded: names(false) };
  };

  /** What is wrong with it; null: it answers. */
  function trouble(item: { readonly dependency: Dependency; hanging: number }): Promise<Error | null> {
    const late = new Error(`It did not answer within ${PATIENCE_MS} ms.`);
    if (item.hanging >= HANGING) return Promise.resolve(late);
    item.hanging++;
    return new Promise((resolve) => {
      const stop = clock.after(PATIENCE_MS, () => resolve(late));
      const done = (error: Error | null): void => {
        item.hanging--;
        stop();
        resolve(error);
      };
      item.dependency.check().then(
        () => done(null),
        (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
      );
    });
  }
}
