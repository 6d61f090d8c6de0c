/** Tests of the test support: its programs start, fail as asked, and are removed. */
import { existsSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import { expect, inject, test } from 'vitest';
import { launchChromium } from './chromium.ts';
import { freshDatabase } from './database.ts';
import { startNginx } from './nginx.ts';
import { freePort } from './ports.ts';
import { startPostgres } from './postgres.ts';
import { findProgram, isAlive, processTree } from './programs.ts';
import { startProxy } from './proxy.ts';
import { startRedis } from './redis.ts';

const SLOW_MS = 60_000;
// If the environment names a server, the program need not be installed.
const postgresTest = test.skipIf(findProgram('postgres') === undefined);
const redisTest = test.skipIf(findProgram('redis') === undefined);

test('a free port can be listened on, and is given once', async () => {
  const ports = await Promise.all(Array.from({ length: 20 }, freePort));
  expect(new Set(ports).size).toBe(20);
  for (const port of ports) {
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
    await new Promise((resolve) => server.close(resolve));
  }
});

postgresTest('Postgres keeps what was committed through a kill, and leaves nothing', { timeout: SLOW_MS }, async () => {
  let data = '';
  let pids: number[] = [];
  const tree = () => processTree(Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]));
  {
    await using server = await startPostgres();
    const url = await server.createDatabase();
    await using first = connection(url);
    const { sql } = first;
    const [settings] =
      await sql`select current_setting('fsync') as fsync, current_setting('max_connections') as clients,
      current_setting('listen_addresses') as address, current_setting('data_directory') as data`;
    expect(settings).toMatchObject({ fsync: 'on', clients: '200', address: '127.0.0.1' });
    data = String(settings?.data);
    await sql`create table kept (n int)`;
    await sql`insert into kept values (42)`;
    const killed = tree();
    expect(killed.filter(isAlive).length).toBeGreaterThan(3);

    await server.kill();
    expect(killed.filter(isAlive)).toEqual([]);
    await expect(sql`select 1`).rejects.toThrow();

    await server.restart();
    await using second = connection(url);
    expect([...(await second.sql`select n from kept`)]).toEqual([{ n: 42 }]);
    pids = tree();
    expect(pids.filter(isAlive).length).toBeGreaterThan(3);
  }
  expect(pids.filter(isAlive)).toEqual([]);
  expect(existsSync(dirname(data))).toBe(false);
});

postgresTest('a Postgres that cannot start says why and leaves nothing', { timeout: SLOW_MS }, async () => {
  const start = startPostgres({ settings: { max_connections: 'many' } });
  await expect(start).rejects.toThrow('invalid value for parameter "max_connections"');
});

test('a fresh database is empty, its own, and dropped while somebody is connected', async () => {
  const other = await freshDatabase();
  await using admin = connection(inject('postgresUrl'));
  await using visitor = connection(other.url);
  {
    await using _dropped = other;
    await using kept = await freshDatabase();
    expect(kept.url).not.toBe(other.url);
    await visitor.sql`create table t (n int)`;
    await using owner = connection(kept.url);
    expect([...(await owner.sql`select to_regclass('t') as found`)]).toEqual([{ found: null }]);
  }
  const name = new URL(other.url).pathname.slice(1);
  expect([...(await admin.sql`select 1 from pg_database where datname = ${name}`)]).toEqual([]);
});

redisTest('Redis answers, forgets when killed, and leaves nothing', { timeout: SLOW_MS }, async () => {
  let folder = '';
  let pid = 0;
  {
    await using server = await startRedis();
    expect(await redis(server.url, 'SET vote 1')).toBe('+OK\r\n');
    expect(await redis(server.url, 'GET vote')).toBe('$1\r\n1\r\n');
    folder = (await redis(server.url, 'CONFIG GET dir')).split('\r\n')[4] ?? '';
    expect(existsSync(folder)).toBe(true);

    await server.kill();
    await expect(redis(server.url, 'PING')).rejects.toThrow('ECONNREFUSED');

    await server.restart();
    expect(await redis(server.url, 'GET vote')).toBe('$-1\r\n');
    pid = Number((await redis(server.url, 'INFO server')).match(/process_id:(\d+)/)?.[1]);
    expect(isAlive(pid)).toBe(true);
  }
  expect(isAlive(pid)).toBe(false);
  expect(existsSync(folder)).toBe(false);
});

test('a proxy delays, holds back and cuts; what a sender reset meanwhile never arrives', async () => {
  const heard: string[] = [];
  const ends: string[] = [];
  const server = createServer((socket) => {
    socket.on('data', (data) => heard.push(String(data)));
    socket.on('error', () => {});
    socket.on('close', () => ends.push('closed'));
    socket.write('welcome');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await using proxy = await startProxy(`tcp://127.0.0.1:${port}`);
  const join = async () => {
    const socket = connect(Number(new URL(proxy.url).port), '127.0.0.1');
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('data', resolve));
    return socket;
  };
  const [stays, leaves, parts] = [await join(), await join(), await join()];
  proxy.delay(20);
  stays.write('late');
  await expect.poll(() => heard).toEqual(['late']);
  proxy.delay(0);
  proxy.swallow();
  stays.write('held');
  leaves.write('lost');
  parts.end('said in parting');
  // Four: an end is a piece as well.
  await expect.poll(() => proxy.holding).toBe(4);
  leaves.resetAndDestroy();
  await expect.poll(() => proxy.resets).toBe(1);
  // New connections get no response and no refusal.
  const newcomer = connect(Number(new URL(proxy.url).port), '127.0.0.1');
  newcomer.on('error', () => {});
  await new Promise((resolve) => newcomer.once('connect', resolve));
  expect(heard).toEqual(['late']);
  expect(ends).toEqual([]);
  proxy.heal();
  await new Promise((resolve) => newcomer.once('data', resolve));
  await expect.poll(() => [...heard].sort()).toEqual(['held', 'late', 'said in parting']);
  await expect.poll(() => ends.length).toBe(2);
  proxy.cut();
  await expect.poll(() => ends.length).toBe(4);
  expect(proxy.connections).toBe(0);
  expect(heard).not.toContain('lost');
  await new Promise((resolve) => server.close(resolve));
});

test('nginx listens with the shipped configuration, and leaves nothing', { timeout: SLOW_MS }, async () => {
  const before = processTree(process.pid);
  let url = '';
  let pids: number[] = [];
  {
    await using server = await startNginx(['http://127.0.0.1:9']);
    url = server.url;
    // No server listens at the instance.
    expect((await fetch(url)).status).toBe(502);
    pids = processTree(process.pid).filter((pid) => !before.includes(pid));
    expect(pids.length).toBeGreaterThan(1);
  }
  expect(pids.filter(isAlive)).toEqual([]);
  await expect(fetch(url)).rejects.toThrow();
});

test('Chromium opens a page and leaves nothing', { timeout: SLOW_MS }, async () => {
  const before = processTree(process.pid);
  let pids: number[] = [];
  {
    await using opened = await launchChromium();
    const page = await opened.browser.newPage();
    await page.goto('data:text/html,<title>Pollcast</title>');
    expect(await page.title()).toBe('Pollcast');
    pids = processTree(process.pid).filter((pid) => !before.includes(pid));
    expect(pids.length).toBeGreaterThan(1);
  }
  // The helper processes of the browser exit shortly after it.
  await expect.poll(() => pids.filter(isAlive), { timeout: 10_000 }).toEqual([]);
});

function connection(url: string): AsyncDisposable & { readonly sql: postgres.Sql } {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => {} });
  return { sql, [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) };
}

/** One command, one answer as it came. */
function redis(url: string, command: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(`${command}\r\n`));
    socket.setTimeout(5000, () => socket.destroy(new Error(`no answer to ${command}`)));
    socket.once('error', reject);
    socket.once('data', (answer) => {
      socket.destroy();
      resolve(answer.toString());
    });
  });
}
