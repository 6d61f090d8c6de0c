/** Voter codes: who may vote in a CODE poll, once each, on both databases. */
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { makeVoterKeys } from '../../../src/identity/voter-keys.ts';
import {
  ask,
  castVote,
  createPoll,
  manage,
  newVoter,
  operate,
  results,
  type TestPoll,
  type VoteAnswer,
} from '../../support/api.ts';
import { BACKENDS, type Backend, serveOn } from '../../support/backends.ts';
import { startServer, TEST_SECRET, type TestServer } from '../../support/server.ts';

interface Issued {
  readonly __typename: string;
  readonly message?: string;
  readonly codes: string[];
}

describe.each(BACKENDS)('voter codes on %s', (name, openBackend) => {
  let backend: Backend;
  let server: TestServer;
  let graphql: string;
  serveOn(openBackend, (started, on) => {
    server = started;
    backend = on;
    graphql = started.graphql;
  });

  const codedPoll = (input = {}) => createPoll(graphql, { voterIdentity: 'CODE', ...input });
  const issue = (poll: TestPoll, count: number, headers: Record<string, string> = poll.manage) =>
    ask<Issued>(
      graphql,
      `mutation ($input: IssueVoterCodesInput!) { issueVoterCodes(input: $input) { __typename
        ... on IssueVoterCodesSuccess { codes } ... on Error { message } } }`,
      { input: { pollId: poll.id, count } },
      headers,
    );
  const issued = async (poll: TestPoll, count: number) => (await issue(poll, count)).codes;
  const vote = (poll: TestPoll, choice: number, input: Record<string, unknown>, headers = {}): Promise<VoteAnswer> =>
    castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[choice]], ...input }, headers);
  const retract = (poll: TestPoll, voterToken: unknown) =>
    ask(
      graphql,
      'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename ... on Error { message } } }',
      { input: { pollId: poll.id, voterToken } },
    );
  const ballotOf = async (poll: TestPoll, voterToken: string | null) =>
    (
      await ask<{ viewerBallot: { choiceIds: string[] } | null }>(
        graphql,
        'query ($id: ID!) { poll(id: $id) { viewerBallot { choiceIds } } }',
        { id: poll.id },
        voterToken === null ? {} : { 'pollcast-voter': voterToken },
      )
    ).viewerBallot;
  const NOT_VALID = { __typename: 'NotAllowedError', message: 'That code is not valid for this poll.' };

  test('V2 V3 V4 a code is one voter: one ballot, the same again is UNCHANGED, another one is refused', async () => {
    const poll = await codedPoll();
    const [code = '', other = ''] = await issued(poll, 2);
    expect(code).toMatch(/^[BCDFGHJKMNPQRTVWXY346789]{4}(-[BCDFGHJKMNPQRTVWXY346789]{4}){2}$/);
    const first = await vote(poll, 1, { code });
    expect(first.receipt).toMatchObject({ outcome: 'RECORDED', version: 2 });
    for (const spelled of [code.toLowerCase(), code.replaceAll('-', ''), ` ${code.replaceAll('-', ' – ')} `]) {
      expect((await vote(poll, 1, { code: spelled })).receipt).toEqual({ ...first.receipt, outcome: 'UNCHANGED' });
    }
    expect(await vote(poll, 2, { code })).toMatchObject({ __typename: 'AlreadyVotedError' });
    expect((await vote(poll, 1, { code: other })).receipt.outcome).toBe('RECORDED');
    const atOnce = await Promise.all(Array.from({ length: 50 }, (_, n) => vote(poll, n % 4, { code: other })));
    expect(atOnce.filter(({ receipt }) => receipt?.outcome === 'RECORDED')).toEqual([]);
    expect(await results(graphql, poll.id)).toMatchObject({ ballotCount: 2 });
    // V3 also after the end.
    await manage(graphql, 'closePoll', poll);
    expect((await vote(poll, 1, { code })).receipt).toEqual({ ...first.receipt, outcome: 'UNCHANGED' });
  });

  test('what is no code of this poll is refused, and costs the others in its batch nothing', async () => {
    const [poll, another] = [await codedPoll(), await codedPoll()];
    const codes = await issued(poll, 30);
    const [foreign = ''] = await issued(another, 1);
    const device = await createPoll(graphql);
    const answers = await Promise.all([
      ...codes.map((code) => vote(poll, 0, { code })),
      ...['', 'BCDF-BCDF-BCDF', foreign, 'x'.repeat(5_000), `${codes[0]}B`].map((code) => vote(poll, 0, { code })),
      ...codes.map(() => vote(device, 0, {})),
    ]);
    expect(answers.slice(0, 30).every(({ receipt }) => receipt?.outcome === 'RECORDED')).toBe(true);
    for (const refused of answers.slice(30, 35)) expect(refused).toEqual(NOT_VALID);
    expect(answers.slice(35).every(({ receipt }) => receipt?.outcome === 'RECORDED')).toBe(true);
    expect((await results(graphql, poll.id)).ballotCount).toBe(30);
  });

  test('a CODE poll wants a code, another poll wants none', async () => {
    const poll = await codedPoll();
    const device = await createPoll(graphql);
    const [code = ''] = await issued(poll, 1);
    const { voterToken } = await newVoter(graphql);
    const missing = { __typename: 'InvalidInputError', message: expect.stringContaining('code: missing') };
    expect(await vote(poll, 0, {})).toMatchObject(missing);
    expect(await vote(poll, 0, { voterToken })).toMatchObject(missing);
    expect(await vote(poll, 0, {}, { cookie: `pollcast_voter=${voterToken}` })).toMatchObject(missing);
    expect(await vote(device, 0, { code })).toMatchObject({
      __typename: 'InvalidInputError',
      message: expect.stringContaining('not known by a code'),
    });
    // Who also has a token of the device: the code is what counts.
    expect((await vote(poll, 0, { code, voterToken })).receipt.outcome).toBe('RECORDED');
    expect(await ballotOf(poll, voterToken)).toBeNull();
  });

  test('the token of a coded vote stands for the code, in its poll alone', async () => {
    const poll = await codedPoll({ allowVoteChange: true });
    const another = await codedPoll({ allowVoteChange: true });
    const device = await createPoll(graphql);
    const [code = '', second = ''] = await issued(poll, 2);
    const { voterToken, receipt } = await vote(poll, 0, { code }, { 'sec-fetch-site': 'same-origin' });
    // Also a browser gets it in the payload: its cookie is the device's, for all polls.
    const token = voterToken ?? '';
    expect(token).toMatch(new RegExp(`^c1\\.${poll.id}\\.[\\w-]{22}\\.[\\w-]{22}$`));
    expect(token).not.toContain(code);
    expect(token).not.toContain(code.replaceAll('-', ''));
    expect(await ballotOf(poll, token)).toEqual({ choiceIds: [poll.choiceIds[0]] });
    expect(await ballotOf(another, token)).toBeNull();
    expect((await vote(poll, 0, { voterToken: token })).receipt).toEqual({ ...receipt, outcome: 'UNCHANGED' });
    expect((await vote(poll, 1, {}, { 'pollcast-voter': token })).receipt.outcome).toBe('REPLACED');
    expect((await vote(poll, 2, { code })).receipt.outcome).toBe('REPLACED');
    const ofAnother = { __typename: 'InvalidInputError', message: 'voterToken: is of another poll.' };
    expect(await vote(another, 0, { voterToken: token })).toEqual(ofAnother);
    expect(await retract(another, token)).toEqual(ofAnother);
    expect(await vote(device, 0, { voterToken: token })).toMatchObject({ __typename: 'InvalidInputError' });
    const { voterToken: secondToken } = await vote(poll, 0, { code: second });
    const [, , key, mac] = token.split('.');
    const [, , otherKey] = (secondToken ?? '').split('.');
    for (const forged of [
      `c1.${another.id}.${key}.${mac}`,
      `c1.${poll.id}.${otherKey}.${mac}`,
      `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`,
      `c1.${poll.id}.${key}`,
    ]) {
      expect(await vote(poll, 3, { voterToken: forged })).toMatchObject({
        __typename: 'InvalidInputError',
        message: expect.stringContaining('not a token that this server has signed'),
      });
      await expect(ballotOf(poll, forged)).rejects.toThrow('not a token that this server has signed');
    }
    expect(await retract(poll, token)).toEqual({ __typename: 'RetractVoteSuccess' });
    expect(await ballotOf(poll, token)).toBeNull();
    expect((await vote(poll, 3, { code })).receipt.outcome).toBe('RECORDED');
    expect((await results(graphql, poll.id)).ballotCount).toBe(2);
  });

  test('codes are for the organizer of a CODE poll that is not closed, 1 to 10 000 at once', async () => {
    const poll = await codedPoll({ status: 'DRAFT' });
    const device = await createPoll(graphql);
    expect(await issue(poll, 5, {})).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await issue(poll, 5, device.manage)).toMatchObject({ __typename: 'NotAllowedError' });
    expect(await issue({ ...poll, id: 'nothing' }, 5)).toMatchObject({ __typename: 'NotFoundError' });
    for (const count of [0, -1, 10_001]) {
      expect(await issue(poll, count)).toMatchObject({
        __typename: 'InvalidInputError',
        message: `count: ${count}, must be 1 to 10000.`,
      });
    }
    expect(await issue(device, 1)).toMatchObject({ __typename: 'InvalidInputError' });
    const many = await issued(poll, 10_000);
    expect(new Set(many).size).toBe(10_000);
    await manage(graphql, 'openPoll', poll);
    const [early = ''] = many;
    const [late = ''] = await issued(poll, 1);
    expect((await vote(poll, 0, { code: early })).receipt.outcome).toBe('RECORDED');
    expect((await vote(poll, 0, { code: late })).receipt.outcome).toBe('RECORDED');
    await manage(graphql, 'closePoll', poll);
    expect(await issue(poll, 1)).toMatchObject({ __typename: 'PollNotOpenError' });
  });

  test('no code and no text of one is kept in the database', async () => {
    const poll = await codedPoll();
    const [code = '', unused = ''] = await issued(poll, 2);
    await vote(poll, 0, { code });
    const key = (text: string) => {
      const voters = makeVoterKeys(TEST_SECRET);
      return voters.keyOf(poll.id, `code:${text.replaceAll('-', '')}`);
    };
    expect(await server.app.store.findBallot(poll.id, key(code))).toMatchObject({ content: '1' });
    if (backend.env.DATABASE_URL === undefined) return;
    const sql = postgres(backend.env.DATABASE_URL, { max: 1 });
    const used = () => sql`select voter_key, used_at is not null as used from voter_codes where poll_id = ${poll.id}`;
    const sorted = (rows: readonly Record<string, unknown>[]) =>
      rows.map(({ voter_key, used }) => `${voter_key} ${used}`).sort();
    expect(sorted(await used())).toEqual([`${key(code)} true`, `${key(unused)} false`].sort());
    await manage(graphql, 'resetPoll', poll);
    expect(sorted(await used())).toEqual([`${key(code)} false`, `${key(unused)} false`].sort());
    await manage(graphql, 'deletePoll', poll);
    expect(await used()).toEqual([]);
    await sql.end();
  });

  test('after a reset every code is good again', async () => {
    const poll = await codedPoll();
    const [code = ''] = await issued(poll, 1);
    await vote(poll, 0, { code });
    expect(await vote(poll, 1, { code })).toMatchObject({ __typename: 'AlreadyVotedError' });
    await manage(graphql, 'resetPoll', poll);
    expect((await vote(poll, 1, { code })).receipt.outcome).toBe('RECORDED');
  });

  test('V8 in castVotes the voterId of a CODE poll is a code', async () => {
    const poll = await codedPoll({ allowVoteChange: true });
    const codes = await issued(poll, 20);
    const ballots = [...codes, 'somebody', codes[0]?.toLowerCase() ?? ''].map((voterId, index) => ({
      voterId,
      choiceIds: [poll.choiceIds[index === 21 ? 1 : 0]],
    }));
    const answer = await ask(
      graphql,
      `mutation ($input: CastVotesInput!) { castVotes(input: $input) {
        ... on CastVotesSuccess { recorded replaced rejected { index message } } } }`,
      { input: { pollId: poll.id, ballots } },
      poll.manage,
    );
    expect(answer).toEqual({ recorded: 20, replaced: 1, rejected: [{ index: 20, message: NOT_VALID.message }] });
    expect((await vote(poll, 1, { code: codes[0] })).receipt.outcome).toBe('UNCHANGED');
  });

  test('codes come once as CSV with their links; a wrong prefix does not cost the codes', async () => {
    const poll = await codedPoll();
    const both = (linkPrefix: string) =>
      operate(
        graphql,
        `mutation ($input: IssueVoterCodesInput!, $prefix: String!) { issueVoterCodes(input: $input) {
          ... on IssueVoterCodesSuccess { codes csv(linkPrefix: $prefix) } } }`,
        { input: { pollId: poll.id, count: 3 }, prefix: linkPrefix },
        poll.manage,
      );
    const answer = (await both('https://vote.example/p?a=1,2&code=')).data?.issueVoterCodes as {
      codes: string[];
      csv: string;
    };
    expect(answer.csv).toBe(
      ['code,link', ...answer.codes.map((code) => `${code},"https://vote.example/p?a=1,2&code=${code}"`), ''].join(
        '\r\n',
      ),
    );
    for (const prefix of [
      'javascript:alert(1)//',
      '=cmd',
      'https://',
      'https://a b/',
      `https://a.example/${'x'.repeat(500)}`,
    ]) {
      const refused = await both(prefix);
      expect(refused.data?.issueVoterCodes).toMatchObject({ codes: expect.any(Array), csv: null });
      expect(refused.errors?.[0]).toMatchObject({
        message: expect.stringContaining('linkPrefix'),
        extensions: { code: 'INVALID_INPUT' },
      });
    }
  });

  test.runIf(name === 'Postgres')('M1 a code is one voter at two instances, also while both cast it', async () => {
    await using second = await startServer(backend.env);
    const poll = await codedPoll({ allowVoteChange: true });
    const codes = await issued(poll, 20);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        castVote((index % 2 ? server : second).graphql, {
          pollId: poll.id,
          choiceIds: [poll.choiceIds[index % 4]],
          code: codes[index % 20],
        }),
      ),
    );
    expect(answers.filter(({ receipt }) => receipt?.outcome === 'RECORDED')).toHaveLength(20);
    expect((await results(second.graphql, poll.id)).ballotCount).toBe(20);
  });
});
