/**
 * A seeded storm: voters vote, change, retract and retry while watchers connect, sleep, drop and resume over both
 * transports. Afterwards every watcher is on the newest version, has only ever seen versions rise, and tallies equal a
 * recount and a model of what was acknowledged. A failure prints its seed: `FUZZ_SEED=… npx vitest run test/live/fuzz`.
 */
import { describe, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, newVoter, results } from '../support/api.ts';
import { BACKENDS } from '../support/backends.ts';
import { overEvents, overWebSocket, type Peer } from '../support/peers.ts';
import { randomFrom } from '../support/random.ts';
import { startServer } from '../support/server.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_122);
const VOTERS = 60;
const STEPS = 12;

describe.each(BACKENDS)('a storm on %s', (_, openBackend) => {
  test.each(['SINGLE', 'MULTIPLE', 'RANKED'])(
    `V2 V3 V4 V6 L2 L3 every watcher of a %s poll ends on the newest version (seed ${SEED})`,
    async (kind) => {
      await using backend = await openBackend();
      await using server = await startServer({ ...backend.env, LIVE_INTERVAL_MS: '5' });
      const { graphql } = server;
      const poll = await createPoll(graphql, { kind, allowVoteChange: true });
      const tokens = await Promise.all(
        Array.from({ length: VOTERS }, async () => (await newVoter(graphql)).voterToken),
      );
      const model = new Map<number, string>();

      async function voter(index: number): Promise<void> {
        const random = randomFrom(SEED * 1_000 + index);
        const voterToken = tokens[index];
        for (let step = 0; step < STEPS; step++) {
          const dice = random(10);
          if (dice < 2 && model.has(index)) {
            const gone = await ask<{ __typename: string }>(
              graphql,
              'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename } }',
              { input: { pollId: poll.id, voterToken } },
            );
            expect(gone.__typename).toBe('RetractVoteSuccess');
            model.delete(index);
            continue;
          }
          const order = [0, 1, 2, 3].sort(() => random(3) - 1);
          const chosen = order.slice(0, kind === 'SINGLE' ? 1 : 1 + random(4));
          const ballot = kind === 'RANKED' ? chosen.join() : [...chosen].sort().join();
          const input = { pollId: poll.id, choiceIds: chosen.map((n) => poll.choiceIds[n]), voterToken };
          const expected = model.has(index) ? (model.get(index) === ballot ? 'UNCHANGED' : 'REPLACED') : 'RECORDED';
          // Now and then it is sent several times at once, as a client on a bad line does.
          const answers = await Promise.all(
            Array.from({ length: 1 + (dice === 9 ? 3 : 0) }, () => castVote(graphql, input)),
          );
          const outcomes = answers.map(({ receipt }) => receipt.outcome).sort();
          expect(outcomes.filter((outcome) => outcome !== 'UNCHANGED')).toEqual(
            expected === 'UNCHANGED' ? [] : [expected],
          );
          expect(new Set(answers.map(({ receipt }) => receipt.id)).size).toBe(1);
          model.set(index, ballot);
        }
      }

      let over = false;
      async function watcher(index: number): Promise<void> {
        const random = randomFrom(SEED * 7_000 + index);
        const connect = index % 2 === 0 ? overWebSocket : overEvents;
        let version: number | undefined;
        for (;;) {
          const known = version;
          const peer: Peer = await connect(graphql, {
            pollId: poll.id,
            ...(known === undefined ? {} : { afterVersion: known }),
          });
          try {
            const patience = over ? Number.POSITIVE_INFINITY : 1 + random(20);
            for (let seen = 0; seen < patience; seen++) {
              const event = await peer.event();
              if (event.type === 'complete') return;
              if (event.type !== 'next') throw new Error(`${event.type} arrived`);
              expect(event.results.version).toBeGreaterThan(version ?? 0);
              version = event.results.version;
              if (event.results.isFinal) expect(event.results).toEqual(await results(graphql, poll.id));
              if (random(8) === 0) {
                peer.pause();
                for (let turn = random(20); turn >= 0; turn--) await new Promise(setImmediate);
                peer.resume();
              }
            }
          } finally {
            await peer[Symbol.asyncDispose]();
          }
        }
      }

      const watching = Array.from({ length: 24 }, (__, index) => watcher(index));
      await Promise.all(Array.from({ length: VOTERS }, (__, index) => voter(index)));
      over = true;
      await manage(graphql, 'closePoll', poll);
      await Promise.all(watching);

      const end = await results(graphql, poll.id);
      expect(end.ballotCount).toBe(model.size);
      const modelled = poll.choiceIds.map(
        (__, n) =>
          [...model.values()].filter((ballot) =>
            kind === 'RANKED' ? ballot.startsWith(String(n)) : ballot.includes(String(n)),
          ).length,
      );
      expect(end.tallies.map(({ votes }) => votes)).toEqual(modelled);
      expect((await server.app.store.recount()).differences).toEqual([]);
    },
    120_000,
  );
});
