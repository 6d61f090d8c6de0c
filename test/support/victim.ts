/** A server process for attack tests, and the checks that it still serves others afterwards. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { castVote, createPoll, results, type TestPoll } from './api.ts';
import { dataFolder } from './folders.ts';
import { overWebSocket } from './peers.ts';
import { spawnServer, TEST_SECRET } from './server.ts';

export interface Victim extends AsyncDisposable {
  readonly url: string;
  readonly graphql: string;
  readonly webSocket: string;
  readonly poll: TestPoll;
  /** Another client creates a poll, watches it and votes; the server has logged no fault. */
  stillServes(): Promise<void>;
  /** Repeats an attack until a round adds no memory. Fails if every one of `ROUNDS` rounds adds some: a leak. */
  stopsGrowing(attack: () => Promise<void>): Promise<void>;
}

/** A leak adds memory in every round; a heap that is still growing to its usual size stops. */
const ROUNDS = 8;
/** The noise of resident memory between two rounds, in bytes. */
const NOISE_BYTES = 4_000_000;

export async function startVictim(env: Record<string, string> = {}): Promise<Victim> {
  const folder = dataFolder();
  const server = await spawnServer({ DATA_DIR: folder.path, SECRET: TEST_SECRET, LIVE_INTERVAL_MS: '20', ...env });
  const graphql = `${server.url}/graphql`;
  const { pid } = server.child;
  const poll = await createPoll(graphql);
  await serves(graphql);
  return {
    url: server.url,
    graphql,
    webSocket: graphql.replace('http', 'ws'),
    poll,
    async stillServes() {
      await serves(graphql);
      expect(server.output()).not.toMatch(/"level":(50|60)/);
    },
    async stopsGrowing(attack) {
      const resident: number[] = [];
      const isSettled = (): boolean => {
        const last = resident.at(-1) ?? 0;
        return resident.length > 1 && last <= Math.max(...resident.slice(0, -1)) + NOISE_BYTES;
      };
      while (!isSettled() && resident.length < ROUNDS) {
        await attack();
        resident.push(residentBytes(pid));
      }
      expect(isSettled(), `resident bytes after each round: ${resident.join(', ')}`).toBe(true);
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

/** A normal poll, watched and voted in. */
export async function serves(graphql: string): Promise<void> {
  const poll = await createPoll(graphql);
  await using watcher = await overWebSocket(graphql, { pollId: poll.id });
  expect(await watcher.next()).toMatchObject({ version: 1, ballotCount: 0 });
  const vote = await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] });
  expect(vote).toMatchObject({ __typename: 'CastVoteSuccess', receipt: { outcome: 'RECORDED' } });
  expect(await watcher.next()).toMatchObject({ version: 2, ballotCount: 1 });
  expect((await results(graphql, poll.id)).tallies.map(({ votes }) => votes)).toEqual([0, 1, 0, 0]);
}

function residentBytes(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1_024;
}
