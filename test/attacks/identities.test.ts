/** Attacks on who somebody is: forged, changed, swapped and replayed tokens, and many votes of one voter. */
import { createHmac } from 'node:crypto';
import { createClient } from 'graphql-ws';
import { CompactSign, exportJWK, generateKeyPair } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { castVote, createPoll, manage, newVoter, operate, results } from '../support/api.ts';
import { TEST_SECRET } from '../support/server.ts';
import { bearer, forged, type Issuer, startIssuer, token } from '../support/tokens.ts';
import { startVictim, type Victim } from '../support/victim.ts';

const inS = (seconds: number): number => Math.floor(Date.now() / 1_000) + seconds;

describe('voters', () => {
  let victim: Victim;
  beforeAll(async () => {
    victim = await startVictim();
  });
  afterAll(() => victim[Symbol.asyncDispose]());

  test('V2 a forged or changed voter token is nobody’s', async () => {
    const { graphql } = victim;
    const poll = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    const [version = '', id = '', mac = ''] = voterToken.split('.');
    const other = (text: string): string => (text[0] === 'A' ? 'B' : 'A') + text.slice(1);
    const guessed = createHmac('sha256', TEST_SECRET).update(id).digest().subarray(0, 16).toString('base64url');
    const forgeries = [
      `${version}.${other(id)}.${mac}`,
      `${version}.${id}.${other(mac)}`,
      // The secret itself signs nothing: the keys are made from it.
      `${version}.${id}.${guessed}`,
      `${version}.${id}.`,
      `${version}.${id}`,
      `v2.${id}.${mac}`,
      `${version}.${id}.${mac}.${mac}`,
      `${version}.${id}.${mac}=`,
      ` ${voterToken}`,
      `${voterToken}\n`,
      '',
      'null',
      '{"device":1}',
      'x'.repeat(10_000),
    ];
    for (const voter of forgeries) {
      const answer = await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken: voter });
      expect(answer, voter.slice(0, 50)).toMatchObject({ __typename: 'InvalidInputError' });
    }
    expect((await results(graphql, poll.id)).ballotCount).toBe(0);
    await victim.stillServes();
  });

  test('V2 a forged token in the cookie is a new voter and in the header an error, never the voter it names', async () => {
    const { graphql } = victim;
    const poll = await createPoll(graphql, { allowVoteChange: true });
    const { voterToken } = await newVoter(graphql);
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken });
    const at = voterToken.lastIndexOf('.') + 1;
    const forgedToken = `${voterToken.slice(0, at)}${voterToken[at] === 'A' ? 'B' : 'A'}${voterToken.slice(at + 1)}`;
    const query = `{ poll(id: "${poll.id}") { viewerBallot { choiceIds } } }`;
    const byCookie = await operate(graphql, query, {}, { cookie: `pollcast_voter=${forgedToken}` });
    expect(byCookie).toEqual({ data: { poll: { viewerBallot: null } } });
    const byHeader = await operate(graphql, query, {}, { 'pollcast-voter': forgedToken });
    expect(byHeader.errors?.[0]?.message).toBe('voterToken: not a token that this server has signed.');
    expect(byHeader.data ?? null).toBeNull();
    expect((await results(graphql, poll.id)).tallies[0]?.votes).toBe(1);
    await victim.stillServes();
  });

  test('V2 V3 a replayed vote, however often and over whatever, is one ballot', async () => {
    const { graphql } = victim;
    const poll = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    const captured = { pollId: poll.id, choiceIds: [poll.choiceIds[2]], voterToken };
    const first = await castVote(graphql, captured);
    for (let round = 0; round < 20; round++) {
      expect((await castVote(graphql, captured)).receipt).toEqual({ ...first.receipt, outcome: 'UNCHANGED' });
    }
    expect((await results(graphql, poll.id)).ballotCount).toBe(1);
    await victim.stillServes();
  });

  test('V2 200 votes of one voter at once over ten WebSockets and HTTP: one ballot', async () => {
    const { graphql } = victim;
    const poll = await createPoll(graphql);
    const { voterToken } = await newVoter(graphql);
    const clients = Array.from({ length: 10 }, () =>
      createClient({ url: victim.webSocket, webSocketImpl: WebSocket, connectionParams: { voterToken } }),
    );
    const query = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename ... on CastVoteSuccess { receipt { outcome } } } }`;
    const overSocket = async (index: number) => {
      const client = clients[index % clients.length];
      const input = { pollId: poll.id, choiceIds: [poll.choiceIds[index % 4]] };
      const { value } = (await client?.iterate({ query, variables: { input } }).next()) ?? {};
      return JSON.stringify(value?.data);
    };
    const overHttp = async (index: number) =>
      JSON.stringify(
        await castVote(
          graphql,
          { pollId: poll.id, choiceIds: [poll.choiceIds[index % 4]] },
          { 'pollcast-voter': voterToken },
        ),
      );
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? overSocket(index) : overHttp(index))),
    );
    expect(answers.filter((answer) => answer.includes('RECORDED'))).toHaveLength(1);
    expect(answers.filter((answer) => /RECORDED|UNCHANGED|AlreadyVotedError/.test(answer))).toHaveLength(200);
    const { ballotCount, tallies } = await results(graphql, poll.id);
    expect([ballotCount, tallies.reduce((sum, { votes }) => sum + votes, 0)]).toEqual([1, 1]);
    for (const client of clients) await client.dispose();
    await victim.stillServes();
  });

  test('keys of other polls, parts of keys and hashes of keys manage nothing', async () => {
    const { graphql } = victim;
    const [poll, other] = await Promise.all([createPoll(graphql), createPoll(graphql)]);
    const { createHash } = await import('node:crypto');
    const guesses = [
      other.organizerKey,
      poll.organizerKey.slice(0, -1),
      `${poll.organizerKey}A`,
      poll.organizerKey.toLowerCase(),
      createHash('sha256').update(poll.organizerKey).digest('hex'),
      'pck_',
      'null',
      '*',
    ];
    for (const guess of guesses) {
      for (const name of ['closePoll', 'resetPoll', 'deletePoll']) {
        expect(await manage(graphql, name, { ...poll, manage: bearer(guess) })).toMatchObject({
          __typename: 'NotAllowedError',
        });
      }
    }
    await victim.stillServes();
  });
});

describe('accounts', () => {
  let issuer: Issuer;
  let victim: Victim;
  beforeAll(async () => {
    issuer = await startIssuer();
    await issuer.rotate('key');
    victim = await startVictim({ JWKS_URL: issuer.url, JWT_AUDIENCE: 'polls' });
  });
  afterAll(async () => {
    await victim[Symbol.asyncDispose]();
    await issuer[Symbol.asyncDispose]();
  });

  const claims = { sub: 'ada', role: 'admin', aud: 'polls' };
  const payload = () => ({ ...claims, exp: inS(600) });

  /** Signed by a key that the attacker made, which the header recommends. */
  async function selfSigned(header: (jwk: object) => object): Promise<string> {
    const { publicKey, privateKey } = await generateKeyPair('RS256');
    const protectedHeader = { alg: 'RS256', ...header(await exportJWK(publicKey)) };
    return new CompactSign(Buffer.from(JSON.stringify(payload()))).setProtectedHeader(protectedHeader).sign(privateKey);
  }

  const ATTACKS: [string, () => Promise<string> | string][] = [
    ['alg none', () => forged({ alg: 'none' }, payload(), '')],
    ['alg NONE', () => forged({ alg: 'NONE', kid: 'key' }, payload(), '')],
    ['alg none with a signature', () => forged({ alg: 'none', kid: 'key' }, payload(), 'AAAA')],
    ['no alg', () => forged({ kid: 'key' }, payload(), 'AAAA')],
    ['the public key as the secret of HS256', () => token(claims, JSON.stringify(issuer.publicKeys[0]))],
    ['the modulus as the secret of HS256', () => token(claims, String(issuer.publicKeys[0]?.n))],
    ['a key of its own', () => selfSigned(() => ({ kid: 'key' }))],
    ['a key of its own in the header', () => selfSigned((jwk) => ({ kid: 'key', jwk }))],
    ['an address of keys of its own', () => selfSigned(() => ({ kid: 'key', jku: `${issuer.url}/mine` }))],
    ['a file as the name of the key', () => selfSigned(() => ({ kid: '../../../../dev/null' }))],
    ['a key by prototype', () => selfSigned(() => ({ kid: '__proto__' }))],
    [
      'a changed payload',
      async () => {
        const [header, , signature] = (await issuer.token('key', { aud: 'polls' })).split('.');
        return `${header}.${Buffer.from(JSON.stringify(payload())).toString('base64url')}.${signature}`;
      },
    ],
    ['a signature taken off', async () => (await issuer.token('key', claims)).replace(/[^.]+$/, '')],
    ['an expired token', () => issuer.token('key', { ...claims, exp: inS(-60) })],
    ['a token without end', () => issuer.token('key', { ...claims, exp: undefined } as never)],
    ['an end that is text', () => issuer.token('key', { ...claims, exp: String(inS(600)) } as never)],
    ['a token of tomorrow', () => issuer.token('key', { ...claims, nbf: inS(3_600) })],
    ['another audience', () => issuer.token('key', { ...claims, aud: 'shop' })],
    ['an audience by prefix', () => issuer.token('key', { ...claims, aud: 'polls.evil' })],
    ['a header of 7 KB', () => forged({ alg: 'RS256', kid: 'x'.repeat(5_000) }, payload(), 'AAAA')],
  ];

  test.each(ATTACKS)('%s makes nobody an admin', async (_, make) => {
    const poll = await createPoll(victim.graphql);
    const headers = bearer(await make());
    expect(
      await manage(victim.graphql, 'deletePoll', { ...poll, manage: headers as typeof poll.manage }),
    ).toMatchObject({
      __typename: 'NotAllowedError',
    });
    const answer = await operate(victim.graphql, '{ viewer { account { sub role } } }', {}, headers);
    expect(answer).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] });
    // What exactly was wrong is not told.
    expect(answer.errors?.[0]?.message).toMatch(/^Your session (has expired|is not valid): sign in again\.$/);
  });

  test('afterwards accounts are accounts, and the server serves others as before', async () => {
    const poll = await createPoll(victim.graphql);
    const admin = bearer(await issuer.token('key', claims));
    expect(await manage(victim.graphql, 'closePoll', { ...poll, manage: admin })).toEqual({
      __typename: 'ClosePollSuccess',
    });
    await victim.stillServes();
  });

  test('a flood of tokens with unknown keys does not make it ask the issuer each time', async () => {
    const before = issuer.fetches;
    const text = await selfSigned(() => ({ kid: 'unknown' }));
    await Promise.all(Array.from({ length: 200 }, () => operate(victim.graphql, '{ __typename }', {}, bearer(text))));
    expect(issuer.fetches - before).toBeLessThanOrEqual(1);
    await victim.stillServes();
  });
});
