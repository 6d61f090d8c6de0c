/** Accounts by JWT, their roles, and polls whose voters are accounts. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readConfig } from '../../src/config/config.ts';
import { schema } from '../../src/graphql/schema/schema.ts';
import { ask, castVote, createPoll, manage, newVoter, operate, results, type TestPoll } from '../support/api.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { bearer, forged, type Issuer, JWT_SECRET, startIssuer, token } from '../support/tokens.ts';

const VIEWER = '{ viewer { isOrganizer account { sub role } } }';
const inS = (seconds: number): number => Math.floor(Date.now() / 1_000) + seconds;

describe('the configuration', () => {
  test.each<[Record<string, string>, RegExp]>([
    [{ JWT_SECRET: 'short' }, /JWT_SECRET: must have at least 32 characters/],
    [{ JWT_SECRET, JWKS_URL: 'https://id.example/keys' }, /JWT_SECRET, JWKS_URL: set one of them, not both/],
    [{ JWKS_URL: 'http://id.example/keys' }, /JWKS_URL: must be an https/],
    [{ JWKS_URL: 'http://8.8.8.8/keys' }, /JWKS_URL: must be an https/],
    [{ JWKS_URL: 'https://user:hidden@id.example/keys' }, /JWKS_URL/],
    [{ JWKS_URL: 'file:///etc/passwd' }, /JWKS_URL/],
    [{ JWKS_URL: 'keys' }, /JWKS_URL/],
    [{ JWT_AUDIENCE: 'polls' }, /JWT_AUDIENCE: has no meaning without/],
    [{ JWT_ISSUER: 'id' }, /JWT_ISSUER: has no meaning without/],
    [{ POLL_CREATION: 'nobody' }, /POLL_CREATION: "nobody" must be open or organizers/],
    [{ POLL_CREATION: 'organizers' }, /POLL_CREATION: organizers needs JWT_SECRET or JWKS_URL/],
  ])('%j is refused', (env, message) => {
    expect(() => readConfig(env)).toThrow(message);
    expect(() => readConfig(env)).not.toThrow(/hidden/);
  });

  test.each([
    'https://id.example/keys',
    'http://localhost:1/keys',
    'http://127.0.0.1:1/keys',
    'http://[::1]:1/keys',
    'http://10.1.2.3/keys',
    'http://172.20.0.5/keys',
    'http://keycloak:8080/keys',
  ])('JWKS_URL %s is taken', (url) => {
    expect(readConfig({ JWKS_URL: url }).access.jwt).toMatchObject({ jwksUrl: url, secret: null });
  });
});

describe('accounts by JWT_SECRET', () => {
  let server: TestServer;
  let graphql: string;
  let poll: TestPoll;
  beforeAll(async () => {
    server = await startServer({ JWT_SECRET, JWT_AUDIENCE: 'polls', JWT_ISSUER: 'https://id.example' });
    graphql = server.graphql;
    poll = await createPoll(graphql);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const good = { aud: 'polls', iss: 'https://id.example' };

  test('a sub with a control character is refused, not a fault', async () => {
    const headers = { authorization: `Bearer ${await token({ ...good, sub: 'a\u0000b', role: 'organizer' })}` };
    const answer = await operate(graphql, '{ polls { edges { cursor } } }', {}, headers);
    expect(answer.errors?.[0]).toMatchObject({ extensions: { code: 'UNAUTHENTICATED' } });
  });

  test.each<[string | undefined, boolean, string | null]>([
    ['admin', true, 'ADMIN'],
    ['organizer', true, 'ORGANIZER'],
    ['Admin', false, null],
    ['root', false, null],
    [undefined, false, null],
  ])('the role %s', async (role, isOrganizer, shown) => {
    const answer = await ask(graphql, VIEWER, {}, bearer(await token({ ...good, ...(role ? { role } : {}) })));
    expect(answer).toEqual({ isOrganizer, account: { sub: 'ada', role: shown } });
  });

  test('an account may come with several audiences, and its clock may be 5 s wrong', async () => {
    for (const claims of [{ aud: ['shop', 'polls'] }, { exp: inS(-3) }, { nbf: inS(3) }]) {
      const answer = await ask(graphql, VIEWER, {}, bearer(await token({ ...good, ...claims })));
      expect(answer).toMatchObject({ account: { sub: 'ada' } });
    }
  });

  test('without a token there is no account, and everything public is there', async () => {
    expect(await ask(graphql, VIEWER)).toEqual({ isOrganizer: false, account: null });
    expect(await ask(graphql, VIEWER, {}, poll.manage)).toEqual({ isOrganizer: true, account: null });
  });

  const BAD: [string, () => Promise<string> | string, RegExp][] = [
    ['expired', () => token({ ...good, exp: inS(-60) }), /expired/],
    ['without exp', () => token({ ...good, exp: undefined } as never), /not valid/],
    ['not valid yet', () => token({ ...good, nbf: inS(60) }), /not valid/],
    ['of another audience', () => token({ ...good, aud: 'shop' }), /not valid/],
    ['without audience', () => token({ iss: good.iss }), /not valid/],
    ['of another issuer', () => token({ ...good, iss: 'https://evil.example' }), /not valid/],
    ['without sub', () => token({ ...good, sub: undefined } as never), /not valid/],
    ['with an empty sub', () => token({ ...good, sub: '' }), /not valid/],
    ['with a sub of 256 characters', () => token({ ...good, sub: 'x'.repeat(256) }), /not valid/],
    ['with a number as sub', () => token({ ...good, sub: 7 } as never), /not valid/],
    ['signed with another secret', () => token(good, 'another secret that is long enough too'), /not valid/],
    [
      'signed with another algorithm',
      () => token(good, `${JWT_SECRET}${JWT_SECRET}`.slice(0, 64), 'HS512'),
      /not valid/,
    ],
    [
      'with alg none',
      () => forged({ alg: 'none' }, { ...good, sub: 'ada', role: 'admin', exp: inS(60) }, ''),
      /not valid/,
    ],
    ['of nonsense', () => 'abc.def.ghi', /not valid/],
  ];

  test.each(BAD)(
    'a token %s: data for a mutation, UNAUTHENTICATED for all else, on every path',
    async (_, make, message) => {
      const headers = bearer(await make());
      for (const type of ['application/json', 'application/graphql+json']) {
        const response = await fetch(graphql, {
          method: 'POST',
          headers: { 'content-type': type, ...headers },
          body: JSON.stringify({ query: VIEWER }),
        });
        expect(response.status).toBe(401);
        const body: unknown = await response.json();
        expect(body).toEqual({
          errors: [{ message: expect.stringMatching(message), extensions: { code: 'UNAUTHENTICATED' } }],
        });
      }
      const vote = await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] }, headers);
      expect(vote).toMatchObject({ __typename: 'NotAllowedError', message: expect.stringMatching(message) });
      for (const what of ['results', 'stream']) {
        const response = await fetch(`${server.url}/polls/${poll.id}/${what}`, { headers });
        expect(response.status).toBe(401);
        expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] });
      }
      const waiting = '{ pollResults(pollId: "x", afterVersion: 1, waitMs: 20000) { version } }';
      expect(await operate(graphql, waiting, {}, headers)).toMatchObject({
        errors: [{ extensions: { code: 'UNAUTHENTICATED' } }],
      });
      const stream = await fetch(graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...headers },
        body: JSON.stringify({ query: `subscription { pollResults(pollId: "${poll.id}") { version } }` }),
      });
      expect(await stream.text()).toMatch(/event: next\ndata: \{"errors":\[.*UNAUTHENTICATED.*\n\nevent: complete/);
      expect((await results(graphql, poll.id)).ballotCount).toBe(0);
    },
  );

  test('every mutation of the schema answers NotAllowedError to a token that does not count', async () => {
    const headers = bearer(await token({ ...good, exp: inS(-60) }));
    const inputs: Record<string, unknown> = {
      createPoll: { question: 'q', choices: ['a', 'b'] },
      castVote: { pollId: poll.id, choiceIds: [poll.choiceIds[0]] },
      castVotes: { pollId: poll.id, ballots: [] },
      issueVoterCodes: { pollId: poll.id, count: 1 },
    };
    const fields = Object.values(schema.getMutationType()?.getFields() ?? {});
    expect(fields.length).toBeGreaterThan(9);
    for (const { name, args } of fields) {
      const query = `mutation ($input: ${args[0]?.type}) { ${name}(input: $input) { __typename ... on Error { message } } }`;
      const answer = await ask(graphql, query, { input: inputs[name] ?? { pollId: poll.id } }, headers);
      expect(answer, name).toMatchObject({
        __typename: 'NotAllowedError',
        message: expect.stringContaining('expired'),
      });
    }
  });

  test('an admin manages every poll and lists all; others only with the key', async () => {
    const admin = bearer(await token({ ...good, role: 'admin' }));
    const organizer = bearer(await token({ ...good, role: 'organizer' }));
    const mine = await createPoll(graphql);
    for (const headers of [organizer, bearer(await token(good))]) {
      expect(await manage(graphql, 'closePoll', { ...mine, manage: headers })).toMatchObject({
        __typename: 'NotAllowedError',
        message: 'Your account does not manage this poll.',
      });
    }
    const list = '{ polls(first: 100) { edges { node { id } } } }';
    const { edges } = await ask<{ edges: { node: { id: string } }[] }>(graphql, list, {}, admin);
    expect(edges.map(({ node }) => node.id)).toEqual(expect.arrayContaining([poll.id, mine.id]));
    expect(await manage(graphql, 'closePoll', { ...mine, manage: admin })).toEqual({ __typename: 'ClosePollSuccess' });
  });
});

describe('who creates polls', () => {
  test('POLL_CREATION=organizers: an account with a role, nobody else', async () => {
    await using server = await startServer({ JWT_SECRET, POLL_CREATION: 'organizers' });
    const create = (headers: Record<string, string>) =>
      ask(
        server.graphql,
        `mutation { createPoll(input: { question: "q", choices: ["a", "b"] }) { __typename ... on Error { message } } }`,
        {},
        headers,
      );
    for (const headers of [{}, bearer('pck_some_key'), bearer(await token()), bearer(await token({ role: 'guest' }))]) {
      expect(await create(headers)).toMatchObject({
        __typename: 'NotAllowedError',
        message: expect.stringContaining('organizer'),
      });
    }
    for (const role of ['organizer', 'admin']) {
      expect(await create(bearer(await token({ role })))).toEqual({ __typename: 'CreatePollSuccess' });
    }
  });

  test('without accounts a token is refused by name, and an ACCOUNT poll names what is missing', async () => {
    await using server = await startServer();
    const answer = await operate(server.graphql, VIEWER, {}, bearer(await token()));
    expect(answer.errors).toMatchObject([
      { message: expect.stringContaining('knows no accounts'), extensions: { code: 'UNAUTHENTICATED' } },
    ]);
    const created = await ask(
      server.graphql,
      `mutation { createPoll(input: { question: "q", choices: ["a", "b"], voterIdentity: ACCOUNT }) { __typename ... on Error { message } } }`,
    );
    expect(created).toMatchObject({
      __typename: 'InvalidInputError',
      message: expect.stringMatching(/JWT_SECRET or JWKS_URL/),
    });
  });
});

describe('a poll whose voters are accounts', () => {
  let server: TestServer;
  let poll: TestPoll;
  beforeAll(async () => {
    server = await startServer({ JWT_SECRET });
  });
  afterAll(() => server[Symbol.asyncDispose]());
  const ballot = (choice = 0) => ({ pollId: poll.id, choiceIds: [poll.choiceIds[choice]] });

  test('V2 V3 V4 one account has one ballot, whatever devices and tokens it comes with', async () => {
    poll = await createPoll(server.graphql, { voterIdentity: 'ACCOUNT' });
    const { voterToken } = await newVoter(server.graphql);
    const first = await castVote(server.graphql, ballot(1), bearer(await token()));
    expect(first).toMatchObject({ receipt: { outcome: 'RECORDED' }, voterToken: null });
    const again = await castVote(
      server.graphql,
      { ...ballot(1), voterToken },
      { ...bearer(await token({ role: 'organizer' })), 'pollcast-voter': voterToken },
    );
    expect(again.receipt).toEqual({ ...first.receipt, outcome: 'UNCHANGED' });
    const other = await castVote(server.graphql, ballot(2), bearer(await token()));
    expect(other.__typename).toBe('AlreadyVotedError');
    expect(await castVote(server.graphql, ballot(2), bearer(await token({ sub: 'bob' })))).toMatchObject({
      receipt: { outcome: 'RECORDED' },
    });
    expect((await results(server.graphql, poll.id)).tallies.map(({ votes }) => votes)).toEqual([0, 1, 1, 0]);
  });

  test('without an account nobody votes, sees a ballot of their own or takes one back', async () => {
    poll = await createPoll(server.graphql, { voterIdentity: 'ACCOUNT', allowVoteChange: true });
    const { voterToken } = await newVoter(server.graphql);
    for (const headers of [{}, { 'pollcast-voter': voterToken }, poll.manage]) {
      expect(await castVote(server.graphql, ballot(), headers)).toMatchObject({
        __typename: 'NotAllowedError',
        message: expect.stringContaining('takes an account'),
      });
    }
    const me = bearer(await token());
    await castVote(server.graphql, ballot(3), me);
    const own = `query ($id: ID!) { poll(id: $id) { viewerBallot { choiceIds } } }`;
    expect(await ask(server.graphql, own, { id: poll.id }, me)).toEqual({
      viewerBallot: { choiceIds: [poll.choiceIds[3]] },
    });
    expect(await ask(server.graphql, own, { id: poll.id }, { 'pollcast-voter': voterToken })).toEqual({
      viewerBallot: null,
    });
    const retract = (headers: Record<string, string>) =>
      ask(
        server.graphql,
        'mutation ($input: RetractVoteInput!) { retractVote(input: $input) { __typename } }',
        { input: { pollId: poll.id, voterToken } },
        headers,
      );
    expect(await retract({})).toEqual({ __typename: 'NotAllowedError' });
    expect(await retract(bearer(await token({ sub: 'bob' })))).toEqual({ __typename: 'NotAllowedError' });
    expect(await retract(me)).toEqual({ __typename: 'RetractVoteSuccess' });
    expect((await results(server.graphql, poll.id)).ballotCount).toBe(0);
  });

  test('V2 whom the organizer enters by hand has voted: castVotes names accounts', async () => {
    poll = await createPoll(server.graphql, { voterIdentity: 'ACCOUNT' });
    const ballots = ['ada', 'bob'].map((voterId) => ({ voterId, choiceIds: [poll.choiceIds[0]] }));
    const many =
      'mutation ($input: CastVotesInput!) { castVotes(input: $input) { ... on CastVotesSuccess { recorded } } }';
    expect(await ask(server.graphql, many, { input: { pollId: poll.id, ballots } }, poll.manage)).toEqual({
      recorded: 2,
    });
    expect(await castVote(server.graphql, ballot(0), bearer(await token()))).toMatchObject({
      receipt: { outcome: 'UNCHANGED' },
    });
    expect(await castVote(server.graphql, ballot(1), bearer(await token({ sub: 'bob' })))).toMatchObject({
      __typename: 'AlreadyVotedError',
    });
  });
});

describe('accounts by JWKS_URL', () => {
  let issuer: Issuer;
  let server: TestServer;
  beforeAll(async () => {
    issuer = await startIssuer();
    await issuer.rotate('one');
    server = await startServer({ JWKS_URL: issuer.url, LOG_LEVEL: 'silent' });
  });
  afterAll(async () => {
    vi.useRealTimers();
    await server[Symbol.asyncDispose]();
    await issuer[Symbol.asyncDispose]();
  });

  /** jose reads its own clock. */
  const pass = (ms: number): void => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms });
  };
  const subOf = async (text: string): Promise<unknown> => {
    const { data, errors } = await operate(server.graphql, VIEWER, {}, bearer(text));
    const viewer = data?.viewer as { account: { sub: string } } | undefined;
    return errors?.[0]?.extensions?.code ?? viewer?.account.sub;
  };

  test('keys are fetched once and kept, however many ask at once', async () => {
    const text = await issuer.token('one');
    expect(await Promise.all(Array.from({ length: 50 }, () => subOf(text)))).toEqual(Array(50).fill('ada'));
    expect(issuer.fetches).toBe(1);
  });

  test('a public key is never taken for a secret', async () => {
    const [jwk] = issuer.publicKeys;
    for (const secret of [JSON.stringify(jwk), String(jwk?.n)]) {
      expect(await subOf(await token({ role: 'admin' }, secret))).toBe('UNAUTHENTICATED');
    }
  });

  test('a new key is found when its first token comes, the old one counts no more; unknown names do not make it fetch', async () => {
    const old = await issuer.token('one');
    await issuer.rotate('two', 'ES256');
    const fresh = await issuer.token('two');
    expect(await subOf(fresh)).toBe('UNAUTHENTICATED');
    expect(issuer.fetches).toBe(1);
    pass(31_000);
    expect(await subOf(fresh)).toBe('ada');
    expect(await subOf(old)).toBe('UNAUTHENTICATED');
    expect(issuer.fetches).toBe(2);
  });

  test('a token that names no key counts where any of several has signed it', async () => {
    await issuer.rotate('three');
    await issuer.addNameless();
    pass(31_000);
    expect(await subOf(await issuer.token('three'))).toBe('ada');
    expect(await subOf(await issuer.token('nameless', { sub: 'eve' }))).toBe('eve');
  });

  test.each<[string, Issuer['fail']]>([
    ['answers 500', { status: 500, body: '' }],
    ['redirects', { status: 302, body: '' }],
    ['answers a page', { status: 200, body: '<html>' }],
    ['answers no keys', { status: 200, body: '{"keys":"none"}' }],
    ['does not answer', 'hang'],
  ])(
    'an issuer that %s: UNAVAILABLE, never a pass; the rest goes on, and so do accounts when it is back',
    async (_, fail) => {
      const text = await issuer.token('three');
      pass(601_000);
      issuer.fail = fail;
      const poll = await createPoll(server.graphql);
      const response = await fetch(server.graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...bearer(await issuer.token('three', { exp: inS(3_600) })) },
        body: JSON.stringify({
          query: `mutation { castVote(input: { pollId: "${poll.id}", choiceIds: ["${poll.choiceIds[0]}"] }) { __typename } }`,
        }),
      });
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({
        errors: [{ message: expect.stringContaining('cannot be checked now'), extensions: { code: 'UNAVAILABLE' } }],
      });
      expect(await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] })).toMatchObject({
        __typename: 'CastVoteSuccess',
      });
      issuer.fail = null;
      expect(await subOf(await issuer.token('three', { exp: inS(3_600) }))).toBe('ada');
      expect(await subOf(text)).toBe('ada');
    },
  );
});
