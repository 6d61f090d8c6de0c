/** What the README says is run as it stands there, only the address and the poll's id are put in. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../src/config/config.ts';
import { castVote, createPoll, manage } from './support/api.ts';
import { temporaryFolder } from './support/folders.ts';
import { eventually } from './support/peers.ts';
import { ROOT, startServer, type TestServer } from './support/server.ts';

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

function block(language: string, holding: string): string {
  const blocks = [...README.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, name, code]) => ({ name, code: code ?? '' }));
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
    const shell = run('bash', ['-c', here(block('sh', 'curl'))], folder.path);
    await shell.ended;
    expect(shell.out()).toMatch(/"organizerKey":"pck_[\w-]+"/);
    expect(shell.out()).toMatch(/"outcome":"RECORDED","version":2/);
    expect(shell.out()).toMatch(
      /event: next\ndata: \{"data":\{"pollResults":\{"version":2,"ballotCount":1,"tallies":\[\{"label":"Tabs","votes":1\}/,
    );
    expect(shell.out()).toMatch(/"isFinal":true,"ballotCount":1/);
  });

  test.each([
    ['graphql-ws', "from 'graphql-ws'", ''],
    ['EventSource', 'new EventSource', "import { EventSource } from 'eventsource';\n"],
  ])('the %s snippet watches until the final results', async (_, holding, prelude) => {
    const poll = await createPoll(server.graphql, { choices: ['Tabs', 'Spaces'] });
    const code = prelude + here(block('js', holding)).replace('the id of your poll', poll.id);
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
    const { rmSync } = await import('node:fs');
    rmSync(file);
  });

  test('its table names every variable of the configuration, with the right defaults', () => {
    const config = readConfig({});
    expect(README).toContain(`| \`PORT\`, \`HOST\` | ${config.port}, ${config.host} |`);
    expect(README).toContain(`| \`DATA_DIR\` | \`${config.dataDir}\` |`);
    const { limits } = config.access;
    expect(README).toContain(`| \`VOTE_RATE_LIMIT\` | ${limits.votes} |`);
    expect(README).toContain(`| \`POLL_CREATION_LIMIT\` | ${limits.polls} |`);
    expect(README).toContain(`| \`CONNECTION_LIMIT\` | ${limits.connections} |`);
    expect(README).toContain(`| \`OPERATION_COST_LIMIT\` | ${limits.operationCost} |`);
    expect(README).toContain(`| \`LIVE_INTERVAL_MS\` | ${config.liveIntervalMs} |`);
    expect(README).toContain(`| \`WORKERS\` | ${config.workers} |`);
    expect(README).toContain(`| \`DRAIN_MS\` | ${config.drainMs} |`);
    expect(README).toContain(`| \`LOG_LEVEL\` | \`${config.logLevel}\` |`);
  });

  test('the scripts that it names are there', () => {
    const { scripts }: { scripts: Record<string, string> } = JSON.parse(
      readFileSync(join(ROOT, 'package.json'), 'utf8'),
    );
    const named = [...README.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name ?? '');
    expect(named.length).toBeGreaterThan(3);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });
});
