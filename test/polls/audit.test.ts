/** Who did what to a poll: kept with what was done, and bounded for what was refused. */
import { describe, expect, test } from 'vitest';
import { InvalidInputError } from '../../src/core/errors.ts';
import { NOBODY } from '../../src/identity/viewer.ts';
import { ask, createPoll, manage, operate, type TestPoll } from '../support/api.ts';
import { BACKENDS, serveOn } from '../support/backends.ts';
import { manualClock } from '../support/clock.ts';
import { eventually } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

interface Entry {
  readonly id: string;
  readonly at: string;
  readonly actor: string;
  readonly action: string;
  readonly outcome: string;
  readonly reason: string | null;
  readonly detail: string | null;
  readonly more: number;
}

interface Page {
  readonly edges: { readonly node: Entry }[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

const AUDIT = `query ($id: ID!, $first: Int, $after: String) { poll(id: $id) { audit(first: $first, after: $after) {
  edges { node { id at actor action outcome reason detail more } } pageInfo { hasNextPage endCursor } } } }`;
const HOUR = 3_600_000;

describe.each(BACKENDS)('the audit on %s', (_, openBackend) => {
  let server: TestServer;
  let graphql: string;
  const clock = manualClock();
  serveOn(
    openBackend,
    (started) => {
      server = started;
      graphql = started.graphql;
    },
    { clock },
  );

  async function page(poll: TestPoll, args: { first?: number; after?: string | null } = {}): Promise<Page> {
    const { audit } = await ask<{ audit: Page }>(graphql, AUDIT, { id: poll.id, ...args }, poll.manage);
    return audit;
  }
  const entries = async (poll: TestPoll) => (await page(poll, { first: 100 })).edges.map(({ node }) => node);
  const told = async (poll: TestPoll) =>
    (await entries(poll)).map(({ actor, action, reason, detail }) => [actor, action, reason, detail]).reverse();
  const mutate = (name: string, type: string, poll: TestPoll, input: object, headers = {}) =>
    ask<{ __typename: string }>(
      graphql,
      `mutation ($input: ${type}!) { ${name}(input: $input) { __typename } }`,
      { input: { pollId: poll.id, ...input } },
      headers,
    );

  test('every action and every refusal, by whom and when', async () => {
    const poll = await createPoll(graphql, { status: 'DRAFT', voterIdentity: 'CODE' });
    const stranger = await createPoll(graphql);
    await mutate('updatePoll', 'UpdatePollInput', poll, { question: 'New?', allowVoteChange: true }, poll.manage);
    await mutate('updatePoll', 'UpdatePollInput', poll, { question: 'New?' }, poll.manage);
    await mutate('issueVoterCodes', 'IssueVoterCodesInput', poll, { count: 3 }, poll.manage);
    await mutate('issueVoterCodes', 'IssueVoterCodesInput', poll, { count: 0 }, poll.manage);
    await manage(graphql, 'closePoll', poll);
    await manage(graphql, 'openPoll', poll);
    await manage(graphql, 'openPoll', poll);
    await manage(graphql, 'openPoll', { ...poll, manage: stranger.manage });
    await mutate('resetPoll', 'PollIdInput', poll, {});
    const ballots = [{ voterId: 'nobody', choiceIds: [poll.choiceIds[0]] }];
    await mutate('castVotes', 'CastVotesInput', poll, { ballots }, poll.manage);
    await mutate('castVotes', 'CastVotesInput', poll, { ballots });
    await manage(graphql, 'resetPoll', poll);
    clock.advance(1_000);
    await manage(graphql, 'closePoll', poll);
    await manage(graphql, 'deletePoll', { ...poll, manage: stranger.manage });
    const own = 'organizer key';
    expect((await told(poll)).sort()).toEqual(
      [
        ['anonymous', 'createPoll', null, 'DRAFT'],
        [own, 'updatePoll', null, 'question, allowVoteChange'],
        [own, 'issueVoterCodes', null, '3'],
        [own, 'issueVoterCodes', 'INVALID_INPUT', null],
        [own, 'closePoll', 'POLL_NOT_OPEN', null],
        [own, 'openPoll', null, null],
        ['unknown key', 'openPoll', 'NOT_ALLOWED', null],
        ['anonymous', 'resetPoll', 'NOT_ALLOWED', null],
        [own, 'castVotes', null, 'recorded 0, unchanged 0, replaced 0, rejected 1'],
        ['anonymous', 'castVotes', 'NOT_ALLOWED', null],
        [own, 'resetPoll', null, null],
        [own, 'closePoll', null, null],
        ['unknown key', 'deletePoll', 'NOT_ALLOWED', null],
      ].sort(),
    );
    const done = (await entries(poll)).filter(({ outcome }) => outcome === 'ACCEPTED');
    expect(done.map(({ action }) => action)).toEqual([
      'closePoll',
      'resetPoll',
      'castVotes',
      'openPoll',
      'issueVoterCodes',
      'updatePoll',
      'createPoll',
    ]);
    expect(done[0]?.at).toBe(new Date(clock.now()).toISOString());
    expect(done[1]?.at).toBe(new Date(clock.now() - 1_000).toISOString());
  });

  test('M6 what time has done was done by the schedule', async () => {
    const inMs = (ms: number) => new Date(clock.now() + ms).toISOString();
    const poll = await createPoll(graphql, { opensAt: inMs(1_000), closesAt: inMs(2_000) });
    clock.advance(1_000);
    await eventually(async () => (await entries(poll)).length === 2, 'opened');
    clock.advance(1_000);
    await eventually(async () => (await entries(poll)).length === 3, 'closed');
    expect(await told(poll)).toEqual([
      ['anonymous', 'createPoll', null, 'DRAFT'],
      ['schedule', 'openPoll', null, null],
      ['schedule', 'closePoll', null, null],
    ]);
  });

  test('an entry and its action are one transaction: neither is there without the other', async () => {
    const poll = await createPoll(graphql);
    const { store } = server.app;
    const before = await store.loadPoll(poll.id);
    const note = {
      at: clock.now(),
      actor: 'a',
      action: 'b',
      outcome: 'ACCEPTED',
      detail: 'no \0 in Postgres',
    } as const;
    await expect(
      store.changePoll(poll.id, clock.now(), () => ({ status: 'CLOSED', raiseVersion: true, audit: note })),
    ).rejects.toThrow();
    expect(await store.loadPoll(poll.id)).toEqual(before);
    expect((await entries(poll)).map(({ action }) => action)).toEqual(['createPoll']);
  });

  test('it is for organizers of the poll, and null with an error for others, also in a subscription', async () => {
    const poll = await createPoll(graphql);
    const other = await createPoll(graphql);
    for (const headers of [{}, other.manage]) {
      const answer = await operate(graphql, AUDIT, { id: poll.id }, headers);
      expect(answer.data).toEqual({ poll: { audit: null } });
      expect(answer.errors?.[0]).toMatchObject({ extensions: { code: 'NOT_ALLOWED' } });
    }
    // Shared bytes would show the organizer's entries to whoever comes next.
    const watch = async (headers: Record<string, string>) => {
      const abort = new AbortController();
      const response = await fetch(graphql, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...headers },
        body: JSON.stringify({
          query: `subscription { pollChanged(pollId: "${poll.id}") { audit { edges { node { action } } } } }`,
        }),
        signal: abort.signal,
      });
      const reader = response.body?.getReader();
      let text = '';
      while (!text.includes('\n\n') || !text.includes('data: ')) {
        text += new TextDecoder().decode((await reader?.read())?.value);
      }
      abort.abort();
      return text;
    };
    expect(await watch(poll.manage)).toContain('"action":"createPoll"');
    const shown = await watch({});
    expect(shown).toContain('NOT_ALLOWED');
    expect(shown).not.toContain('createPoll');
  });

  test('pages go on where they ended', async () => {
    const poll = await createPoll(graphql);
    for (let index = 0; index < 6; index++) await manage(graphql, 'resetPoll', poll);
    const seen: string[] = [];
    let after: string | null = null;
    for (let pages = 1; ; pages++) {
      const { edges, pageInfo }: Page = await page(poll, { first: 3, after });
      seen.push(...edges.map(({ node }) => node.id));
      after = pageInfo.endCursor;
      expect(pageInfo.hasNextPage).toBe(pages < 3);
      if (!pageInfo.hasNextPage) break;
    }
    expect(seen).toEqual((await entries(poll)).map(({ id }) => id));
    expect(seen).toHaveLength(7);
    for (const args of [{ first: 0 }, { first: 101 }, { after: 'x' }]) {
      const answer = await operate(graphql, AUDIT, { id: poll.id, ...args }, poll.manage);
      expect(answer.errors?.[0]).toMatchObject({ extensions: { code: 'INVALID_INPUT' } });
    }
  });

  test('V8 an entry that the database refuses costs no other entry', async () => {
    const poll = await createPoll(graphql);
    const { audit } = server.app.services;
    const refuse = (action: string) =>
      expect(
        audit.guard(action, NOBODY, poll.id, () => Promise.reject(new InvalidInputError('refused'))),
      ).rejects.toThrow('refused');
    await Promise.all(['first', 'with a NUL \0', 'last'].map(refuse));
    expect((await entries(poll)).map(({ action }) => action).reverse()).toEqual(['createPoll', 'first', 'last']);
    // Ends the pause after a write, which the clock of this test holds.
    clock.advance(HOUR);
  });

  test('refusals cannot fill the disk: a hundred an hour, the rest is counted', async () => {
    const poll = await createPoll(graphql);
    let writes = 0;
    const { addRefusals } = server.app.store;
    const counted: typeof addRefusals = (...args) => {
      writes++;
      return addRefusals(...args);
    };
    Object.assign(server.app.store, { addRefusals: counted });
    const refuse = (times: number) =>
      Promise.all(Array.from({ length: times }, () => mutate('openPoll', 'PollIdInput', poll, {})));
    for (let round = 0; round < 3; round++) await refuse(150);
    // The clock stands still, so the pause after the first write does not end.
    expect(writes).toBe(1);
    let all = await entries(poll);
    Object.assign(server.app.store, { addRefusals });
    expect(writes).toBe(2);
    const isRefusal = ({ outcome }: Entry) => outcome === 'REFUSED';
    // One page holds a hundred: the refusals fill it.
    expect(all.filter(isRefusal)).toHaveLength(100);
    expect(all.reduce((sum, { more }) => sum + more, 0)).toBe(350);
    expect(all[0]).toMatchObject({ actor: 'anonymous', reason: 'NOT_ALLOWED', more: 350 });
    clock.advance(HOUR / 2);
    await refuse(5);
    all = await entries(poll);
    expect(all[0]?.more).toBe(355);
    clock.advance(HOUR);
    await refuse(1);
    all = await entries(poll);
    expect(all.slice(0, 2).map(({ more }) => more)).toEqual([0, 355]);
    // What an organizer does is kept all the same.
    await manage(graphql, 'closePoll', poll);
    expect((await entries(poll))[0]).toMatchObject({ action: 'closePoll', outcome: 'ACCEPTED' });
  });

  test('a poll that is not there leaves no trace; deleted, only that it was', async () => {
    const { store } = server.app;
    await mutate('openPoll', 'PollIdInput', { id: 'nothing' } as TestPoll, {});
    const poll = await createPoll(graphql);
    await mutate('closePoll', 'PollIdInput', poll, {});
    expect(await entries(poll)).toHaveLength(2);
    await mutate('closePoll', 'PollIdInput', poll, {});
    await manage(graphql, 'deletePoll', poll);
    await mutate('closePoll', 'PollIdInput', poll, {});
    clock.advance(1_000);
    await eventually(async () => (await store.listAudit(poll.id, 10, null)).length === 1, 'one is left');
    expect(await store.listAudit(poll.id, 10, null)).toMatchObject([
      { action: 'deletePoll', actor: 'organizer key', outcome: 'ACCEPTED' },
    ]);
    expect(await store.listAudit('nothing', 10, null)).toEqual([]);
  });

  test('refusals that wait are written when the server stops', async () => {
    await using storage = await openBackend();
    const first = await startServer(storage.env, { clock });
    const poll = await createPoll(first.graphql);
    const refuse = () => ask(first.graphql, `mutation { openPoll(input: { pollId: "${poll.id}" }) { __typename } }`);
    for (let count = 0; count < 4; count++) await refuse();
    await first[Symbol.asyncDispose]();
    await using second = await startServer(storage.env, { clock });
    expect(await second.app.store.listAudit(poll.id, 10, null)).toHaveLength(5);
  });
});
