/** One contract, every Store: what the rooms above rely on. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { newSettings, type Poll, type PollInput } from '../../src/core/poll.ts';
import type { AuditNote, BallotEntry, PollState, Store } from '../../src/ports/store.ts';
import { openDatabase } from '../../src/store/database/open.ts';
import { makeStore, openStore } from '../../src/store/store.ts';
import { BACKENDS, type Backend } from '../support/backends.ts';
import { freshDatabase } from '../support/database.ts';
import { temporaryFolder } from '../support/folders.ts';

describe.each(BACKENDS)('the store on %s', (name, openBackend) => {
  let backend: Backend;
  let store: Store;
  const where = () => ({ databaseUrl: backend.env.DATABASE_URL ?? null, dataDir: backend.env.DATA_DIR ?? '' });
  beforeAll(async () => {
    backend = await openBackend();
    store = await openStore(where());
  });
  afterAll(async () => {
    await store.close();
    await backend[Symbol.asyncDispose]();
  });

  const NOW = Date.UTC(2026, 0, 1);
  async function newPoll(input: PollInput = {}, status: 'OPEN' | 'DRAFT' = 'OPEN'): Promise<PollState> {
    return store.insertPoll({
      ...newSettings({ question: 'q', choices: ['a', 'b', 'c'], ...input }),
      id: randomUUID(),
      joinCode: randomUUID().slice(0, 8),
      status,
      createdAt: new Date(NOW),
      organizerKeyHash: 'ab',
      owner: null,
    });
  }
  const ballot = (state: PollState, content: string, voterKey: string = randomUUID()): BallotEntry => ({
    pollId: state.poll.id,
    voterKey,
    content,
    revision: state.poll.revision,
    receiptId: randomUUID(),
    coded: state.poll.voterIdentity === 'CODE',
  });
  async function consistent(): Promise<void> {
    expect((await store.recount()).differences).toEqual([]);
  }

  test('what is put in comes out as it was', async () => {
    const state = await newPoll({
      question: 'Ünïcode 🗳️ "quotes" \\ ?',
      description: 'd',
      kind: 'RATING',
      choices: [],
      ratingScale: { min: -1, max: 3, minLabel: 'no', maxLabel: null },
      opensAt: new Date(NOW + 5),
    });
    const loaded = await store.loadPoll(state.poll.id);
    expect(loaded?.poll).toEqual(state.poll);
    expect(loaded).toMatchObject({ version: 1, ballotCount: 0, updatedAt: NOW, counts: new Map() });
    expect(await store.findPollId(state.poll.joinCode)).toBe(state.poll.id);
    expect(await store.loadPoll('nothing')).toBeNull();
    expect(await store.loadPoll(state.poll.id, 1)).not.toHaveProperty('counts');
  });

  test('V1 V6 a batch is one version, and the counts are those of the ballots', async () => {
    const [first, second] = [await newPoll({ kind: 'MULTIPLE' }), await newPoll()];
    const { outcomes, changes } = await store.castBallots(
      [ballot(first, '1 2'), ballot(second, '3'), ballot(first, '2'), ballot(first, '2 3')],
      NOW,
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual(['RECORDED', 'RECORDED', 'RECORDED', 'RECORDED']);
    expect(changes).toContainEqual({
      pollId: first.poll.id,
      version: 2,
      ballotCount: 3,
      updatedAt: NOW,
      added: ['1 2', '2', '2 3'],
      removed: [],
    });
    expect(await store.loadPoll(first.poll.id)).toMatchObject({
      version: 2,
      ballotCount: 3,
      counts: new Map([
        ['1', 1],
        ['2', 3],
        ['3', 1],
      ]),
    });
    expect((await store.loadPoll(second.poll.id))?.version).toBe(2);
    await consistent();
  });

  test('V3 the same ballot again is UNCHANGED with the same receipt, and no new version', async () => {
    const state = await newPoll();
    const voter = randomUUID();
    const [first] = (await store.castBallots([ballot(state, '1', voter)], NOW)).outcomes;
    const again = await store.castBallots([ballot(state, '1', voter)], NOW + 1_000);
    expect(first).toMatchObject({ kind: 'RECORDED', receipt: { version: 2, castAt: NOW } });
    expect(again).toEqual({
      outcomes: [{ kind: 'UNCHANGED', receipt: first && 'receipt' in first ? first.receipt : null }],
      changes: [],
    });
    // The commit whose answer was lost: the same receipt id finds itself.
    const entry = ballot(state, '2');
    await store.castBallots([entry], NOW);
    expect((await store.castBallots([entry], NOW)).outcomes[0]).toMatchObject({
      kind: 'RECORDED',
      receipt: { id: entry.receiptId },
    });
  });

  test('V4 another ballot replaces where the poll allows it, and both counts move together', async () => {
    const state = await newPoll({ allowVoteChange: true });
    const voter = randomUUID();
    await store.castBallots([ballot(state, '1', voter)], NOW);
    const { outcomes, changes } = await store.castBallots([ballot(state, '2', voter)], NOW);
    expect(outcomes[0]).toMatchObject({ kind: 'REPLACED', receipt: { version: 3 } });
    expect(changes).toMatchObject([{ version: 3, ballotCount: 1, added: ['2'], removed: ['1'] }]);
    expect((await store.loadPoll(state.poll.id))?.counts).toEqual(new Map([['2', 1]]));
    // And back: what it replaced before must not be taken for what it replaces now.
    const back = await store.castBallots([ballot(state, '1', voter)], NOW);
    expect(back.changes).toMatchObject([{ added: ['1'], removed: ['2'] }]);
    await consistent();
  });

  test('V4 where it does not, nothing changes', async () => {
    const state = await newPoll();
    const voter = randomUUID();
    await store.castBallots([ballot(state, '1', voter)], NOW);
    expect(await store.castBallots([ballot(state, '2', voter), ballot(state, '3')], NOW)).toMatchObject({
      outcomes: [{ kind: 'ALREADY_VOTED' }, { kind: 'RECORDED' }],
      changes: [{ added: ['3'], removed: [] }],
    });
    await consistent();
  });

  test('V5 a poll that is not open, or was changed since, takes nothing; a repeated vote still gets its receipt', async () => {
    const draft = await newPoll({}, 'DRAFT');
    const open = await newPoll();
    const voter = randomUUID();
    await store.castBallots([ballot(open, '1', voter)], NOW);
    const stale = { ...ballot(open, '1'), revision: open.poll.revision - 1 };
    const mixed = await store.castBallots([ballot(draft, '1'), stale, { ...ballot(open, '1'), pollId: 'gone' }], NOW);
    expect(mixed).toEqual({
      outcomes: [{ kind: 'NOT_OPEN', status: 'DRAFT' }, { kind: 'STALE' }, { kind: 'NOT_FOUND' }],
      changes: [],
    });
    await store.changePoll(open.poll.id, NOW, () => ({
      status: 'CLOSED',
      closedAt: new Date(NOW),
      raiseVersion: true,
    }));
    const late = await store.castBallots(
      [ballot(open, '1'), ballot(open, '1', voter), ballot(open, '2', voter)].slice(0, 2),
      NOW,
    );
    expect(late.outcomes).toMatchObject([{ kind: 'NOT_OPEN', status: 'CLOSED' }, { kind: 'UNCHANGED' }]);
    expect(late.changes).toEqual([]);
  });

  test('V2 V6 many connections at once: one ballot a voter, counts equal a recount', async () => {
    const state = await newPoll({ allowVoteChange: true });
    const voters = Array.from({ length: 40 }, () => randomUUID());
    const rounds = await Promise.all(
      Array.from({ length: 12 }, (_, round) =>
        store.castBallots(
          voters.map((voter, index) => ballot(state, String(1 + ((round + index) % 3)), voter)),
          NOW,
        ),
      ),
    );
    const kinds = rounds.flatMap(({ outcomes }) => outcomes.map(({ kind }) => kind));
    expect(kinds.filter((kind) => kind === 'RECORDED')).toHaveLength(voters.length);
    const versions = rounds.flatMap(({ changes }) => changes.map(({ version }) => version));
    expect(new Set(versions).size).toBe(versions.length);
    const end = await store.loadPoll(state.poll.id);
    expect(end?.ballotCount).toBe(voters.length);
    expect(end?.version).toBe(Math.max(...versions));
    await consistent();
  });

  test('a ballot is taken back, with its counts', async () => {
    const state = await newPoll({ kind: 'MULTIPLE', allowVoteChange: true });
    const voter = randomUUID();
    await store.castBallots([ballot(state, '1 3', voter), ballot(state, '3')], NOW);
    expect(await store.findBallot(state.poll.id, voter)).toEqual({ content: '1 3', castAt: NOW });
    const change = await store.retractBallot(state.poll.id, voter, NOW, () => {});
    expect(change).toMatchObject({ version: 3, ballotCount: 1, added: [], removed: ['1 3'] });
    expect(await store.retractBallot(state.poll.id, voter, NOW, () => {})).toBeNull();
    expect(await store.findBallot(state.poll.id, voter)).toBeNull();
    expect((await store.loadPoll(state.poll.id))?.counts).toEqual(new Map([['3', 1]]));
    await expect(
      store.retractBallot(state.poll.id, voter, NOW, () => {
        throw new RangeError('no');
      }),
    ).rejects.toThrow('no');
    await consistent();
  });

  test('a reset drops the ballots and the version goes on; deleting leaves nothing', async () => {
    const state = await newPoll();
    const voter = randomUUID();
    await store.castBallots([ballot(state, '1', voter)], NOW);
    const reset = await store.changePoll(state.poll.id, NOW, () => ({ dropBallots: true, raiseVersion: true }));
    expect(reset).toMatchObject({ version: 3, ballotCount: 0, counts: new Map(), poll: { revision: 2 } });
    expect(await store.findBallot(state.poll.id, voter)).toBeNull();
    await consistent();
    expect(await store.deletePoll(state.poll.id)).toBe(true);
    expect(await store.deletePoll(state.poll.id)).toBe(false);
    expect(await store.loadPoll(state.poll.id)).toBeNull();
    expect(await store.changePoll(state.poll.id, NOW, () => null)).toBeNull();
  });

  test('what a decision throws leaves the poll as it was', async () => {
    const state = await newPoll();
    const failing = store.changePoll(state.poll.id, NOW, () => {
      throw new RangeError('not so');
    });
    await expect(failing).rejects.toThrow('not so');
    expect((await store.loadPoll(state.poll.id))?.poll).toEqual(state.poll);
  });

  test('pages go on where they ended, newest first', async () => {
    const hash = randomUUID();
    const made: string[] = [];
    for (let index = 0; index < 5; index++) {
      const state = await newPoll();
      const poll = { ...state.poll, id: randomUUID(), joinCode: randomUUID().slice(0, 8), organizerKeyHash: hash };
      // Two of the same instant: the id decides.
      made.push((await store.insertPoll({ ...poll, createdAt: new Date(NOW + (index >> 1)) })).poll.id);
    }
    const seen: string[] = [];
    let after: { createdAt: Date; id: string } | null = null;
    for (let page = 0; page < 3; page++) {
      const polls = await store.listPolls({ organizerKeyHash: hash, owner: null, status: null, first: 2, after });
      seen.push(...polls.map(({ id }) => id));
      after = polls.at(-1) ?? null;
    }
    expect([...seen].sort()).toEqual([...made].sort());
    expect(seen[0]).toBe(made[4]);
    expect(
      await store.listPolls({ organizerKeyHash: hash, owner: null, status: 'DRAFT', first: 9, after: null }),
    ).toEqual([]);
  });

  test('V5 from closes_at on nothing enters, though nobody has closed the poll yet', async () => {
    const state = await newPoll({ closesAt: new Date(NOW + 1_000), allowVoteChange: true });
    const other = await newPoll();
    const voter = randomUUID();
    const before = await store.castBallots([ballot(state, '1', voter)], NOW + 999);
    expect(before.outcomes).toMatchObject([{ kind: 'RECORDED' }]);
    const after = await store.castBallots(
      [ballot(state, '1'), ballot(other, '1'), ballot(state, '1', voter), ballot(state, '2', randomUUID())],
      NOW + 1_000,
    );
    expect(after.outcomes).toMatchObject([
      { kind: 'NOT_OPEN', status: 'CLOSED' },
      { kind: 'RECORDED' },
      { kind: 'UNCHANGED' },
      { kind: 'NOT_OPEN', status: 'CLOSED' },
    ]);
    expect((await store.castBallots([ballot(state, '2', voter)], NOW + 9_000)).outcomes).toEqual([
      { kind: 'NOT_OPEN', status: 'CLOSED' },
    ]);
    expect(await store.loadPoll(state.poll.id)).toMatchObject({ version: 2, ballotCount: 1, poll: { status: 'OPEN' } });
    await consistent();
  });

  test('M6 what is due is found, the earliest first, and nothing else', async () => {
    const FAR = NOW - 1e10;
    const at = (ms: number) => new Date(FAR + ms);
    const late = await newPoll({ closesAt: at(30) });
    const opening = await newPoll({ opensAt: at(10), closesAt: at(90) }, 'DRAFT');
    const early = await newPoll({ closesAt: at(20), opensAt: at(5) });
    await newPoll({ closesAt: at(10) }, 'DRAFT');
    await newPoll({ closesAt: at(101) });
    const closed = await newPoll({ closesAt: at(10) });
    await store.changePoll(closed.poll.id, NOW, () => ({ status: 'CLOSED', closedAt: at(10), raiseVersion: true }));
    const ids = (polls: readonly Poll[]) => polls.map(({ id }) => id);
    const due = [opening.poll.id, early.poll.id, late.poll.id];
    expect(ids(await store.duePolls(FAR + 100, 10))).toEqual(due);
    expect(ids(await store.duePolls(FAR + 20, 10))).toEqual(due.slice(0, 2));
    expect(ids(await store.duePolls(FAR + 100, 1))).toEqual(due.slice(0, 1));
    expect(await store.duePolls(FAR + 9, 10)).toEqual([]);
    for (const id of due) await store.deletePoll(id);
  });

  const note = (action: string, outcome: AuditNote['outcome'] = 'ACCEPTED', at = NOW): AuditNote => ({
    at,
    actor: 'somebody',
    action,
    outcome,
    detail: null,
  });

  test('a CODE poll admits the voters of its codes and nobody else, and costs no other ballot of the batch anything', async () => {
    const coded = await newPoll({ voterIdentity: 'CODE', allowVoteChange: true });
    const another = await newPoll({ voterIdentity: 'CODE' });
    const device = await newPoll();
    const keys = Array.from({ length: 3 }, () => randomUUID());
    const [first = '', second = ''] = keys;
    expect(await store.addVoterCodes(coded.poll.id, keys, () => note('issueVoterCodes'))).toBe(true);
    expect(await store.addVoterCodes('gone', keys, () => note('issueVoterCodes'))).toBe(false);
    const refusing = store.addVoterCodes(coded.poll.id, [randomUUID()], () => {
      throw new RangeError('no');
    });
    await expect(refusing).rejects.toThrow('no');
    const { outcomes, changes } = await store.castBallots(
      [
        ballot(coded, '1', first),
        ballot(coded, '1'),
        ballot(another, '1', first),
        ballot(device, '1'),
        ballot(coded, '2', second),
      ],
      NOW,
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      'RECORDED',
      'NOT_ADMITTED',
      'NOT_ADMITTED',
      'RECORDED',
      'RECORDED',
    ]);
    expect(changes.map(({ pollId }) => pollId).sort()).toEqual([coded.poll.id, device.poll.id].sort());
    const again = await store.castBallots([ballot(coded, '1', first), ballot(coded, '3', second)], NOW);
    expect(again.outcomes.map(({ kind }) => kind)).toEqual(['UNCHANGED', 'REPLACED']);
    // A batch that was not told of the codes lets nobody in.
    const untold = await store.castBallots([{ ...ballot(coded, '1', keys[2]), coded: false }], NOW);
    expect(untold).toEqual({ outcomes: [{ kind: 'STALE' }], changes: [] });
    await store.retractBallot(coded.poll.id, first, NOW, () => {});
    expect((await store.castBallots([ballot(coded, '2', first)], NOW)).outcomes[0]?.kind).toBe('RECORDED');
    const reset = await store.changePoll(coded.poll.id, NOW, () => ({ dropBallots: true, raiseVersion: true }));
    if (reset === null) throw new Error('The poll is gone.');
    expect((await store.castBallots([ballot(reset, '2', first)], NOW)).outcomes[0]?.kind).toBe('RECORDED');
    await consistent();
  });

  test('audit entries come with what they tell of, newest first, and go with the poll', async () => {
    const id = randomUUID();
    const made = { ...(await newPoll()).poll, id, joinCode: id.slice(0, 8), owner: 'account' };
    expect((await store.insertPoll(made, note('createPoll'))).poll.owner).toBe('account');
    await store.changePoll(id, NOW, () => ({ status: 'CLOSED', raiseVersion: true, audit: note('closePoll') }));
    await store.addAudit(id, { ...note('castVotes'), detail: 'ünïcode' });
    const all = await store.listAudit(id, 10, null);
    expect(all.map(({ action }) => action)).toEqual(['castVotes', 'closePoll', 'createPoll']);
    expect(all[0]).toEqual({ ...note('castVotes'), detail: 'ünïcode', id: expect.any(Number), more: 0 });
    expect(await store.listAudit(id, 1, all[0]?.id ?? null)).toEqual(all.slice(1, 2));
    expect(await store.deletePoll(id, note('deletePoll'))).toBe(true);
    expect((await store.listAudit(id, 10, null)).map(({ action }) => action)).toEqual(['deletePoll']);
    // The same join code and id are free again, and nothing of before is found.
    await store.insertPoll(made);
    expect(await store.loadPoll(id)).toMatchObject({ ballotCount: 0, version: 1 });
  });

  test('refusals are kept up to a limit in a time, and counted beyond, also at once', async () => {
    const { poll } = await newPoll();
    const refusal = note('openPoll', 'NOT_ALLOWED');
    const limit = { since: NOW - 1_000, most: 10 };
    await store.addAudit(poll.id, note('openPoll'));
    await Promise.all(
      Array.from({ length: 8 }, () => store.addRefusals(poll.id, [refusal, refusal, refusal], 2, limit)),
    );
    const all = await store.listAudit(poll.id, 100, null);
    expect(all.filter(({ outcome }) => outcome === 'NOT_ALLOWED')).toHaveLength(10);
    expect(all.reduce((sum, { more }) => sum + more, 0)).toBe(8 * 5 - 10);
    const later = note('openPoll', 'NOT_ALLOWED', NOW + 5_000);
    await store.addRefusals(poll.id, [later], 0, { since: NOW + 4_000, most: 10 });
    expect((await store.listAudit(poll.id, 1, null))[0]).toMatchObject({ at: NOW + 5_000, more: 0 });
    await store.addRefusals('gone', [refusal], 0, limit);
    expect(await store.listAudit('gone', 10, null)).toEqual([]);
  });

  test('ballots come page by page, each once, up to a version', async () => {
    const state = await newPoll();
    for (let batch = 0; batch < 3; batch++) {
      await store.castBallots(
        Array.from({ length: 5 }, () => ballot(state, String(1 + batch))),
        NOW + batch,
      );
    }
    const read = async (version: number, most: number) => {
      const seen: string[] = [];
      let after: string | null = null;
      do {
        const page = await store.ballotPage(state.poll.id, version, after, most);
        expect(page.ballots.length).toBeLessThanOrEqual(most);
        seen.push(...page.ballots.map(({ content, castAt }) => `${content} ${castAt - NOW}`));
        after = page.last;
      } while (after !== null);
      return seen.sort();
    };
    const expected = ['1 0', '2 1', '3 2'].flatMap((line) => Array.from({ length: 5 }, () => line));
    for (const most of [1, 4, 5, 15, 100]) expect(await read(4, most)).toEqual(expected);
    expect(await read(3, 4)).toEqual(expected.slice(0, 10));
    expect(await store.ballotPage('gone', 9, null, 9)).toEqual({ ballots: [], last: null });
  });

  test('polls are listed by organizer key or by owner', async () => {
    const [key, owner] = [randomUUID(), randomUUID()];
    const made: string[] = [];
    for (const mine of [{ organizerKeyHash: key }, { owner }, { organizerKeyHash: key, owner }, {}]) {
      const id = randomUUID();
      const poll = { ...(await newPoll()).poll, id, joinCode: id.slice(0, 8), ...mine };
      made.push((await store.insertPoll(poll)).poll.id);
    }
    const list = async (filter: { organizerKeyHash: string | null; owner: string | null }) =>
      (await store.listPolls({ ...filter, status: null, first: 100, after: null })).map(({ id }) => made.indexOf(id));
    expect((await list({ organizerKeyHash: key, owner: null })).sort()).toEqual([0, 2]);
    expect((await list({ organizerKeyHash: null, owner })).sort()).toEqual([1, 2]);
    expect((await list({ organizerKeyHash: key, owner })).sort()).toEqual([0, 1, 2]);
    expect(await list({ organizerKeyHash: null, owner: null })).toEqual(expect.arrayContaining([0, 1, 2, 3]));
  });

  test('V6 recount names what differs', async () => {
    const state = await newPoll();
    await store.castBallots([ballot(state, '1'), ballot(state, '1')], NOW);
    await store.close();
    const database = await openDatabase(where());
    try {
      await database.rows("UPDATE tallies SET votes = 5 WHERE poll_id = $1 AND key = '1'", [state.poll.id]);
      expect((await makeStore(database).recount()).differences).toEqual([
        { pollId: state.poll.id, what: '1', kept: 5, recounted: 2 },
      ]);
      await database.rows("UPDATE tallies SET votes = 2 WHERE poll_id = $1 AND key = '1'", [state.poll.id]);
    } finally {
      await database.close();
      store = await openStore(where());
    }
    await consistent();
    expect(name).toBe(store.kind === 'pglite' ? 'PGlite' : 'Postgres');
  });
});

describe('opening', () => {
  test('several instances that start at once on an empty database all come up', async () => {
    await using database = await freshDatabase();
    const stores = await Promise.all(
      Array.from({ length: 5 }, () => openStore({ databaseUrl: database.url, dataDir: '' })),
    );
    const results = await Promise.all(stores.map((store) => store.recount()));
    expect(results).toHaveLength(5);
    await Promise.all(stores.map((store) => store.close()));
  });

  test('a database that is not there, or refuses, is said so, without the password', async () => {
    const url = new URL(inject('postgresUrl'));
    url.pathname = '/there_is_no_such_database';
    await expect(openStore({ databaseUrl: url.href, dataDir: '' })).rejects.toThrow(
      /DATABASE_URL: .*there_is_no_such_database/,
    );
    const closed = openStore({ databaseUrl: 'postgres://u:hidden@127.0.0.1:1/x', dataDir: '' });
    await expect(closed).rejects.toThrow(/DATABASE_URL: cannot open the database: .*ECONNREFUSED/);
    await expect(closed).rejects.not.toThrow(/hidden/);
  });

  test('a data folder is one process’s alone: a second one is told who holds it', async () => {
    using folder = temporaryFolder();
    const where = { databaseUrl: null, dataDir: folder.path };
    const { lockFolder } = await import('../../src/store/database/folder-lock.ts');
    const { spawn } = await import('node:child_process');
    const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    const { readFileSync, writeFileSync } = await import('node:fs');
    const start = readFileSync(`/proc/${other.pid}/stat`, 'utf8').split(' ')[21];
    const { hostname } = await import('node:os');
    const lock = { pid: other.pid, host: hostname(), started: start, since: '2026-01-01T00:00:00.000Z' };
    writeFileSync(`${folder.path}/pollcast.lock`, JSON.stringify(lock));
    await expect(openStore(where)).rejects.toThrow(new RegExp(`in use by process ${other.pid} on .* since 2026-01-01`));
    // The same number, but another process: it was given again after a reboot.
    writeFileSync(`${folder.path}/pollcast.lock`, JSON.stringify({ ...lock, started: '1' }));
    lockFolder(folder.path)();
    const ended = new Promise((resolve) => other.once('exit', resolve));
    writeFileSync(`${folder.path}/pollcast.lock`, JSON.stringify(lock));
    other.kill('SIGKILL');
    await ended;
    const release = lockFolder(folder.path);
    release();
    writeFileSync(`${folder.path}/pollcast.lock`, 'half a fi');
    lockFolder(folder.path)();
  });

  test('twenty processes that want the same stale folder: one gets it', async () => {
    using folder = temporaryFolder();
    const { writeFileSync, readdirSync } = await import('node:fs');
    const { hostname } = await import('node:os');
    const { spawn } = await import('node:child_process');
    writeFileSync(
      `${folder.path}/pollcast.lock`,
      JSON.stringify({ pid: 2 ** 22 - 3, host: hostname(), started: '1', since: 'x' }),
    );
    const module = new URL('../../dist/store/database/folder-lock.js', import.meta.url).href;
    const script = `import(${JSON.stringify(module)}).then(({ lockFolder }) => {
      try { lockFolder(${JSON.stringify(folder.path)}); console.log('got it'); } catch (error) { console.log(error.message); }
      process.stdin.resume();
    });`;
    const children = Array.from({ length: 20 }, () => spawn(process.execPath, ['-e', script]));
    const said = await Promise.all(
      children.map(
        (child) => new Promise<string>((resolve) => child.stdout.once('data', (data) => resolve(String(data).trim()))),
      ),
    );
    for (const child of children) child.kill('SIGKILL');
    expect(said.filter((line) => line === 'got it')).toHaveLength(1);
    expect(said.filter((line) => /in use by process|being taken/.test(line))).toHaveLength(19);
    expect(readdirSync(folder.path)).toEqual(['pollcast.lock']);
  });
});
