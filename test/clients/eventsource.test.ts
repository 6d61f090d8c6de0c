/** EventSource as in browsers: a subscription in a GET, which resumes by itself. */
import { connect, createServer, type Socket } from 'node:net';
import { EventSource } from 'eventsource';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { castVote, createPoll, manage, operate } from '../support/api.ts';
import { eventually, Inbox, WATCH } from '../support/peers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { type Client, createVoteAndWatch, Feed, watchNothing } from './journey.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('L1 L2 L6 EventSource and fetch create, vote and watch to the final results', () => createVoteAndWatch(open));

test('L7 EventSource is told NOT_FOUND when it watches an unknown poll', () => watchNothing(open));

test('L2 L3 EventSource resumes by Last-Event-ID: nothing comes twice, nothing newer is missed', async () => {
  const poll = await createPoll(server.graphql);
  const vote = async () => {
    const { receipt } = await castVote(server.graphql, { pollId: poll.id, choiceIds: poll.choiceIds.slice(0, 1) });
    return receipt.version;
  };
  const unwatched = () => eventually(() => server.app.connections().watching === 0, 'the server noticed the cut');
  await using line = await openLine(server.url);
  await using client = clientOn(`${line.url}/graphql`);
  const feed = client.watch(poll.id);
  const { version: start } = await feed.next();

  // Nothing happens while it is disconnected: after the reconnect it gets only the next update.
  line.cut();
  await unwatched();
  line.mend();
  await eventually(() => server.app.connections().watching === 1, 'it watches again');
  expect(await line.requests.next()).not.toMatch(/last-event-id/i);
  expect(await line.requests.next()).toMatch(new RegExp(`^last-event-id: ${start}\r$`, 'im'));
  expect(await vote()).toBe(start + 1);
  expect(await feed.next()).toMatchObject({ version: start + 1, ballotCount: 1 });

  // Others vote while it is disconnected: it gets the current results once.
  line.cut();
  await unwatched();
  await vote();
  await vote();
  expect(await vote()).toBe(start + 4);
  line.mend();
  expect(await feed.next()).toMatchObject({ version: start + 4, ballotCount: 4 });
  expect(await line.requests.next()).toMatch(new RegExp(`^last-event-id: ${start + 1}\r$`, 'im'));

  // The poll closes while it is disconnected: it gets the final results and the end.
  line.cut();
  await unwatched();
  await manage(server.graphql, 'closePoll', poll);
  line.mend();
  expect(await feed.next()).toMatchObject({ version: start + 5, isFinal: true, ballotCount: 4 });
  expect(await feed.event()).toEqual({ type: 'complete' });
  expect(feed.versions).toEqual([start, start + 1, start + 4, start + 5]);
});

test('L6 an EventSource that has the final results already is told by a 204 not to come back', async () => {
  const poll = await createPoll(server.graphql);
  await manage(server.graphql, 'closePoll', poll);
  await using client = open();
  const feed = client.watch(poll.id);
  const { version } = await feed.next();
  expect(await feed.event()).toEqual({ type: 'complete' });
  // A page that does not close its EventSource on `complete` reconnects like this.
  const again = await fetch(urlOf(server.graphql, poll.id), {
    headers: { accept: 'text/event-stream', 'last-event-id': String(version) },
  });
  expect([again.status, await again.text()]).toEqual([204, '']);
});

test('leaving takes an EventSource off the server', async () => {
  const poll = await createPoll(server.graphql);
  await using client = open();
  const feed = client.watch(poll.id);
  await feed.next();
  expect(server.app.connections()).toMatchObject({ watching: 1, streams: 1 });
  feed.stop();
  await eventually(() => server.app.connections().streams === 0, 'no stream is open');
  expect(server.app.connections().watching).toBe(0);
});

function open(authorization?: string): Client {
  return clientOn(server.graphql, authorization);
}

function clientOn(graphql: string, authorization?: string): Client {
  const feeds: Feed[] = [];
  return {
    async run<Data>(query: string, variables: Record<string, unknown>) {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      const { data, errors } = await operate(graphql, query, variables, headers);
      expect(errors).toBeUndefined();
      return data as Data;
    },
    watch(pollId) {
      const feed = new Feed();
      const source = new EventSource(urlOf(graphql, pollId));
      source.addEventListener('next', ({ data }) => {
        const result: Answer = JSON.parse(data);
        if (result.errors) feed.errors(result.errors);
        else feed.results(result.data);
      });
      source.addEventListener('complete', () => {
        source.close();
        feed.complete();
      });
      feed.stop = () => source.close();
      feeds.push(feed);
      return feed;
    },
    async [Symbol.asyncDispose]() {
      for (const feed of feeds) feed.stop();
    },
  };
}

function urlOf(graphql: string, pollId: string): string {
  return `${graphql}?${new URLSearchParams({ query: WATCH, variables: JSON.stringify({ pollId }) })}`;
}

interface Answer {
  readonly data?: Parameters<Feed['results']>[0];
  readonly errors?: Parameters<Feed['errors']>[0];
}

interface Line extends AsyncDisposable {
  readonly url: string;
  /** The first bytes of each connection: its request. */
  readonly requests: Inbox<string>;
  /** Breaks all connections; new ones wait. */
  cut(): void;
  mend(): void;
}

/** A TCP relay to the server that a test can cut. */
async function openLine(url: string): Promise<Line> {
  const { hostname, port } = new URL(url);
  const requests = new Inbox<string>();
  const sockets = new Set<Socket>();
  const waiting: (() => void)[] = [];
  let isCut = false;
  const hold = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  };
  const listener = createServer((near) => {
    hold(near);
    const join = (): void => {
      const far = connect(Number(port), hostname);
      hold(far);
      near.once('data', (request) => requests.push(String(request)));
      near.on('close', () => far.destroy());
      far.on('close', () => near.destroy());
      near.pipe(far).pipe(near);
    };
    if (isCut) waiting.push(join);
    else join();
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('The line has no port.');
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend() {
      isCut = false;
      for (const join of waiting.splice(0)) join();
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
