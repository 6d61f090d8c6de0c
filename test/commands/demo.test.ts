/** The demo: the ballots it reads, the verdict it gives, and the whole of it as a process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, test, vi } from 'vitest';
import type { Results } from '../../src/commands/demo/count-results.ts';
import { compareWithOfficial } from '../../src/commands/demo/official.ts';
import { drawScene } from '../../src/commands/demo/picture.ts';
import { ballotsOf, parseToi, shuffle } from '../../src/commands/demo/read-ballots.ts';
import { openScreen } from '../../src/commands/demo/screen.ts';
import { freePort } from '../support/ports.ts';
import { ROOT, startServer } from '../support/server.ts';

const TEXT = readFileSync(join(ROOT, 'src/commands/demo/data/burlington-2009.toi'), 'utf8');
/** The demo takes 4 s on an idle machine; it shares its cores with other tests. */
const LONG_MS = 180_000;

// The results that the demo must come to.
const tallies = (votes: Record<string, number>) =>
  Object.entries(votes).map(([label, count]) => ({ label, votes: count, share: count / 8976 }));
const round = { number: 1, tallies: [], eliminated: [], exhausted: 0 };
const first = {
  'Bob Kiss': 2585,
  'Andy Montroll': 2063,
  'James Simpson': 35,
  'Dan Smith': 1306,
  'Kurt Wright': 2951,
  'Write-In': 36,
};
const last = {
  number: 5,
  tallies: tallies({ 'Bob Kiss': 4313, 'Kurt Wright': 4060 }),
  eliminated: [],
  exhausted: 603,
};
const good: Results = {
  version: 1,
  isFinal: true,
  ballotCount: 8976,
  tallies: tallies(first),
  rounds: [round, round, round, round, last],
  winner: 'Bob Kiss',
};

describe('the ballots', () => {
  const profile = parseToi(TEXT);
  const ballots = ballotsOf(profile);

  test('are all read: 8 980 voters in 384 orders, 4 of them without a first preference', () => {
    expect(profile.voters).toBe(8980);
    expect(profile.orders).toHaveLength(384);
    expect(ballots).toHaveLength(8976);
    expect(profile.names).toEqual([
      'Bob Kiss',
      'Andy Montroll',
      'James Simpson',
      'Dan Smith',
      'Kurt Wright',
      'Write-In',
    ]);
    const first = profile.names.map((_, choice) => ballots.filter(([best]) => best === choice).length);
    expect(first).toEqual([2585, 2063, 35, 1306, 2951, 36]);
  });

  test('are cut before a tie', () => {
    expect(profile.orders.filter(({ isCut }) => isCut).map(({ voters, ranking }) => [voters, ranking])).toEqual([
      [1, []],
      [1, []],
      [1, []],
      [1, [1, 3]],
      [1, [4, 3]],
      [1, []],
    ]);
  });

  test('are shuffled: none lost or added, the same order for the same seed', () => {
    const shuffled = shuffle(ballots, 2009);
    const sorted = (list: typeof ballots): string[] => list.map(String).sort();
    expect(sorted(shuffled)).toEqual(sorted(ballots));
    expect(shuffled).not.toEqual(ballots);
    expect(shuffle(ballots, 2009)).toEqual(shuffled);
    expect(shuffle(ballots, 2010)).not.toEqual(shuffled);
  });

  test.each([
    ['a ballot too many', `${TEXT}1: 5,4,3,2\n`, 'NUMBER VOTERS: 8980, but hold 8981'],
    ['a line that is none', `${TEXT}one: 5\n`, 'a line that is none: "one: 5"'],
    ['an unknown choice', TEXT.replace('840: 5', '840: 7'), 'a choice that is not in their header'],
    ['no title', TEXT.replace(/# TITLE.*\n/, ''), 'no header line "TITLE"'],
  ])('are refused with %s', (_, text, message) => {
    expect(() => parseToi(text)).toThrow(message);
  });
});

describe('the comparison', () => {
  test('accepts the official count, with the one ballot that is cut', () => {
    expect(compareWithOfficial(good).matches).toBe(true);
  });

  test.each<[string, Partial<Results>]>([
    ['a ballot less', { ballotCount: 8975 }],
    ['another first preference', { tallies: tallies({ ...first, 'Write-In': 37 }) }],
    ['a choice more', { tallies: tallies({ ...first, Nobody: 0 }) }],
    ['a choice less', { tallies: tallies(first).slice(1) }],
    ['a round less', { rounds: [round, round, round, last] }],
    ['another final round', { rounds: [round, round, round, round, { ...last, exhausted: 602 }] }],
    [
      'the final round as it was officially',
      {
        rounds: [round, round, round, round, { ...last, tallies: tallies({ 'Bob Kiss': 4313, 'Kurt Wright': 4061 }) }],
      },
    ],
    ['no rounds', { rounds: [] }],
    ['another winner', { winner: 'Kurt Wright' }],
  ])('refuses %s', (_, change) => {
    const { matches, lines } = compareWithOfficial({ ...good, ...change });
    expect(matches, lines.join('\n')).toBe(false);
  });
});

describe('the picture', () => {
  test('fits any width, and the terminal is given back', () => {
    const scene = { results: good, pace: 99_999, cast: 8976, total: 8976 };
    for (const columns of [50, 80, 200]) {
      const lines = drawScene(scene, { columns, isUnicode: true, isColored: false });
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    }
    const terminal = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY: true, columns: 80, rows: 24 });
    const stop = openScreen(terminal, {}).draw(() => scene);
    stop();
    const written = String(terminal.read());
    expect(written.startsWith('\x1b[?25l')).toBe(true);
    expect(written.endsWith('\x1b[?25h')).toBe(true);
    expect(written).toContain('8976 of 8976');
  });
});

describe('the process', () => {
  test(
    'replays the election on a server of its own and matches the official count',
    async () => {
      await using demo = runDemo([]);
      const code = await demo.ended;
      expect(code, demo.all()).toBe(0);
      expectOfficial(demo.out());
      expect(demo.err()).toBe('');
      // One line a tenth, and never a control character where there is no terminal.
      expect(demo.out().match(/^ *\d+ %/gm)?.length).toBeGreaterThan(5);
      expect(demo.out()).not.toContain('\x1b');
      expect(readdirSync(demo.folder)).toEqual([]);
    },
    LONG_MS,
  );

  test(
    'V3 matches the official count where answers are lost and connections break',
    async () => {
      await using server = await startServer();
      await using network = await breakConnections(Number(new URL(server.url).port), 150);
      await using demo = runDemo(['--url', `http://127.0.0.1:${network.port}`]);
      const code = await demo.ended;
      expect(code, demo.all()).toBe(0);
      expectOfficial(demo.out());
      expect(network.broken()).toBeGreaterThan(20);
    },
    LONG_MS,
  );

  test(
    'casts only the first ballots with --limit, on the server of POLLCAST_URL',
    async () => {
      await using server = await startServer();
      await using demo = runDemo(['--limit', '100'], { POLLCAST_URL: server.url });
      expect(await demo.ended, demo.all()).toBe(0);
      expect(demo.out()).toContain('100 ballots were cast');
      expect(demo.out()).toContain('nothing to compare');
      expect(demo.out()).not.toContain('official');
    },
    LONG_MS,
  );

  test('says in one line that no server answers', async () => {
    const port = await freePort();
    await using demo = runDemo(['--url', `http://127.0.0.1:${port}`]);
    expect(await demo.ended).toBe(1);
    expect(demo.err()).toBe(`demo: No server answers at http://127.0.0.1:${port}/graphql: nothing listens there.\n`);
  });

  test('says in one line that something else answers', async () => {
    await using server = await startServer();
    await using demo = runDemo(['--url', `${server.url}/elsewhere`]);
    expect(await demo.ended).toBe(1);
    expect(demo.err()).toMatch(/^demo: The server at \S+ refuses: There is nothing at \/elsewhere\/graphql\.\n$/);
  });

  test.each([
    [['--url', 'here'], 'demo: --url: "here" must be an address such as http://127.0.0.1:4000.\n'],
    [['--limit', '0'], 'demo: --limit: "0" must be a whole number from 1.\n'],
    [['--fast'], "demo: Unknown option '--fast' (see --help)\n"],
  ])('refuses %j in one line', async (args, line) => {
    await using demo = runDemo(args);
    expect(await demo.ended).toBe(1);
    expect(demo.err()).toBe(line);
  });

  test('explains itself with --help', async () => {
    await using demo = runDemo(['--help']);
    expect(await demo.ended).toBe(0);
    for (const option of ['--url', '--limit', '--help', 'POLLCAST_URL']) expect(demo.out()).toContain(option);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGKILL', null],
  ] as const)(
    'leaves nothing behind after %s in the middle',
    async (signal, expected) => {
      await using demo = runDemo([]);
      await demo.until(/^ *\d+ % /m);
      demo.child.kill(signal);
      expect(await demo.ended, demo.all()).toBe(expected);
      // The server removes its data as the last thing it does. After SIGKILL it does so by itself.
      await vi.waitFor(() => expect(readdirSync(demo.folder)).toEqual([]), { timeout: 20_000 });
    },
    LONG_MS,
  );

  test(
    'closes its poll on the server of others when it is interrupted',
    async () => {
      await using server = await startServer();
      await using demo = runDemo(['--url', server.url]);
      await demo.until(/^ *\d+ % /m);
      demo.child.kill('SIGTERM');
      expect(await demo.ended, demo.all()).toBe(143);
      const joinCode = /^Poll (\w+) is open/m.exec(demo.out())?.[1] ?? '';
      const poll = await server.app.services.polls.find({ joinCode });
      expect(poll?.poll.status).toBe('CLOSED');
    },
    LONG_MS,
  );
});

interface Demo extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Where it and its server keep what is temporary. */
  readonly folder: string;
  /** The exit code; null: a signal ended it. */
  readonly ended: Promise<number | null>;
  out(): string;
  err(): string;
  all(): string;
  /** Resolves when the output matches; rejects if it ends before. */
  until(pattern: RegExp): Promise<void>;
}

/** `node dist/commands/demo/main.js` without a terminal, with only the given environment. */
function runDemo(args: readonly string[], env: Record<string, string> = {}): Demo {
  const folder = mkdtempSync(join(tmpdir(), 'pollcast-test-'));
  const child = spawn(process.execPath, [join(ROOT, 'dist/commands/demo/main.js'), ...args], {
    env: { PATH: process.env.PATH ?? '', TMPDIR: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const all = (): string => out + err;
  return {
    child,
    folder,
    ended,
    out: () => out,
    err: () => err,
    all,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        child.stdout.on('data', () => {
          if (pattern.test(out)) resolve();
        });
        void ended.then((code) => reject(new Error(`exit ${code} before ${pattern}: ${all()}`)));
      }),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A proxy that cuts a connection, both ways, in place of each `nth` piece that the server sends: the answer is lost. */
async function breakConnections(
  port: number,
  nth: number,
): Promise<AsyncDisposable & { readonly port: number; broken(): number }> {
  let pieces = 0;
  let broken = 0;
  const proxy = createServer((client) => {
    const server = connect(port, '127.0.0.1');
    const cut = (): void => {
      client.destroy();
      server.destroy();
    };
    client.on('data', (data) => server.write(data));
    server.on('data', (data) => {
      pieces += 1;
      if (pieces % nth !== 0) return client.write(data);
      broken += 1;
      cut();
    });
    for (const socket of [client, server]) socket.on('close', cut).on('error', cut);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return {
    port: (proxy.address() as AddressInfo).port,
    broken: () => broken,
    [Symbol.asyncDispose]: () => new Promise((resolve) => proxy.close(() => resolve())),
  };
}

function expectOfficial(out: string): void {
  const figures = {
    'first preferences: Kurt Wright': '2951 +2951',
    'first preferences: Bob Kiss': '2585 +2585',
    'first preferences: Andy Montroll': '2063 +2063',
    'first preferences: Dan Smith': '1306 +1306',
    'first preferences: Write-In': '36 +36',
    'first preferences: James Simpson': '35 +35',
    'ballots counted': '8976 +8976',
    rounds: '5',
    'final round: Bob Kiss': '4313 +4313',
    'final round: Kurt Wright': '4060 +4061',
    'final round: exhausted': '603',
    winner: 'Bob Kiss +Bob Kiss',
  };
  for (const [what, counted] of Object.entries(figures))
    expect(out).toMatch(new RegExp(`^  ${what} +${counted}\\b`, 'm'));
  expect(out).toMatch(/^ {2}eliminated +Simpson +Write-In +Smith +Montroll +-$/m);
  expect(out).toContain('The count matches the official one.');
}
