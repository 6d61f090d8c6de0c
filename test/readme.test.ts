/** Runs the commands and snippets of README.md and docs/ as they stand, with the address and the poll's id replaced. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../src/config/config.ts';
import { castVote, createPoll, manage } from './support/api.ts';
import { temporaryFolder } from './support/folders.ts';
import { eventually } from './support/peers.ts';
import { ROOT, startServer, type TestServer } from './support/server.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const README = read('README.md');
const OPERATING = read('docs/operating.md');
const DOCS = readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`);

function block(path: string, language: string, holding: string): string {
  const blocks = [...read(path).matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, name, code]) => ({
    name,
    code: code ?? '',
  }));
  const found = blocks.filter(({ name, code }) => name === language && code.includes(holding));
  expect(found, `one ${language} block with "${holding}"`).toHaveLength(1);
  return found[0]?.code ?? '';
}

describe('the README', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const here = (code: string) => code.replaceAll('127.0.0.1:4000', new URL(server.url).host);

  function run(command: string, args: string[], cwd: string) {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (out += data));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    return { out: () => out, ended, stop: () => child.kill() };
  }

  test('the curl lines create, vote, watch and close', async () => {
    using folder = temporaryFolder();
    const shell = run('bash', ['-c', here(block('README.md', 'sh', 'curl'))], folder.path);
    await shell.ended;
    expect(shell.out()).toMatch(/"organizerKey":"pck_[\w-]+"/);
    expect(shell.out()).toMatch(/"outcome":"RECORDED","version":2/);
    expect(shell.out()).toMatch(
      /event: next\ndata: \{"data":\{"pollResults":\{"version":2,"ballotCount":1,"tallies":\[\{"label":"Tabs","votes":1\}/,
    );
    expect(shell.out()).toMatch(/"isFinal":true,"ballotCount":1/);
  });

  test.each([
    ['graphql-ws', 'docs/transports.md', "from 'graphql-ws'", ''],
    ['EventSource', 'README.md', 'new EventSource', "import { EventSource } from 'eventsource';\n"],
  ])('the %s snippet watches until the final results', async (_, path, holding, prelude) => {
    const poll = await createPoll(server.graphql, { choices: ['Tabs', 'Spaces'] });
    const code = prelude + here(block(path, 'js', holding)).replace('the id of your poll', poll.id);
    // Beside the packages that it imports.
    const file = join(ROOT, `node_modules/.readme-${process.pid}-${holding.length}.mjs`);
    writeFileSync(
      file,
      `${prelude === '' ? "import { WebSocket } from 'ws';\nglobalThis.WebSocket ??= WebSocket;\n" : ''}${code}`,
    );
    const snippet = run(process.execPath, [file], ROOT);
    await eventually(() => /version: 1/.test(snippet.out()), `version 1 is shown: ${snippet.out()}`);
    await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[1]] });
    await manage(server.graphql, 'closePoll', poll);
    expect(await snippet.ended).toBe(0);
    expect(snippet.out()).toMatch(/isFinal: true[\s\S]*label: 'Spaces', votes: 1/);
    rmSync(file);
  });

  test('docs/operating.md lists the defaults of the configuration', () => {
    const config = readConfig({});
    expect(OPERATING).toContain(`| \`PORT\`, \`HOST\` | ${config.port}, ${config.host} |`);
    expect(OPERATING).toContain(`| \`DATA_DIR\` | \`${config.dataDir}\` |`);
    const { limits } = config.access;
    expect(OPERATING).toContain(`| \`VOTE_RATE_LIMIT\` | ${limits.votes} |`);
    expect(OPERATING).toContain(`| \`POLL_CREATION_LIMIT\` | ${limits.polls} |`);
    expect(OPERATING).toContain(`| \`CONNECTION_LIMIT\` | ${limits.connections} |`);
    expect(OPERATING).toContain(`| \`OPERATION_COST_LIMIT\` | ${limits.operationCost} |`);
    expect(OPERATING).toContain(`| \`LIVE_INTERVAL_MS\` | ${config.liveIntervalMs} |`);
    expect(OPERATING).toContain(`| \`WORKERS\` | ${config.workers} |`);
    expect(OPERATING).toContain(`| \`DRAIN_MS\` | ${config.drainMs} |`);
    expect(OPERATING).toContain(`| \`LOG_LEVEL\` | \`${config.logLevel}\` |`);
  });

  test('the scripts that README and docs name exist', () => {
    const { scripts }: { scripts: Record<string, string> } = JSON.parse(
      readFileSync(join(ROOT, 'package.json'), 'utf8'),
    );
    const texts = ['README.md', 'CONTRIBUTING.md', ...DOCS].map(read).join('\n');
    const named = [...texts.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name ?? '');
    expect(named.length).toBeGreaterThan(3);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  test.each(['README.md', 'CONTRIBUTING.md', ...DOCS])('the links in %s lead to files', (path) => {
    const links = [...read(path).matchAll(/\]\(([^)#\s]+)\)/g)].map(([, link]) => link ?? '');
    const local = links.filter((link) => !/^https?:/.test(link));
    expect(local.filter((link) => !existsSync(join(ROOT, dirname(path), link)))).toEqual([]);
  });

  test('README fits on three screens', () => {
    const prose = README.replace(/```[\s\S]*?```/g, '');
    expect(prose.split(/\s+/).length).toBeLessThan(600);
  });
});
