/** The plain endpoints, used by `curl` and by `EventSource` in a real browser. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { castVote, createPoll, manage } from '../support/api.ts';
import { launchChromium } from '../support/chromium.ts';
import { eventually } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';

const run = promisify(execFile);
const curl = async (...args: string[]): Promise<string> => (await run('curl', ['-s', ...args])).stdout;

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('curl polls, waits, and streams to the end', async () => {
  const poll = await createPoll(server.graphql);
  const url = `${server.url}/polls/${poll.id}`;
  expect(JSON.parse(await curl(`${url}/results`))).toMatchObject({ version: 1, ballotCount: 0 });
  expect(await curl('-o', '/dev/null', '-w', '%{http_code}', '-H', 'if-none-match: "v1"', `${url}/results`)).toBe(
    '304',
  );
  const waiting = curl(`${url}/results?afterVersion=1&waitMs=20000`);
  const streaming = curl('-N', `${url}/stream`);
  await eventually(
    () => server.app.connections().waiting === 1 && server.app.connections().streams === 1,
    'both are there',
  );
  await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[3]] });
  expect(JSON.parse(await waiting)).toMatchObject({ version: 2, ballotCount: 1 });
  await manage(server.graphql, 'closePoll', poll);
  const stream = await streaming;
  expect(stream).toMatch(/^retry: \d+\n:\n\nid: 1\nevent: results\ndata: \{/);
  expect(stream.match(/^id: \d+$/gm)).toEqual(['id: 1', 'id: 2', 'id: 3']);
  expect(stream).toMatch(/event: complete\ndata: \n\n$/);
});

test('L6 EventSource in Chromium watches, and after the end it stays away by itself', async () => {
  await using chromium = await launchChromium();
  const poll = await createPoll(server.graphql);
  const page = await chromium.browser.newPage();
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.goto(`${server.url}/healthz`);
  await page.evaluate((id) => {
    const seen: { version: number; isFinal: boolean }[] = [];
    // This page does not close its EventSource on `complete`.
    const source = new EventSource(`/polls/${id}/stream`);
    source.addEventListener('results', ({ data }) => seen.push(JSON.parse(data)));
    Object.assign(window, { seen, source });
  }, poll.id);
  const versions = () =>
    page.evaluate(() => (Reflect.get(window, 'seen') as { version: number }[]).map(({ version }) => version));
  await eventually(async () => (await versions()).length === 1, 'the first results');
  await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
  await eventually(async () => (await versions()).length === 2, 'the second');
  await manage(server.graphql, 'closePoll', poll);
  // It reconnects once with its last id, and the 204 ends it.
  await eventually(
    () => page.evaluate(() => (Reflect.get(window, 'source') as EventSource).readyState === EventSource.CLOSED),
    'it has given up',
  );
  expect(await versions()).toEqual([1, 2, 3]);
  expect(asked.filter((url) => url.endsWith('/stream'))).toHaveLength(2);
});
