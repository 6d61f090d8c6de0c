import { cell } from '../lib/judge.mjs';
import { makeOrders, pick } from './orders.mjs';
import { measureVotes, voteTable } from './votes.mjs';

export const name = 'votes-ranked';
export const title = 'votes a second in a large RANKED poll, the runoff watched live';
export const target = "half of a SINGLE poll's";

const CHOICES = 35;
const DISTINCT = 6500;
const BALLOTS = 80_000;
const BATCH = 500;
const WATCHERS = 10;

export async function run(bench) {
  const polls = {
    SINGLE: {},
    RANKED: {
      kind: 'RANKED',
      choices: Array.from({ length: CHOICES }, (_, i) => `Candidate ${i + 1}`),
      minChoices: 1,
      maxChoices: bench.ranks,
    },
  };
  const names = bench.present(['pollcast']).length === 0 ? [] : Object.keys(polls);
  const samples = await bench.compare(names, (kind) =>
    measureVotes(bench, 'pollcast', {
      server: { store: 'postgres', polls: [polls[kind]], interval: 100 },
      prepare: (session) => prepare(session, kind, bench),
    }),
  );
  return voteTable(
    samples,
    [{ of: 'RANKED', to: 'SINGLE', atLeast: 0.5 }],
    [
      `RANKED: ${CHOICES} choices, ${DISTINCT} distinct orders of up to ${bench.ranks} ranks, ${BALLOTS} ballots before the first measured vote. ` +
        `Both polls have ${WATCHERS} WebSocket watchers on all fields, interval 100; a watcher of the RANKED one got ${updates(samples.RANKED)} updates/s, of the SINGLE one ${updates(samples.SINGLE)}.`,
    ],
    (kind) => `${kind} poll`,
  );
}

async function prepare(session, kind, { ranks, warmup, seconds }) {
  const [poll] = session.polls;
  if (kind === 'RANKED') {
    poll.orders = makeOrders(poll.choices, DISTINCT, ranks);
    const ballots = Array.from({ length: BALLOTS }, (_, i) => ({
      voterId: `voter ${i}`,
      choiceIds: poll.orders[i < DISTINCT ? i : pick(i, DISTINCT)],
    }));
    for (let i = 0; i < BALLOTS; i += BATCH) await session.server.castVotes(poll, ballots.slice(i, i + BATCH));
  }
  const crowd = await session.watch(WATCHERS);
  const counted = crowd.call('count', { seconds: warmup + seconds });
  return () => counted;
}

const updates = (all = []) => cell(all, (sample) => sample.seen.perSecond / WATCHERS);
