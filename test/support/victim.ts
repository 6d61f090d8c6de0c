/** A server to attack: a process of its own, and the proof afterwards that it serves others as before. */
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
  /** Another client creates a poll, watches it and votes; nothing was logged as a fault, and memory has not ballooned. */
  stillServes(): Promise<void>;
}

/** What garbage an attack may leave until it is collected. */
const ROOM_BYTES = 200_000_000;

export async function startVictim(env: Record<string, string> = {}): Promise<Victim> {
  const folder = dataFolder();
  const server = await spawnServer({ DATA_DIR: folder.path, SECRET: TEST_SECRET, LIVE_INTERVAL_MS: '20', ...env });
  const graphql = `${server.url}/graphql`;
  const { pid } = server.child;
  const poll = await createPoll(graphql);
  await serves(graphql);
  const before = residentBytes(pid);
  return {
    url: server.url,
    graphql,
    webSocket: graphql.replace('http', 'ws'),
    poll,
    async stillServes() {
      await serves(graphql);
      expect(residentBytes(pid) - before).toBeLessThan(ROOM_BYTES);
      expect(server.output()).not.toMatch(/"level":(50|60)/);
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
