/** GraphiQL in a real Chromium, used through its tabs, editors and execute button. */
import { createServer, type IncomingMessage, request } from 'node:http';
import type { BrowserContext, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPoll, manage, results, type TestPoll } from '../support/api.ts';
import { launchChromium } from '../support/chromium.ts';
import { startServer, type TestServer } from '../support/server.ts';

const PATIENCE = { timeout: 10_000 };

let server: TestServer;
let chromium: Awaited<ReturnType<typeof launchChromium>>;
beforeAll(async () => {
  [server, chromium] = await Promise.all([startServer(), launchChromium()]);
});
afterAll(async () => {
  await chromium[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

test('GraphiQL opens with operations that create, watch and vote, and asks no foreign host for anything', async () => {
  await using visitor = await openContext();
  const page = await visitor.open();
  expect(await page.title()).toBe('Pollcast');
  expect(await page.getByRole('tab').allInnerTexts()).toEqual(['CreatePoll', 'Watch', 'Vote']);

  // Open what loads lazily: the schema documentation, the explorer, the settings.
  await page.getByRole('button', { name: 'Show Documentation Explorer' }).click();
  await page.getByText('All Schema Types').waitFor(PATIENCE);
  await page.getByRole('button', { name: 'Show GraphiQL Explorer' }).click();
  await page.getByRole('button', { name: 'Open settings dialog' }).click();
  await page.getByRole('dialog').waitFor(PATIENCE);
  expect(visitor.urls.length).toBeGreaterThan(2);
  expect(visitor.foreign()).toEqual([]);
  expect(visitor.problems).toEqual([]);
});

test('GraphiQL opens each tab at the first click, with its variables', async () => {
  await using visitor = await openContext();
  const page = await visitor.open();
  expect(await variablesIn(page)).toMatchObject({ input: { question: 'Tabs or spaces?' } });
  await tabButton(page, 'Watch').click();
  await expect.poll(() => variablesIn(page), PATIENCE).toEqual({ pollId: 'the id of your poll' });
  await tabButton(page, 'Vote').click();
  await expect
    .poll(() => variablesIn(page), PATIENCE)
    .toEqual({ input: { pollId: 'the id of your poll', choiceIds: ['the id of a choice'] } });
});

test('GraphiQL is the same after a reload, with nothing touched and in another tab', async () => {
  await using visitor = await openContext();
  const page = await visitor.open();
  await loaded(page, () => page.reload());
  expect(await page.getByRole('tab').allInnerTexts()).toEqual(['CreatePoll', 'Watch', 'Vote']);
  expect(await variablesIn(page)).toMatchObject({ input: { question: 'Tabs or spaces?' } });
  await openTab(page, 'Watch');
  // GraphiQL writes its state to the storage shortly after a change.
  const stored = () => page.evaluate(() => localStorage.getItem('graphiql:variables'));
  await expect.poll(stored, PATIENCE).toContain('pollId');
  await loaded(page, () => page.reload());
  expect(await page.getByRole('tab').allInnerTexts()).toEqual(['CreatePoll', 'Watch', 'Vote']);
  expect(await variablesIn(page)).toEqual({ pollId: 'the id of your poll' });
});

test('L1 L6 a newcomer creates, watches and votes in GraphiQL by filling in the ids', async () => {
  await using visitor = await openContext();
  const creating = await visitor.open();
  await execute(creating);
  await expect
    .poll(() => shown(creating), PATIENCE)
    .toMatchObject({
      data: { createPoll: { poll: { choices: [{ label: 'Tabs' }, { label: 'Spaces' }] } } },
    });
  const poll = pollIn(await shown(creating));
  expect(await results(server.graphql, poll.id)).toMatchObject({ version: 1, ballotCount: 0 });

  // A subscription ends when its tab loses focus, so the watcher gets its own page.
  const watching = await visitor.open('Watch');
  await fill(watching, 'Variables', JSON.stringify({ pollId: poll.id }));
  await execute(watching);
  await expect
    .poll(() => shown(watching), PATIENCE)
    .toMatchObject({
      data: { pollResults: { version: 1, ballotCount: 0, tallies: [{ votes: 0 }, { votes: 0 }] } },
    });

  const voting = await visitor.open('Vote');
  await fill(voting, 'Variables', JSON.stringify({ input: { pollId: poll.id, choiceIds: [poll.choiceIds[1]] } }));
  await execute(voting);
  await expect
    .poll(() => shown(voting), PATIENCE)
    .toEqual({ data: { castVote: { receipt: { outcome: 'RECORDED', version: 2 } } } });
  await expect
    .poll(() => shown(watching), PATIENCE)
    .toMatchObject({
      data: { pollResults: { version: 2, ballotCount: 1, tallies: [{ votes: 0 }, { label: 'Spaces', votes: 1 }] } },
    });

  await manage(server.graphql, 'closePoll', poll);
  await expect
    .poll(() => shown(watching), PATIENCE)
    .toMatchObject({
      data: { pollResults: { version: 3, isFinal: true, ballotCount: 1 } },
    });
  await watching.getByRole('button', { name: /^Execute query/ }).waitFor(PATIENCE);
  expect(visitor.foreign()).toEqual([]);
  expect(visitor.problems).toEqual([]);
});

test('L7 GraphiQL shows that a subscription to an unknown poll has failed', async () => {
  await using visitor = await openContext();
  const page = await visitor.open('Watch');
  await execute(page);
  await expect.poll(() => shown(page), PATIENCE).toMatchObject({ errors: [{ extensions: { code: 'NOT_FOUND' } }] });
});

test('V3 V4 a browser keeps its voter as an httpOnly cookie and has one ballot', async () => {
  const poll = await createPoll(server.graphql);
  await using visitor = await openContext();
  const page = await visitor.open('Vote');
  await voteInPage(page, poll, 0);
  await expect
    .poll(() => shown(page), PATIENCE)
    .toEqual({
      data: { castVote: { __typename: 'CastVoteSuccess', voterToken: null, receipt: { outcome: 'RECORDED' } } },
    });
  expect(await visitor.context.cookies()).toEqual([
    expect.objectContaining({ name: 'pollcast_voter', httpOnly: true, sameSite: 'Lax', path: '/' }),
  ]);
  expect(await page.evaluate(() => document.cookie)).toBe('');

  await voteInPage(page, poll, 0);
  await expect
    .poll(() => shown(page), PATIENCE)
    .toMatchObject({
      data: { castVote: { voterToken: null, receipt: { outcome: 'UNCHANGED' } } },
    });
  await voteInPage(page, poll, 1);
  await expect
    .poll(() => shown(page), PATIENCE)
    .toMatchObject({
      data: { castVote: { __typename: 'AlreadyVotedError' } },
    });
  expect(await results(server.graphql, poll.id)).toMatchObject({ ballotCount: 1, tallies: [{ votes: 1 }, {}, {}, {}] });
});

test('V2 a browser has one ballot also where it sends no Sec-Fetch headers: on plain http in a local network', async () => {
  const poll = await createPoll(server.graphql);
  await using network = await openNetwork();
  await using visitor = await openContext({ proxy: { server: network.proxy } });
  const page = await visitor.context.newPage();
  await page.goto(`${network.origin}/healthz`);
  const query = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename
    ... on CastVoteSuccess { voterToken receipt { outcome } } } }`;
  const vote = (choiceId: string | undefined): Promise<unknown> =>
    page.evaluate(
      async (body) => {
        const headers = { 'content-type': 'application/json' };
        return (await fetch('/graphql', { method: 'POST', headers, body })).json();
      },
      JSON.stringify({ query, variables: { input: { pollId: poll.id, choiceIds: [choiceId] } } }),
    );
  expect(await vote(poll.choiceIds[0])).toEqual({
    data: { castVote: { __typename: 'CastVoteSuccess', voterToken: null, receipt: { outcome: 'RECORDED' } } },
  });
  expect(await visitor.context.cookies()).toMatchObject([{ name: 'pollcast_voter', httpOnly: true }]);
  expect(await vote(poll.choiceIds[1])).toEqual({ data: { castVote: { __typename: 'AlreadyVotedError' } } });
  expect(network.fetchHeaders).toEqual([]);
});

interface Visitor extends AsyncDisposable {
  readonly context: BrowserContext;
  /** All requests of the pages, WebSockets included. */
  readonly urls: string[];
  /** The errors that the pages reported. */
  readonly problems: string[];
  foreign(): string[];
  /** Opens GraphiQL in a new page with this tab selected. */
  open(tab?: 'Watch' | 'Vote'): Promise<Page>;
}

/** A browser profile of its own. */
async function openContext(options: { proxy?: { server: string } } = {}): Promise<Visitor> {
  // Wide enough that no line of a response is wrapped.
  const context = await chromium.browser.newContext({ viewport: { width: 1900, height: 1000 }, ...options });
  const urls: string[] = [];
  const problems: string[] = [];
  context.on('request', (asked) => urls.push(asked.url()));
  context.on('console', (line) => {
    if (line.text().includes('Content Security Policy')) problems.push(line.text());
  });
  context.on('weberror', (problem) => problems.push(String(problem.error())));
  context.on('page', (page) => page.on('websocket', (socket) => urls.push(socket.url())));
  const { host } = new URL(server.url);
  const own = new RegExp(`^(blob:)?(http|ws)://${host}/|^data:`);
  return {
    context,
    urls,
    problems,
    foreign: () => urls.filter((url) => !own.test(url)),
    async open(tab) {
      const page = await context.newPage();
      await loaded(page, () => page.goto(server.graphql));
      if (tab !== undefined) await openTab(page, tab);
      return page;
    },
    [Symbol.asyncDispose]: () => context.close(),
  };
}

/** Loads GraphiQL and waits for its schema and its editors. */
async function loaded(page: Page, load: () => Promise<unknown>): Promise<void> {
  const introspected = page.waitForResponse((answer) => answer.request().method() === 'POST', PATIENCE);
  await load();
  await introspected;
  for (const pane of ['Operation Editor', 'Variables', 'Result Window']) await linesOf(page, pane).waitFor(PATIENCE);
}

/** Uses the keyboard: tabs of a freshly loaded page move under the mouse and lose clicks. */
async function openTab(page: Page, tab: 'Watch' | 'Vote'): Promise<void> {
  await tabButton(page, tab).press('Enter');
  await page.getByRole('tab', { name: tab, selected: true }).waitFor(PATIENCE);
  // The URL shows the operation name once GraphiQL knows it.
  await page.waitForURL((url) => url.searchParams.get('query')?.includes(` ${tab}(`) === true, PATIENCE);
}

function tabButton(page: Page, tab: 'Watch' | 'Vote'): Locator {
  return page.getByRole('tab', { name: tab }).getByRole('button', { name: tab, exact: true });
}

async function execute(page: Page): Promise<void> {
  await page.getByRole('button', { name: /^Execute query/ }).click();
}

async function voteInPage(page: Page, poll: TestPoll, choice: number): Promise<void> {
  const choiceId = poll.choiceIds[choice];
  const vote = `mutation Vote { castVote(input: { pollId: "${poll.id}", choiceIds: ["${choiceId}"] }) { __typename ... on CastVoteSuccess { voterToken receipt { outcome } } } }`;
  await fill(page, 'Operation Editor', vote);
  await execute(page);
}

/** Replaces the content of the editor by one line: with several lines it closes brackets by itself. */
async function fill(page: Page, editor: 'Operation Editor' | 'Variables', text: string): Promise<void> {
  await linesOf(page, editor).click();
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.press('Delete');
  await page.keyboard.insertText(text);
}

const shown = (page: Page): Promise<unknown> => readJson(page, 'Result Window');
const variablesIn = (page: Page): Promise<unknown> => readJson(page, 'Variables');

/** The content of the pane: parsed JSON, or the text. */
async function readJson(page: Page, pane: string): Promise<unknown> {
  const lines = await linesOf(page, pane)
    .locator('.view-line')
    .evaluateAll((elements) =>
      elements
        .map((element) => ({ top: Number.parseFloat(getComputedStyle(element).top), text: element.textContent ?? '' }))
        .sort((one, other) => one.top - other.top)
        .map(({ text }) => text.replaceAll('\u00a0', ' ')),
    );
  const text = lines.join('\n');
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function linesOf(page: Page, pane: string): Locator {
  return page.getByRole('region', { name: pane }).locator('.view-lines').first();
}

/** The poll that CreatePoll answered. */
function pollIn(response: unknown): TestPoll {
  const { data }: { data: { createPoll: Answered } } = JSON.parse(JSON.stringify(response));
  const { organizerKey, poll } = data.createPoll;
  return {
    id: poll.id,
    organizerKey,
    choiceIds: poll.choices.map(({ id }) => id),
    manage: { authorization: `Bearer ${organizerKey}` },
  };
}

interface Answered {
  readonly organizerKey: string;
  readonly poll: { readonly id: string; readonly choices: readonly { readonly id: string }[] };
}

interface Network extends AsyncDisposable {
  readonly origin: string;
  readonly proxy: string;
  /** The Sec-Fetch headers that the proxy saw. */
  readonly fetchHeaders: string[];
}

/** Serves under a name that is not loopback, through a proxy: browsers trust loopback more. */
async function openNetwork(): Promise<Network> {
  const fetchHeaders: string[] = [];
  const proxy = createServer((asked, answer) => {
    fetchHeaders.push(...Object.keys(asked.headers).filter((name) => name.startsWith('sec-fetch-')));
    const { pathname, search } = new URL(asked.url ?? '/');
    const { method = 'GET', headers } = asked;
    const forwarded = request(`${server.url}${pathname}${search}`, { method, headers }, (answered: IncomingMessage) => {
      answer.writeHead(answered.statusCode ?? 502, answered.headers);
      answered.pipe(answer);
    });
    forwarded.on('error', () => answer.destroy());
    asked.pipe(forwarded);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.');
  return {
    origin: 'http://polls.example',
    proxy: `http://127.0.0.1:${address.port}`,
    fetchHeaders,
    async [Symbol.asyncDispose]() {
      proxy.closeAllConnections();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
