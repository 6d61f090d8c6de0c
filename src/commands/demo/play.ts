/** The whole demo: ballots, a server, the replay, the comparison. */
import { readFile } from 'node:fs/promises';
import { reasonOf } from './api.ts';
import { QUESTION } from './election.ts';
import { Failure } from './failure.ts';
import { compareWithOfficial } from './official.ts';
import type { Options } from './options.ts';
import { ballotsOf, type Profile, parseToi, shuffle } from './read-ballots.ts';
import { replay } from './replay.ts';
import { runoffTable } from './report.ts';
import type { Screen } from './screen.ts';
import { type OwnServer, startServer } from './server-process.ts';

const BALLOTS = new URL('../../../src/commands/demo/data/burlington-2009.toi', import.meta.url);
/** The order in which the ballots are cast. */
const SEED = 2009;

/** Throws a Failure where it does not come out as it must, and what `signal` was aborted with. Leaves nothing running. */
export async function play(options: Options, screen: Screen, signal: AbortSignal): Promise<void> {
  const profile = await readBallots();
  const usable = ballotsOf(profile);
  const ballots = shuffle(usable, SEED).slice(0, options.limit);
  const cut = sum(
    profile.orders.filter(({ isCut, ranking }) => isCut && ranking.length > 0).map(({ voters }) => voters),
  );
  screen.say(`${QUESTION}: ${profile.voters} real ballots`);
  screen.say(`${profile.voters - usable.length} begin with a tie and are left out, ${cut} are cut before one.`);
  screen.say(`${ballots.length} are cast, each by a voter of its own, in the order of seed ${SEED}.`);

  const own = options.graphql === null ? startServer() : null;
  const stopped = Promise.race([aborted(signal), ...(own === null ? [] : [own.lost])]);
  stopped.catch(() => {});
  try {
    const graphql = options.graphql ?? (await Promise.race([addressOf(own, screen), stopped]));
    const results = await replay({ graphql, profile, ballots, screen, stopped, isKept: own === null });

    for (const line of ['', 'The runoff', ...runoffTable(results)]) screen.say(line);
    if (results.ballotCount !== ballots.length) {
      throw new Failure(`${ballots.length} ballots were cast, but ${results.ballotCount} are counted.`);
    }
    if (ballots.length < usable.length) return screen.say('\nNot all ballots were cast: nothing to compare.');
    const { matches, lines } = compareWithOfficial(results);
    for (const line of ['', 'Against the official count', ...lines]) screen.say(line);
    if (!matches) throw new Failure('The count does not match the official one.');
    screen.say('\nThe count matches the official one.');
  } finally {
    await own?.stop();
  }
}

async function readBallots(): Promise<Profile> {
  const text = await readFile(BALLOTS, 'utf8').catch((error: unknown) => {
    throw new Failure(`The ballots cannot be read: ${reasonOf(error)}.`);
  });
  return parseToi(text);
}

async function addressOf(own: OwnServer | null, screen: Screen): Promise<URL> {
  screen.say('Starting a server with a temporary data folder; that takes a few seconds.');
  return new URL('/graphql', await own?.url);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
