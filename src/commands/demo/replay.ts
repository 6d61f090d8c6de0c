/** One election on a running server: made, watched, voted in, closed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Api, makeApi } from './api.ts';
import type { Results } from './count-results.ts';
import { castAll, closeElection, type Election, openElection, VOTERS_AT_ONCE } from './election.ts';
import { Failure } from './failure.ts';
import type { Profile, Ranking } from './read-ballots.ts';
import { makePace } from './replay-pace.ts';
import type { Screen } from './screen.ts';
import { watch } from './watch-poll.ts';

/** For the first results, and for the final ones after the poll was closed. */
const RESULTS_MS = 10_000;
/** For closing a poll that is given up. */
const GIVE_UP_MS = 2_000;

export interface Replay {
  readonly graphql: URL;
  readonly profile: Profile;
  readonly ballots: readonly Ranking[];
  readonly screen: Screen;
  /** Rejects when it is to end now, and why. */
  readonly stopped: Promise<never>;
  /** The server outlives the demo: it must not be left with an open poll. */
  readonly isKept: boolean;
}

/** Resolves with the final results, as the subscription brought them. */
export async function replay(job: Replay): Promise<Results> {
  const { graphql, profile, screen, stopped, isKept } = job;
  const api = makeApi(graphql, VOTERS_AT_ONCE);
  try {
    const election = await Promise.race([openElection(api, profile), stopped]);
    screen.say(`Poll ${election.joinCode} is open at ${graphql}`);
    try {
      return await voteAndWatch(api, election, job);
    } catch (error) {
      if (isKept) await Promise.race([closeElection(api, election), sleep(GIVE_UP_MS)]).catch(() => {});
      throw error;
    }
  } finally {
    api.close();
  }
}

async function voteAndWatch(
  api: Api,
  election: Election,
  { graphql, ballots, screen, stopped }: Replay,
): Promise<Results> {
  let results: Results | null = null;
  let cast = 0;
  let pace = 0;
  let began = 0;
  const paceOf = makePace();
  const live = watch(graphql, election.pollId, (newer) => {
    results = newer;
    pace = paceOf(newer.ballotCount, performance.now());
  });
  let stopDrawing = (): void => {};
  try {
    await Promise.race([inTime(live.first, 'first'), stopped]);
    stopDrawing = screen.draw(() => ({ results, pace, cast, total: ballots.length }));
    began = performance.now();
    await Promise.race([castAll(api, election, ballots, () => cast++), live.broken, stopped]);
    const tookMs = performance.now() - began;
    await Promise.race([closeElection(api, election), live.broken, stopped]);
    const final = await Promise.race([inTime(live.final, 'final'), stopped]);
    stopDrawing();
    const average = Math.round((cast / tookMs) * 1_000);
    const took = `${(tookMs / 1_000).toFixed(1)} s, ${average} a second`;
    screen.say(`Closed: ${cast} ballots were cast in ${took}; version ${final.version} is final.`);
    return final;
  } finally {
    stopDrawing();
    live.stop();
  }
}

async function inTime<T>(results: Promise<T>, which: string): Promise<T> {
  const waiting = new AbortController();
  const late = sleep(RESULTS_MS, undefined, { signal: waiting.signal }).then(() => {
    throw new Failure(`The ${which} results did not arrive within ${RESULTS_MS / 1_000} s.`);
  });
  try {
    return await Promise.race([results, late]);
  } finally {
    late.catch(() => {});
    waiting.abort();
  }
}
