/** A poll as a file: whole, without voters, by HTTP and on the command line. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { columnNames, csvLine } from '../../src/core/csv.ts';
import { ask, castVote, createPoll, manage, type TestPoll } from '../support/api.ts';
import { BACKENDS, serveOn } from '../support/backends.ts';
import { ROOT, startServer, TEST_SECRET, type TestServer } from '../support/server.ts';

/** Reads RFC 4180, strictly: every line ends in CRLF and has as many fields as the first. */
function readCsv(file: string): string[][] {
  const text = file.replace(/^\uFEFF/, '');
  expect(text.endsWith('\r\n')).toBe(true);
  const rows: string[][] = [];
  let row: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  while (field.lastIndex < text.length) {
    const [, quoted, plain, end] = field.exec(text) ?? [];
    if (end === undefined) throw new Error(`Not CSV at ${field.lastIndex}.`);
    row.push(quoted?.replaceAll('""', '"') ?? plain ?? '');
    if (end !== ',') {
      rows.push(row);
      row = [];
    }
  }
  for (const each of rows) expect(each).toHaveLength(rows[0]?.length ?? 0);
  return rows;
}

test('CSV: quotes where they belong, and nothing that a spreadsheet would run', () => {
  expect(csvLine(['plain', 'a,b', 'say "no"', 'two\r\nlines', null, -2.5, ''])).toBe(
    'plain,"a,b","say ""no""","two\r\nlines",,-2.5,\r\n',
  );
  for (const formula of ['=1+1', '+1', '-1', '@SUM(A1)', ' =1', '\t=1', '\r=1', '＝1', '\ttab']) {
    const [[cell] = []] = readCsv(csvLine([formula]));
    expect(cell).toBe(`'${formula}`);
  }
  expect(csvLine(['a=b', '2-1', 'x@y'])).toBe('a=b,2-1,x@y\r\n');
});

test('CSV: a cell stays one cell where another sign separates columns', () => {
  expect(csvLine(['x;=1+1', 'a|b', 'c'])).toBe('"x;=1+1","a|b",c\r\n');
});

test('CSV: columns have different names', () => {
  expect(columnNames(['record', 'castAt'], ['record', '=1+1', "'=1+1", 'a', 'record (2)'])).toEqual([
    'record',
    'castAt',
    'record (2)',
    '=1+1',
    "'=1+1 (2)",
    'a',
    'record (2) (2)',
  ]);
});

describe.each(BACKENDS)('exports on %s', (name, openBackend) => {
  let server: TestServer;
  let graphql: string;
  serveOn(openBackend, (started) => {
    server = started;
    graphql = started.graphql;
  });

  const get = (poll: { id: string }, format: string, headers: Record<string, string> = {}, init: RequestInit = {}) =>
    fetch(`${server.url}/polls/${poll.id}/export.${format}`, { ...init, headers });
  const exported = async (poll: TestPoll, format: string) => (await get(poll, format, poll.manage)).text();
  const votes = async (poll: TestPoll, ballots: readonly object[]) => {
    const input = { pollId: poll.id, ballots: ballots.map((ballot, index) => ({ voterId: `v${index}`, ...ballot })) };
    const answer = await ask<{ rejected: unknown[] }>(
      graphql,
      'mutation ($input: CastVotesInput!) { castVotes(input: $input) { ... on CastVotesSuccess { rejected { message } } } }',
      { input },
      poll.manage,
    );
    expect(answer.rejected).toEqual([]);
  };

  test('only an organizer of the poll gets it, and no cache keeps it', async () => {
    const [poll, other] = [await createPoll(graphql), await createPoll(graphql)];
    for (const format of ['csv', 'json']) {
      for (const headers of [{}, other.manage, { authorization: 'Bearer nonsense' }]) {
        const refused = await get(poll, format, headers as Record<string, string>);
        expect(refused.status).toBe(403);
        expect(await refused.json()).toMatchObject({ errors: [{ extensions: { code: 'NOT_ALLOWED' } }] });
      }
      expect((await get({ id: 'nothing' }, format, poll.manage)).status).toBe(404);
      const given = await get(poll, format, poll.manage);
      expect([given.status, given.headers.get('cache-control'), given.headers.get('content-disposition')]).toEqual([
        200,
        'private, no-store',
        `attachment; filename="poll-${poll.id}.${format}"`,
      ]);
      expect(given.headers.get('content-type')).toMatch(
        format === 'csv' ? /^text\/csv; charset=utf-8/ : /^application\/json/,
      );
      await given.text();
    }
    expect((await get(poll, 'xml', poll.manage)).status).toBe(404);
    const bytes = async (path: string) =>
      Buffer.from(await (await fetch(`${server.url}${path}`, { headers: poll.manage })).arrayBuffer());
    expect((await bytes(`/polls/${poll.id}/export.csv`)).toString('latin1').startsWith('\xef\xbb\xbfrecord')).toBe(
      true,
    );
    expect((await bytes(`/polls/${poll.id}/export.csv?bom=0`)).toString().startsWith('record')).toBe(true);
    const posted = await get(poll, 'csv', poll.manage, { method: 'POST' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    const told = await server.app.store.listAudit(poll.id, 20, null);
    expect(told.filter(({ outcome }) => outcome === 'ACCEPTED').map(({ action, detail }) => [action, detail])).toEqual([
      ['exportPoll', 'csv'],
      ['exportPoll', 'csv'],
      ['exportPoll', 'json'],
      ['exportPoll', 'csv'],
      ['createPoll', 'OPEN'],
    ]);
  });

  test('SINGLE and MULTIPLE: a column a choice, the votes, and a line a ballot', async () => {
    const labels = ['=1+1', 'Ünï, "quoted"', 'two; parts', 'plain'];
    const poll = await createPoll(graphql, { kind: 'MULTIPLE', choices: labels });
    const [a, b, c] = poll.choiceIds;
    await votes(poll, [{ choiceIds: [a, b] }, { choiceIds: [a] }, { choiceIds: [c, a] }]);
    const [head, about, result, ...ballots] = readCsv(await exported(poll, 'csv'));
    expect(head).toEqual(['record', 'castAt', "'=1+1", ...labels.slice(1)]);
    expect(about?.slice(0, 4)).toEqual(['poll', expect.stringMatching(/^\d{4}-.*Z$/), poll.id, 'Which?']);
    expect(result).toEqual(['result', '', '3', '1', '1', '0']);
    expect(ballots.map(([record, , ...cells]) => [record, ...cells].join()).sort()).toEqual([
      'ballot,1,,,',
      'ballot,1,,1,',
      'ballot,1,1,,',
    ]);
    for (const [, castAt] of ballots) expect(castAt).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:00\.000Z$/);
  });

  test('RANKED: every round, and ranks; RATING: every value, and ratings', async () => {
    const ranked = await createPoll(graphql, { kind: 'RANKED', choices: ['a', 'b', 'c'] });
    const [a, b, c] = ranked.choiceIds;
    await votes(ranked, [
      { choiceIds: [a] },
      { choiceIds: [a, b] },
      { choiceIds: [b] },
      { choiceIds: [b, a] },
      { choiceIds: [c, b, a] },
    ]);
    const [, , ...lines] = readCsv(await exported(ranked, 'csv'));
    expect(lines.slice(0, 3).map((line) => line.join())).toEqual(['result,,2,2,1', 'round 1,,2,2,1', 'round 2,,2,3,']);
    expect(
      lines
        .slice(3)
        .map(([record, , ...cells]) => [record, ...cells].join())
        .sort(),
    ).toEqual(['ballot,,1,', 'ballot,1,,', 'ballot,1,2,', 'ballot,2,1,', 'ballot,3,2,1']);
    const rating = await createPoll(graphql, { kind: 'RATING', choices: null, ratingScale: { min: -1, max: 1 } });
    await votes(rating, [{ rating: -1 }, { rating: 1 }, { rating: -1 }]);
    const rows = readCsv(await exported(rating, 'csv')).map(([record, , ...cells]) => [record, ...cells].join());
    expect(rows.slice(0, 5)).toEqual([
      'record,rating,votes',
      `poll,${rating.id},Which?`,
      'result,-1,2',
      'result,0,0',
      'result,1,1',
    ]);
    expect(rows.slice(5).sort()).toEqual(['ballot,-1,', 'ballot,-1,', 'ballot,1,']);
  });

  test('JSON: the poll, the results as everywhere, the ballots', async () => {
    const poll = await createPoll(graphql, { question: 'Wel\u2028che?', resultsVisibility: 'ALWAYS' });
    await votes(poll, [{ choiceIds: [poll.choiceIds[1]] }, { choiceIds: [poll.choiceIds[1]] }]);
    await manage(graphql, 'closePoll', poll);
    const text = await exported(poll, 'json');
    const file: Record<string, unknown> = JSON.parse(text);
    expect(Object.keys(file)).toEqual(['poll', 'results', 'ballots']);
    expect(file.poll).toMatchObject({ id: poll.id, question: 'Wel\u2028che?', status: 'CLOSED', kind: 'SINGLE' });
    const plain = await fetch(`${server.url}/polls/${poll.id}/results`);
    expect(file.results).toEqual(await plain.json());
    const ballot = { choiceIds: [poll.choiceIds[1]], rating: null, castAt: expect.stringMatching(/:00\.000Z$/) };
    expect(file.ballots).toEqual([ballot, ballot]);
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}|organizerKey|owner|pck_/);
    const empty = await createPoll(graphql);
    expect(JSON.parse(await exported(empty, 'json'))).toMatchObject({ ballots: [], results: { ballotCount: 0 } });
  });

  test('many pages: every ballot once, in an order that is another each time', async () => {
    const poll = await createPoll(graphql, { kind: 'RANKED', choices: Array.from({ length: 8 }, (_, n) => `c${n}`) });
    const loaded = await server.app.store.loadPoll(poll.id);
    const orders = permutations([1, 2, 3, 4, 5, 6, 7, 8]).slice(0, 12_000);
    for (let at = 0; at < orders.length; at += 500) {
      await server.app.store.castBallots(
        orders.slice(at, at + 500).map((order) => ({
          pollId: poll.id,
          voterKey: crypto.randomUUID(),
          receiptId: crypto.randomUUID(),
          content: order.join(),
          revision: loaded?.poll.revision ?? 0,
          coded: false,
        })),
        Date.UTC(2026, 0, 1, 10, 30, 59),
      );
    }
    const read = async () => {
      const lines = readCsv(await exported(poll, 'csv')).filter(([record]) => record === 'ballot');
      expect(new Set(lines.map(([, castAt]) => castAt))).toEqual(new Set(['2026-01-01T10:30:00.000Z']));
      return lines.map(([, , ...ranks]) => ranks.join());
    };
    const [first, second] = [await read(), await read()];
    expect(first).toHaveLength(12_000);
    expect(new Set(first).size).toBe(12_000);
    expect(second).not.toEqual(first);
    expect([...second].sort()).toEqual([...first].sort());
    // Nor the order in which they were cast: far fewer stand beside their neighbour of then than would by that order.
    const cast = new Map(orders.map((order, index) => [order.map((_, n) => order.indexOf(n + 1) + 1).join(), index]));
    const neighbours = first.filter(
      (line, index) => (cast.get(first[index + 1] ?? '') ?? -9) === (cast.get(line) ?? 0) + 1,
    );
    expect(neighbours.length).toBeLessThan(50);
  });

  test('who hangs up in the middle leaves the server well', async () => {
    const poll = await createPoll(graphql);
    await castVote(graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    const abort = new AbortController();
    const response = await get(poll, 'csv', poll.manage, { signal: abort.signal });
    abort.abort();
    await expect(response.text()).rejects.toThrow();
    expect(readCsv(await exported(poll, 'csv'))).toHaveLength(4);
  });

  test('pollcast export writes the same file; on PGlite it says that the server must stop first', {
    timeout: 120_000,
  }, async () => {
    await using storage = await openBackend();
    const first = await startServer(storage.env);
    const poll = await createPoll(first.graphql);
    for (let index = 0; index < 3; index++) {
      await castVote(first.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[index]] });
    }
    const byHttp = await (await fetch(`${first.url}/polls/${poll.id}/export.csv`, { headers: poll.manage })).text();
    const run = (...args: string[]) => {
      const child = spawn(process.execPath, [join(ROOT, 'dist/main.js'), 'export', ...args], {
        env: { PATH: process.env.PATH ?? '', SECRET: TEST_SECRET, ...storage.env },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let out = '';
      let err = '';
      child.stdout.on('data', (data) => (out += data));
      child.stderr.on('data', (data) => (err += data));
      return new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
        child.once('close', (code) => resolve({ code, out, err })),
      );
    };
    if (name === 'PGlite') {
      expect(await run(poll.id)).toMatchObject({ code: 1, out: '', err: expect.stringContaining('in use by process') });
      await first[Symbol.asyncDispose]();
    }
    const csv = await run(poll.id);
    expect(csv).toMatchObject({ code: 0, err: '' });
    expect(csv.out.startsWith('\uFEFFrecord')).toBe(true);
    expect(csv.out.slice(1).split('\r\n').sort()).toEqual(byHttp.split('\r\n').sort());
    const json = await run(poll.id, '--format', 'json');
    expect(JSON.parse(json.out)).toMatchObject({ results: { ballotCount: 3 }, ballots: [{}, {}, {}] });
    expect(await run('nothing')).toMatchObject({ code: 1, out: '', err: 'pollcast: There is no poll "nothing".\n' });
    for (const wrong of [[], ['--format', 'csv'], [poll.id, '--format', 'xml'], [poll.id, 'csv']]) {
      expect(await run(...wrong)).toMatchObject({ code: 2, err: expect.stringContaining('export <pollId>') });
    }
    await using second = await startServer(storage.env);
    const told = await second.app.store.listAudit(poll.id, 2, null);
    expect(told.map(({ actor, action, detail }) => [actor, action, detail])).toEqual([
      ['operator', 'exportPoll', 'json'],
      ['operator', 'exportPoll', 'csv'],
    ]);
    if (name === 'Postgres') await first[Symbol.asyncDispose]();
  });
});

function permutations(items: readonly number[]): number[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}
