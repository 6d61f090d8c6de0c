/**
 * A storm: voters who vote at several instances and try again until they are acknowledged, and watchers on every
 * transport. Whatever is broken meanwhile, `settle()` proves at the end that each acknowledged vote is there once, that the
 * tallies equal a recount and what was acknowledged, and that each watcher came to the newest version, seeing none twice
 * and none go back.
 */
import { createClient } from 'graphql-ws';
import postgres from 'postgres';
import { expect } from 'vitest';
import { WebSocket } from 'ws';
import { makeVoterKeys } from '../../src/identity/voter-keys.ts';
import { openStore } from '../../src/store/store.ts';
import { createPoll, manage, type ResultsAnswer, results, type TestPoll } from './api.ts';
import { eventually } from './peers.ts';
import { randomFrom } from './random.ts';
import { TEST_SECRET } from './server.ts';
import { TRANSPORTS } from './transports.ts';

/** The longest time to acknowledge or refuse a vote, in milliseconds, under any fault. */
const SETTLED_MS = 30_000;
const AGAIN_MS = 50;
const POLLS = 2;

export interface StormOptions {
  readonly seed: number;
  /** The URLs of the running instances. */
  readonly instances: () => readonly string[];
  /** The same without the faulty network. */
  readonly databaseUrl: string;
  /** How many vote at once over HTTP, and as many over WebSocket. */
  readonly voters?: number;
  /** How many sets of watchers, one a transport in each. */
  readonly watchers?: number;
  /** Whether a watcher may lose its connection. It resumes with its version, perhaps at another instance. */
  readonly mayBeCut?: boolean;
}

export interface Storm extends AsyncDisposable {
  readonly polls: readonly TestPoll[];
  readonly acknowledged: number;
  /** Refusals by kind. `broken` counts connections that ended before a response. */
  readonly refused: ReadonlyMap<string, number>;
  /** Resolves when so many more votes are acknowledged. */
  more(count: number): Promise<void>;
  /** Resolves when that many more votes were refused. */
  moreRefused(count: number): Promise<void>;
  /** The most tries that a vote has needed since this was last called. */
  mostTries(): number;
  settle(): Promise<Report>;
}

export interface Report {
  readonly ballots: number;
  readonly retried: number;
  readonly unansweredButThere: number;
  readonly updates: number;
  readonly cuts: number;
}

interface Ballot {
  readonly poll: TestPoll;
  readonly choice: number;
  readonly voterToken: string;
  receiptId: string | null;
}

type Answer =
  | { readonly kind: 'receipt'; readonly id: string; readonly outcome: string }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string }
  | { readonly kind: 'broken' };

const VOTE = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename
  ... on CastVoteSuccess { receipt { id outcome } } ... on Error { message } } }`;

/** Creates its polls at the first instance and begins. */
export async function startStorm(options: StormOptions): Promise<Storm> {
  const random = randomFrom(options.seed);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[random(items.length)];
    if (item === undefined) throw new Error('There is nothing to pick from.');
    return item;
  };
  const signer = makeVoterKeys(TEST_SECRET);
  const failures: string[] = [];
  const ballots: Ballot[] = [];
  const refused = new Map<string, number>();
  const clients = new Map<string, WsVoter>();
  let acknowledged = 0;
  let refusals = 0;
  let retried = 0;
  let unansweredButThere = 0;
  let tries = 0;
  let updates = 0;
  let cuts = 0;
  let isVoting = true;
  let isOver = false;

  const home = options.instances()[0];
  const polls: TestPoll[] = [];
  for (let n = 0; n < POLLS; n++) polls.push(await createPoll(`${home}/graphql`));
  const watchers = Array.from({ length: options.watchers ?? options.instances().length }, (_, set) =>
    TRANSPORTS.map((transport) => startWatcher(transport, set)),
  ).flat();
  await eventually(() => watchers.every(({ last }) => last !== null), 'every watcher has its first results');
  const voters = Array.from({ length: 2 * (options.voters ?? 4) }, (_, n) => voteOnAndOn(n % 2 === 0));

  function startWatcher([name, open]: (typeof TRANSPORTS)[number], set: number): Watcher {
    const poll = polls[set % POLLS];
    if (poll === undefined) throw new Error('There are polls.');
    const watcher: Watcher = { name, poll, last: null, ended: false };
    void watch(watcher, open, set).catch((error: unknown) => failures.push(`${name}: ${error}`));
    return watcher;
  }

  async function watch(watcher: Watcher, open: (typeof TRANSPORTS)[number][1], set: number): Promise<void> {
    const { name, poll } = watcher;
    for (let visit = 0; !isOver && !watcher.ended; visit++) {
      const urls = options.instances();
      const url = urls[(set + visit) % urls.length] ?? '';
      try {
        await using client = await open(url, poll.id, watcher.last?.version);
        let returned = 0;
        while (!isOver && !watcher.ended) {
          const seen = await client.next(Number.POSITIVE_INFINITY);
          if (seen.type === 'gone') throw new Error('the poll is gone');
          if (seen.type === 'end') watcher.ended = true;
          else {
            if (watcher.last !== null && seen.results.version <= watcher.last.version) {
              failures.push(`${name}: version ${seen.results.version} came after ${watcher.last.version}`);
            }
            updates++;
            watcher.last = seen.results;
          }
          // An EventSource reconnects by itself.
          cuts += client.returned - returned;
          returned = client.returned;
          if (client.returned > 0 && options.mayBeCut !== true) failures.push(`${name}: lost its connection`);
        }
      } catch (error) {
        if (isOver) return;
        cuts++;
        if (options.mayBeCut !== true) failures.push(`${name}: ${error}`);
        await pause(AGAIN_MS);
      }
    }
  }

  async function voteOnAndOn(overHttp: boolean): Promise<void> {
    while (isVoting) {
      const ballot: Ballot = {
        poll: pick(polls),
        choice: random(4),
        voterToken: signer.issue().token,
        receiptId: null,
      };
      ballots.push(ballot);
      await settleBallot(ballot, overHttp);
      // Sometimes the same vote is sent again, at any instance: the counts must not change.
      if (random(4) === 0) await settleBallot(ballot, overHttp);
    }
  }

  async function settleBallot(ballot: Ballot, overHttp: boolean): Promise<void> {
    const before = ballot.receiptId;
    let url = '';
    for (let attempt = 1; ; attempt++) {
      // Retry at another instance if there is one.
      const others = options.instances().filter((each) => each !== url);
      url = pick(others.length > 0 ? others : options.instances());
      tries = Math.max(tries, attempt);
      const answer = await answerOf(ballot, url, overHttp);
      if (answer.kind === 'receipt') {
        const expected = before !== null ? ['UNCHANGED'] : attempt === 1 ? ['RECORDED'] : ['RECORDED', 'UNCHANGED'];
        if (!expected.includes(answer.outcome)) failures.push(`attempt ${attempt} answered ${answer.outcome}`);
        if (before !== null && answer.id !== before) failures.push(`another receipt for the same ballot`);
        if (before === null && answer.outcome === 'UNCHANGED') unansweredButThere++;
        if (before === null) acknowledged++;
        ballot.receiptId = answer.id;
        return;
      }
      const what = answer.kind === 'refused' ? `${answer.code}: ${answer.message}` : 'broken';
      refused.set(what, (refused.get(what) ?? 0) + 1);
      refusals++;
      if (answer.kind === 'refused' && !['UNAVAILABLE', 'RateLimitedError'].includes(answer.code)) {
        failures.push(`a vote was refused with ${what}`);
        return;
      }
      retried++;
      await pause(AGAIN_MS);
    }
  }

  async function answerOf(ballot: Ballot, url: string, overHttp: boolean): Promise<Answer> {
    const { poll, choice, voterToken } = ballot;
    const input = { pollId: poll.id, choiceIds: [poll.choiceIds[choice]], voterToken };
    const late = AbortSignal.timeout(SETTLED_MS);
    try {
      return readAnswer(await (overHttp ? post(url, input, late) : wsVoter(url).cast(input, late)));
    } catch {
      if (late.aborted) failures.push(`a vote was neither acknowledged nor refused in ${SETTLED_MS} ms`);
      return { kind: 'broken' };
    }
  }

  function wsVoter(url: string): WsVoter {
    let client = clients.get(url);
    if (client === undefined) clients.set(url, (client = makeWsVoter(url)));
    return client;
  }

  async function settle(): Promise<Report> {
    isVoting = false;
    await Promise.all(voters);
    const url = options.instances()[0];
    // The last fault may still refuse the first requests (M4: the server recovers by itself).
    await eventually(
      () =>
        fetch(`${url}/readyz`).then(
          ({ ok }) => ok,
          () => false,
        ),
      'the instance is ready again',
    );
    for (const poll of polls) {
      const newest = await results(`${url}/graphql`, poll.id);
      expect(newest.ballotCount).toBe(ballots.filter((ballot) => ballot.poll === poll).length);
      expect(newest.tallies.map(({ votes }) => votes)).toEqual(
        poll.choiceIds.map((_, n) => ballots.filter((ballot) => ballot.poll === poll && ballot.choice === n).length),
      );
      const mine = watchers.filter((watcher) => watcher.poll === poll);
      const behind = () => mine.filter(({ last }) => last?.version !== newest.version).map(({ name }) => name);
      await eventually(() => behind().length === 0, 'every watcher is on the newest version').catch((error) => {
        throw new Error(`${error.message} Behind are: ${behind().join(', ')}. ${failures.join('; ')}`);
      });
      expect((await manage(`${url}/graphql`, 'closePoll', poll)).__typename).toBe('ClosePollSuccess');
      await eventually(() => mine.every(({ ended }) => ended), 'every watcher has come to the end');
      const final = await results(`${url}/graphql`, poll.id);
      for (const { last } of mine) expect(last).toMatchObject(final);
    }
    expect([...new Set(failures)]).toEqual([]);
    await compareWithDatabase(
      options.databaseUrl,
      polls.map(({ id }) => id),
      ballots,
    );
    return { ballots: ballots.length, retried, unansweredButThere, updates, cuts };
  }

  return {
    polls,
    refused,
    get acknowledged() {
      return acknowledged;
    },
    more: (count) => passing(() => acknowledged, count, 'more votes are acknowledged', failures),
    moreRefused: (count) => passing(() => refusals, count, 'votes are refused', failures),
    mostTries() {
      const most = tries;
      tries = 0;
      return most;
    },
    settle,
    async [Symbol.asyncDispose]() {
      isVoting = false;
      isOver = true;
      await Promise.all([...clients.values()].map((client) => client.close()));
    },
  };
}

interface Watcher {
  readonly name: string;
  readonly poll: TestPoll;
  last: ResultsAnswer | null;
  ended: boolean;
}

/** Waits for a counter to rise by `count`, longer than anything in the product may take. */
async function passing(now: () => number, count: number, what: string, failures: readonly string[]): Promise<void> {
  const goal = now() + count;
  const end = Date.now() + 2 * SETTLED_MS;
  while (now() < goal) {
    if (Date.now() > end) throw new Error(`It never came to this: ${what}. ${failures.join('; ')}`);
    await pause(5);
  }
}

async function compareWithDatabase(
  databaseUrl: string,
  pollIds: readonly string[],
  ballots: readonly Ballot[],
): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const rows = await sql`SELECT receipt_id::text AS id FROM ballots WHERE poll_id = ANY(${pollIds})`;
    const kept = new Set(rows.map(({ id }) => id));
    expect(rows.length).toBe(ballots.length);
    expect(ballots.filter(({ receiptId }) => receiptId === null || !kept.has(receiptId))).toEqual([]);
  } finally {
    await sql.end();
  }
  const store = await openStore({ databaseUrl, dataDir: '' });
  try {
    expect((await store.recount()).differences).toEqual([]);
  } finally {
    await store.close();
  }
}

interface VotePayload {
  readonly data?: {
    readonly castVote?: {
      readonly __typename: string;
      readonly message?: string;
      readonly receipt?: { readonly id: string; readonly outcome: string };
    } | null;
  } | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: { readonly code?: string } }[];
}

function readAnswer({ data, errors }: VotePayload): Answer {
  const vote = data?.castVote;
  if (vote?.receipt !== undefined) return { kind: 'receipt', ...vote.receipt };
  if (vote != null) return { kind: 'refused', code: vote.__typename, message: vote.message ?? '' };
  const [error] = errors ?? [];
  if (error === undefined) return { kind: 'broken' };
  return { kind: 'refused', code: error.extensions?.code ?? '', message: error.message };
}

async function post(url: string, input: object, signal: AbortSignal): Promise<VotePayload> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: VOTE, variables: { input } }),
    signal,
  });
  // A proxy that reaches no instance answers by itself, not in JSON.
  if (response.status === 502 || response.status === 504) return {};
  const payload: VotePayload = await response.json();
  return payload;
}

interface WsVoter {
  cast(input: object, signal: AbortSignal): Promise<VotePayload>;
  close(): void | Promise<void>;
}

/** One lazily opened connection without retries: the voter resends a vote whose connection ended. */
function makeWsVoter(url: string): WsVoter {
  const client = createClient({
    url: `${url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
  });
  return {
    cast: (input, signal) =>
      new Promise((resolve, reject) => {
        let payload: VotePayload | null = null;
        const stop = client.subscribe<{ castVote: never }>(
          { query: VOTE, variables: { input } },
          {
            next: (result) => (payload = result as VotePayload),
            error: reject,
            complete: () => (payload === null ? reject(new Error('no answer')) : resolve(payload)),
          },
        );
        signal.addEventListener('abort', () => {
          reject(new Error('late'));
          stop();
        });
      }),
    close: () => client.dispose(),
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
