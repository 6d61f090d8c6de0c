/** What looks unlike people voting is shown to organizers and counted, and stops nobody. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, castVote, createPoll, manage, operate, results, type TestPoll } from '../../support/api.ts';
import { manualClock } from '../../support/clock.ts';
import { eventually } from '../../support/peers.ts';
import { scrape } from '../../support/scrape.ts';
import { startServer, type TestServer } from '../../support/server.ts';

interface Shown {
  readonly kind: string;
  readonly count: number;
  readonly firstAt: string;
  readonly lastAt: string;
}

const ANOMALIES = 'query ($id: ID!) { poll(id: $id) { anomalies { kind count firstAt lastAt } } }';

describe('anomalies', () => {
  const clock = manualClock();
  let server: TestServer;
  let voters = 0;
  let addresses = 0;
  beforeAll(async () => {
    server = await startServer({ TRUSTED_PROXIES: '127.0.0.1' }, { clock });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const shown = async (poll: TestPoll): Promise<Shown[]> =>
    (await ask<{ anomalies: Shown[] }>(server.graphql, ANOMALIES, { id: poll.id }, poll.manage)).anomalies;
  const iso = (ms: number): string => new Date(ms).toISOString();
  const counted = async (kind: string) =>
    (await scrape(server.url)).get(`pollcast_anomalies_total{kind="${kind}"}`) ?? Number.NaN;
  /** New voters of an address, all at this moment. */
  const crowd = (poll: TestPoll, size: number, address: string) =>
    Promise.all(
      Array.from({ length: size }, () =>
        server.app.services.votes.cast(
          `device:${++voters}`,
          { pollId: poll.id, choiceIds: [poll.choiceIds[0] ?? ''] },
          address,
        ),
      ),
    );
  /** From an address of its own each time: one alone is stopped after ten wrong codes. */
  const tryCode = (poll: TestPoll, code: string) =>
    castVote(
      server.graphql,
      { pollId: poll.id, choiceIds: [poll.choiceIds[0]], code },
      { 'x-forwarded-for': `10.0.0.${++addresses}` },
    );

  test('VOTE_BURST: the 101st new voter of one network within ten seconds, with all before it', async () => {
    const poll = await createPoll(server.graphql);
    const before = await counted('vote_burst');
    const start = clock.now();
    await crowd(poll, 100, '10.0.0.1');
    await crowd(poll, 100, '10.0.0.2');
    expect(await shown(poll)).toEqual([]);
    clock.advance(10_000);
    await crowd(poll, 1, '10.0.0.1');
    const burst = { kind: 'VOTE_BURST', count: 101, firstAt: iso(start), lastAt: iso(start + 10_000) };
    expect(await shown(poll)).toEqual([burst]);
    // A millisecond later the hundred are too long ago.
    clock.advance(1);
    await crowd(poll, 1, '10.0.0.2');
    expect(await shown(poll)).toEqual([burst]);
    // Another burst counts each vote once, also the two that stood alone.
    await crowd(poll, 99, '10.0.0.1');
    expect(await shown(poll)).toEqual([burst]);
    await crowd(poll, 1, '10.0.0.1');
    expect(await shown(poll)).toEqual([{ ...burst, count: 201, lastAt: iso(start + 10_001) }]);
    expect((await counted('vote_burst')) - before).toBe(201);
    expect((await results(server.graphql, poll.id)).ballotCount).toBe(302);
  });

  test('no VOTE_BURST: the same voters again, other polls, an unknown network, an organizer’s batch', async () => {
    const [poll, other] = [
      await createPoll(server.graphql, { allowVoteChange: true }),
      await createPoll(server.graphql),
    ];
    for (let vote = 0; vote < 110; vote++) {
      const input = { pollId: poll.id, choiceIds: [poll.choiceIds[vote % 2] ?? ''] };
      await server.app.services.votes.cast('device:one', input, '10.0.0.3');
    }
    await crowd(poll, 60, '10.0.0.4');
    await crowd(other, 60, '10.0.0.4');
    await crowd(other, 110, '');
    const ballots = Array.from({ length: 110 }, (_, n) => ({ voterId: `${n}`, choiceIds: [other.choiceIds[0]] }));
    const batch = await ask<{ recorded: number }>(
      server.graphql,
      'mutation ($input: CastVotesInput!) { castVotes(input: $input) { ... on CastVotesSuccess { recorded } } }',
      { input: { pollId: other.id, ballots } },
      other.manage,
    );
    expect(batch.recorded).toBe(110);
    expect([await shown(poll), await shown(other)]).toEqual([[], []]);
  });

  test('CODE_BURST: the 21st wrong code within a minute, from wherever; right codes do not count', async () => {
    const poll = await createPoll(server.graphql, { voterIdentity: 'CODE' });
    const { codes } = await ask<{ codes: string[] }>(
      server.graphql,
      'mutation ($input: IssueVoterCodesInput!) { issueVoterCodes(input: $input) { ... on IssueVoterCodesSuccess { codes } } }',
      { input: { pollId: poll.id, count: 5 } },
      poll.manage,
    );
    const before = await counted('code_burst');
    const start = clock.now();
    for (let n = 0; n < 20; n++) expect((await tryCode(poll, `WRONG${n}`)).__typename).toBe('NotAllowedError');
    for (const code of codes) expect((await tryCode(poll, code)).__typename).toBe('CastVoteSuccess');
    expect(await shown(poll)).toEqual([]);
    clock.advance(60_000);
    await tryCode(poll, 'WRONG AGAIN');
    await tryCode(poll, 'AND AGAIN');
    // The second of them is the twenty-first in a minute just as well.
    const burst = { kind: 'CODE_BURST', count: 22, firstAt: iso(start), lastAt: iso(start + 60_000) };
    expect(await shown(poll)).toEqual([burst]);
    clock.advance(60_001);
    await tryCode(poll, 'LATER');
    expect(await shown(poll)).toEqual([burst]);
    expect((await counted('code_burst')) - before).toBe(22);
  });

  test('EARLY_VOTES: within 200 ms of the opening by hand, not after', async () => {
    const poll = await createPoll(server.graphql, { status: 'DRAFT' });
    const ready = await createPoll(server.graphql);
    clock.advance(5_000);
    await manage(server.graphql, 'openPoll', poll);
    const opened = clock.now();
    await crowd(ready, 1, '');
    await crowd(poll, 2, '');
    clock.advance(200);
    await crowd(poll, 1, '');
    clock.advance(1);
    await crowd(poll, 1, '');
    expect(await shown(poll)).toEqual([
      { kind: 'EARLY_VOTES', count: 3, firstAt: iso(opened), lastAt: iso(opened + 200) },
    ]);
    expect(await shown(ready)).toEqual([]);
    expect(await counted('early_votes')).toBeGreaterThanOrEqual(3);
  });

  test('EARLY_VOTES of a timed poll; where it was opened by hand before, its time is nothing special', async () => {
    const opensAt = clock.now() + 10_000;
    const input = { opensAt: iso(opensAt) };
    const [timed, hurried] = [await createPoll(server.graphql, input), await createPoll(server.graphql, input)];
    await manage(server.graphql, 'openPoll', hurried);
    clock.advance(10_000);
    await eventually(async () => (await results(server.graphql, timed.id))?.status === 'OPEN', 'it opens');
    await crowd(timed, 1, '');
    await crowd(hurried, 1, '');
    expect(await shown(timed)).toEqual([
      { kind: 'EARLY_VOTES', count: 1, firstAt: iso(opensAt), lastAt: iso(opensAt) },
    ]);
    expect(await shown(hurried)).toEqual([]);
  });

  test('L8 organizers only: to others they are null, with NOT_ALLOWED', async () => {
    const [poll, other] = [await createPoll(server.graphql), await createPoll(server.graphql)];
    for (const headers of [{}, other.manage]) {
      const answer = await operate(server.graphql, ANOMALIES, { id: poll.id }, headers);
      expect(answer.data).toEqual({ poll: { anomalies: null } });
      expect(answer.errors).toMatchObject([{ path: ['poll', 'anomalies'], extensions: { code: 'NOT_ALLOWED' } }]);
    }
  });
});
