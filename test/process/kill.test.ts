/** kill -9 during a flood of votes: each acknowledged vote is there once, and the server restarts. */
import { expect, test } from 'vitest';
import { makeVoterKeys } from '../../src/identity/voter-keys.ts';
import { castVote, createPoll, results } from '../support/api.ts';
import { BACKENDS } from '../support/backends.ts';
import { spawnServer, TEST_SECRET } from '../support/server.ts';

const KILLS = 20;
const WORKERS = 16;

test.concurrent.each(BACKENDS)(
  `V1 V2 V3 %s: ${KILLS} times killed, no acknowledged vote lost, none counted twice`,
  async (_, openBackend) => {
    await using backend = await openBackend();
    const env = { ...backend.env, SECRET: TEST_SECRET };
    const voters = makeVoterKeys(TEST_SECRET);
    let server = await spawnServer(env);
    const poll = await createPoll(`${server.url}/graphql`);
    const everybody = new Set<string>();
    let acknowledged = 0;
    let unanswered = 0;

    for (let kill = 0; kill < KILLS; kill++) {
      const graphql = `${server.url}/graphql`;
      const cast = (url: string, voterToken: string) =>
        castVote(url, { pollId: poll.id, choiceIds: [poll.choiceIds[voterToken.charCodeAt(5) % 4]], voterToken });
      const receipts = new Map<string, string | null>();
      let killed = false;
      const flood = Array.from({ length: WORKERS }, async () => {
        while (!killed) {
          const { token } = voters.issue();
          receipts.set(token, null);
          everybody.add(token);
          const answer = await cast(graphql, token).catch(() => null);
          if (answer !== null) receipts.set(token, answer.receipt.id);
          // Kill at a different moment of the batch each time.
          if ([...receipts.values()].filter((id) => id !== null).length >= 20 + kill * 5 && !killed) {
            killed = true;
            expect(await server.end('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' });
          }
        }
      });
      await Promise.all(flood);

      server = await spawnServer(env);
      const { url } = server;
      const retry = async ([token, id]: [string, string | null]) => {
        const again = await cast(`${url}/graphql`, token);
        if (id !== null) {
          expect(again.receipt).toMatchObject({ id, outcome: 'UNCHANGED' });
          acknowledged++;
        } else {
          expect(['UNCHANGED', 'RECORDED']).toContain(again.receipt.outcome);
          unanswered++;
        }
      };
      await Promise.all([...receipts].map(retry));
      expect((await results(`${server.url}/graphql`, poll.id)).ballotCount).toBe(everybody.size);
    }

    expect((await server.end('SIGTERM')).code).toBe(0);
    expect(acknowledged).toBeGreaterThan(KILLS * 20);
    // Without votes in flight at the moment of the kill, this test would prove nothing.
    expect(unanswered).toBeGreaterThan(KILLS);
    console.log(`${KILLS} kills: ${acknowledged} acknowledged votes found again, ${unanswered} in flight sent again.`);
  },
  300_000,
);
