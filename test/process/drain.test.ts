/** M5: a server that stops under load finishes the accepted votes, closes all connections and exits. */
import { get, Agent as HttpAgent, request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { makeVoterKeys } from '../../src/identity/voter-keys.ts';
import { castVote, createPoll, results } from '../support/api.ts';
import { freshDatabase } from '../support/database.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { startRelay } from '../support/relay.ts';
import { type ServerProcess, spawnServer, TEST_SECRET } from '../support/server.ts';

const CAST = `mutation ($input: CastVoteInput!) { castVote(input: $input) { __typename
  ... on CastVoteSuccess { receipt { id outcome } } ... on Error { message } } }`;

interface Receipt {
  readonly id: string;
  readonly outcome: string;
}

interface Answer {
  readonly data?: { readonly castVote: { readonly receipt?: Receipt } };
  readonly errors?: readonly unknown[];
}

/** One request on the agent's kept connections: the status, the headers and the body, or the error of the connection. */
function ask(url: string, agent: HttpAgent, body?: unknown) {
  return new Promise<{ status: number; connection: string | undefined; body: string }>((resolve, reject) => {
    const asked = request(
      url,
      {
        agent,
        method: body === undefined ? 'GET' : 'POST',
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
      },
      (response) => {
        let text = '';
        response.on('data', (data) => (text += data));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, connection: response.headers.connection, body: text }),
        );
      },
    );
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** A voter on a WebSocket who votes one after the other. */
async function socketVoter(graphql: string) {
  const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('open', resolve));
  socket.send('{"type":"connection_init"}');
  await new Promise((resolve) => socket.once('message', resolve));
  const closed = new Promise<{ code: number; at: number }>((resolve) =>
    socket.once('close', (code) => resolve({ code, at: performance.now() })),
  );
  let count = 0;
  return {
    closed,
    /** Null: the connection closed before the answer. */
    vote(input: object): Promise<Answer | null> {
      const id = String(++count);
      return new Promise((resolve) => {
        void closed.then(() => resolve(null));
        socket.on('message', function look(data) {
          const message: { id?: string; type: string; payload: Answer } = JSON.parse(String(data));
          if (message.id !== id || message.type !== 'next') return;
          socket.off('message', look);
          resolve(message.payload);
        });
        if (socket.readyState !== socket.OPEN) return resolve(null);
        socket.send(JSON.stringify({ id, type: 'subscribe', payload: { query: CAST, variables: { input } } }));
      });
    },
  };
}

/** The number of different hundredths of a second. Twenty closes over a second give up to twenty. */
const moments = (ends: readonly { readonly at: number }[]): number =>
  new Set(ends.map(({ at }) => Math.floor(at / 10))).size;

/** Of twenty closes in a second, the last is due 50 ms before the end. A busy machine is only later. */
const lastOf = (ends: readonly { readonly at: number }[]): number => Math.max(...ends.map(({ at }) => at));

const code = (server: ServerProcess, signal: NodeJS.Signals) => server.end(signal).then((end) => end.code);

describe('draining', { timeout: 120_000 }, () => {
  test('M5 V1 V3 stopped under load: no acknowledged vote is lost, each is answered or sent again with success', async () => {
    await using database = await freshDatabase();
    const env = { DATABASE_URL: database.url, SECRET: TEST_SECRET };
    await using server = await spawnServer({ ...env, DRAIN_MS: '1000' });
    await using other = await spawnServer(env);
    const graphql = `${server.url}/graphql`;
    const poll = await createPoll(graphql);
    const voters = makeVoterKeys(TEST_SECRET);
    const agent = new HttpAgent({ keepAlive: true });
    const sockets = await Promise.all(Array.from({ length: 20 }, () => socketVoter(graphql)));
    const receipts = new Map<string, string | null>();
    const refused: Answer[] = [];
    const inputOf = (voterToken: string) => ({ pollId: poll.id, choiceIds: [poll.choiceIds[0]], voterToken });
    const note = (token: string, answer: Answer | null): void => {
      const receipt = answer?.data?.castVote.receipt;
      if (receipt !== undefined) receipts.set(token, receipt.id);
      else if (answer !== null) refused.push(answer);
    };
    const newToken = (): string => {
      const { token } = voters.issue();
      receipts.set(token, null);
      return token;
    };

    const overHttp = Array.from({ length: 20 }, async () => {
      for (;;) {
        const token = newToken();
        try {
          const answer = await ask(graphql, agent, { query: CAST, variables: { input: inputOf(token) } });
          note(token, JSON.parse(answer.body));
        } catch {
          // The connections are closed and no new one is accepted.
          return;
        }
      }
    });
    const overSockets = sockets.map(async ({ vote }) => {
      for (;;) {
        const token = newToken();
        const answer = await vote(inputOf(token));
        note(token, answer);
        if (answer === null) return;
      }
    });
    await eventually(() => receipts.size > 500, 'votes flood in');
    const stopped = performance.now();
    const ended = code(server, 'SIGTERM');
    const before = [...receipts.values()].filter((id) => id !== null).length;
    await Promise.all([...overHttp, ...overSockets]);
    expect(await ended).toBe(0);
    const during = [...receipts.values()].filter((id) => id !== null).length - before;

    // Votes on open connections were still answered.
    expect(during).toBeGreaterThan(100);
    expect(refused).toEqual([]);
    // All were closed, one after the other.
    const closes = await Promise.all(sockets.map(({ closed }) => closed));
    expect(closes.map((close) => close.code)).toEqual(sockets.map(() => 1001));
    expect(moments(closes)).toBeGreaterThan(6);
    expect(lastOf(closes) - stopped).toBeGreaterThan(900);

    // No acknowledged vote is lost; the others are sent again to another instance.
    for (const [token, id] of receipts) {
      const again = await castVote(`${other.url}/graphql`, inputOf(token));
      if (id !== null) expect(again.receipt).toMatchObject({ id, outcome: 'UNCHANGED' });
      else expect(['RECORDED', 'UNCHANGED']).toContain(again.receipt.outcome);
    }
    expect((await results(`${other.url}/graphql`, poll.id)).ballotCount).toBe(receipts.size);
    agent.destroy();
  });

  test('M5 nothing new is let in, what is open is served and told to close, long polls are answered', async () => {
    await using server = await spawnServer({ DRAIN_MS: '1500' });
    const graphql = `${server.url}/graphql`;
    const poll = await createPoll(graphql);
    const kept = Array.from({ length: 4 }, () => new HttpAgent({ keepAlive: true, maxSockets: 1 }));
    for (const agent of kept) expect((await ask(`${server.url}/healthz`, agent)).connection).toBe('keep-alive');
    await using watching = await overWebSocket(graphql, { pollId: poll.id });
    await using second = await overWebSocket(graphql, { pollId: poll.id });
    await Promise.all([watching.next(), second.next()]);
    const [first, ready, voting, upgrading] = kept;
    if (!first || !ready || !voting || !upgrading) throw new Error('Four agents were made.');
    const polling = ask(`${server.url}/polls/${poll.id}/results?afterVersion=1&waitMs=30000`, first);
    await eventually(async () => {
      const text = await (await fetch(`${server.url}/metrics`)).text();
      return text.includes('pollcast_watchers{transport="long-poll"} 1');
    }, 'the long poll waits');

    const ended = code(server, 'SIGTERM');
    expect(await polling).toMatchObject({ status: 304, connection: 'close' });
    expect(await ask(`${server.url}/readyz`, ready)).toMatchObject({
      status: 503,
      connection: 'close',
      body: '{"status":"draining"}',
    });
    await expect(ask(`${server.url}/healthz`, new HttpAgent())).rejects.toThrow(/ECONNREFUSED/);
    // An upgrade on a kept connection is refused.
    const upgrade = new Promise((resolve) => {
      const headers = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
      get(graphql, { agent: upgrading, headers }, (response) => resolve(response.statusCode));
    });
    expect(await upgrade).toBe(503);
    const input = { pollId: poll.id, choiceIds: [poll.choiceIds[0]] };
    const vote = await ask(graphql, voting, { query: CAST, variables: { input } });
    expect(vote).toMatchObject({ status: 200, connection: 'close' });
    expect(vote.body).toContain('RECORDED');
    // One of the two was closed at once; the other still gets the update.
    const events = await Promise.all([watching.event(), second.event()]);
    expect(events).toContainEqual({ type: 'closed', code: 1001 });
    expect(events.filter(({ type }) => type === 'next')).toMatchObject([{ results: { ballotCount: 1 } }]);
    const rest = events[0]?.type === 'next' ? watching : second;
    expect(await rest.event()).toEqual({ type: 'closed', code: 1001 });
    expect(await ended).toBe(0);
    for (const agent of kept) agent.destroy();
  });

  test('M5 event streams end one after the other, each with a pause of its own before the client comes back', async () => {
    await using server = await spawnServer({ DRAIN_MS: '1000' });
    const poll = await createPoll(`${server.url}/graphql`);
    const open = (path: string) =>
      new Promise<{ ended: Promise<{ text: string; at: number }> }>((resolve, reject) => {
        const asked = get(`${server.url}${path}`, { agent: false, headers: { accept: 'text/event-stream' } });
        asked.on('error', reject);
        asked.on('response', (response) => {
          let text = '';
          const ended = new Promise<{ text: string; at: number }>((over, cut) => {
            response.on('end', () => over({ text, at: performance.now() }));
            response.on('error', cut);
          });
          response.on('data', (data) => {
            text += data;
            if (text.includes('"version":1')) resolve({ ended });
          });
        });
      });
    const query = encodeURIComponent(`subscription { pollResults(pollId: "${poll.id}") { version } }`);
    const streams = await Promise.all(
      Array.from({ length: 20 }, (_, n) => open(n % 2 === 0 ? `/polls/${poll.id}/stream` : `/graphql?query=${query}`)),
    );
    const stopped = performance.now();
    const ended = code(server, 'SIGTERM');
    const ends = await Promise.all(streams.map((stream) => stream.ended));
    expect(await ended).toBe(0);
    const pauses = ends.map(({ text }) => {
      // The first `retry:` came when the stream opened.
      const [, pause] = [...text.matchAll(/^retry: (\d+)$/gm)].map(([, ms]) => Number(ms));
      expect(text).not.toContain('event: complete');
      return pause ?? 0;
    });
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(500);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(1_500);
    expect(new Set(pauses).size).toBeGreaterThan(10);
    expect(moments(ends)).toBeGreaterThan(6);
    expect(lastOf(ends) - stopped).toBeGreaterThan(900);
  });

  test('M5 nothing is connected: it leaves at once, however long it may drain', async () => {
    await using server = await spawnServer({ DRAIN_MS: '600000' });
    expect(await code(server, 'SIGTERM')).toBe(0);
  });

  test('M5 the last one leaves by itself: nobody waits for the rest of the time', async () => {
    await using server = await spawnServer({ DRAIN_MS: '600000' });
    const poll = await createPoll(`${server.url}/graphql`, {});
    const peers = await Promise.all(
      [overWebSocket, overWebSocket, overEvents, overEvents].map((over) =>
        over(`${server.url}/graphql`, { pollId: poll.id }),
      ),
    );
    for (const peer of peers) await peer.next();
    const ended = code(server, 'SIGTERM');
    await eventually(() => server.output().includes('SIGTERM'), 'it has heard');
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    // The next response closes the connection that fetch keeps open.
    await fetch(`${server.url}/healthz`).catch(() => {});
    expect(await ended).toBe(0);
  });

  test('a second signal leaves at once', async () => {
    await using server = await spawnServer({ DRAIN_MS: '600000' });
    const poll = await createPoll(`${server.url}/graphql`);
    await using one = await overWebSocket(`${server.url}/graphql`, { pollId: poll.id });
    await using two = await overWebSocket(`${server.url}/graphql`, { pollId: poll.id });
    await Promise.all([one.next(), two.next()]);
    const first = server.end('SIGINT');
    await eventually(() => server.output().includes('SIGINT: finishing'), 'it has heard the first');
    expect((await server.end('SIGTERM')).code).toBe(1);
    expect((await first).code).toBe(1);
  });

  test('a database that hangs does not hold it for ever: the vote stays unanswered, and it leaves', async () => {
    await using database = await freshDatabase();
    await using relay = await startRelay(database.url);
    await using server = await spawnServer({ DATABASE_URL: relay.url, SECRET: TEST_SECRET, DRAIN_MS: '100' });
    const poll = await createPoll(`${server.url}/graphql`);
    relay.hang();
    const vote = castVote(`${server.url}/graphql`, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] }).then(
      () => 'answered',
      () => 'cut',
    );
    await eventually(async () => {
      const text = await (await fetch(`${server.url}/metrics`)).text();
      return text.includes('pollcast_ballots_waiting 1');
    }, 'the vote waits for the database');
    expect(await code(server, 'SIGTERM')).toBe(0);
    expect(await vote).toBe('cut');
    expect(server.output()).toContain('stay unanswered');
  });
});
