/** All transports behind one interface, so that one table of cases runs over each. */
import { EventSource } from 'eventsource';
import { RESULTS, type ResultsAnswer } from './api.ts';
import { Inbox, overEvents, overWebSocket } from './peers.ts';

export type Seen =
  | { readonly type: 'results'; readonly results: ResultsAnswer }
  | { readonly type: 'end' }
  | { readonly type: 'gone' };

/** A client that resumes from `afterVersion` and reconnects by itself until the end. */
export interface LiveClient extends AsyncDisposable {
  /** Rejects if the connection is lost for good, or after `patienceMs` (default 15 s). */
  next(patienceMs?: number): Promise<Seen>;
  /** How often it reconnected. */
  readonly returned: number;
}

/** Fetches until the server responds: a polling client asks again after a failure or a 503. */
async function persist(input: string, init: RequestInit, over: AbortSignal): Promise<Response> {
  while (!over.aborted) {
    // A new signal for each request: fetch releases a signal late.
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    over.addEventListener('abort', stop);
    try {
      const answer = await fetch(input, { ...init, signal: abort.signal });
      const { status, headers } = answer;
      const text = await answer.text();
      if (status < 500 && !text.includes('"code":"UNAVAILABLE"')) {
        return new Response(text === '' ? null : text, { status, headers });
      }
    } catch {
      // No server listens.
    } finally {
      over.removeEventListener('abort', stop);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('It is over.');
}

export type Open = (url: string, pollId: string, afterVersion?: number) => Promise<LiveClient>;

const streaming =
  (connect: typeof overWebSocket): Open =>
  async (url, pollId, afterVersion) => {
    const peer = await connect(`${url}/graphql`, { pollId, ...(afterVersion === undefined ? {} : { afterVersion }) });
    return {
      returned: 0,
      async next(patienceMs) {
        const event = await peer.event(patienceMs);
        if (event.type === 'next') return { type: 'results', results: event.results };
        if (event.type === 'complete') return { type: 'end' };
        if (event.type === 'errors' && event.errors[0]?.extensions?.code === 'NOT_FOUND') return { type: 'gone' };
        throw new Error(`Unexpected: ${JSON.stringify(event)}`);
      },
      [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
    };
  };

/** A plain EventSource. The version to resume from goes as `Last-Event-ID`, as a browser sends it. */
const eventSource: Open = async (url, pollId, afterVersion) => {
  const inbox = new Inbox<Seen>();
  let opened = 0;
  const source = new EventSource(`${url}/polls/${pollId}/stream`, {
    fetch: (input, init) =>
      fetch(input, {
        ...init,
        headers: { ...(afterVersion === undefined ? {} : { 'last-event-id': String(afterVersion) }), ...init.headers },
      }),
  });
  source.addEventListener('open', () => opened++);
  source.addEventListener('results', ({ data }) => inbox.push({ type: 'results', results: JSON.parse(data) }));
  source.addEventListener('complete', () => {
    source.close();
    inbox.push({ type: 'end' });
  });
  source.addEventListener('failed', () => {
    source.close();
    inbox.push({ type: 'gone' });
  });
  source.addEventListener('error', ({ code }) => {
    if (code === 404) inbox.push({ type: 'gone' });
    else if (code === 204) inbox.push({ type: 'end' });
    else if (source.readyState === source.CLOSED)
      inbox.fail(new Error(`The EventSource gave up at a status of ${code}.`));
  });
  return {
    next: (patienceMs) => inbox.next(patienceMs),
    get returned() {
      return Math.max(0, opened - 1);
    },
    [Symbol.asyncDispose]: async () => source.close(),
  };
};

/** Polls with the version that it has. The server holds the request (long) or answers at once (short). */
const polling =
  (waitMs: number): Open =>
  async (url, pollId, afterVersion) => {
    const inbox = new Inbox<Seen>();
    const abort = new AbortController();
    const loop = async (): Promise<void> => {
      let version = afterVersion;
      for (;;) {
        const long = waitMs > 0 && version !== undefined;
        const query = long ? `?afterVersion=${version}&waitMs=${waitMs}` : '';
        const headers = !long && version !== undefined ? { 'if-none-match': `"v${version}"` } : {};
        const path = `${url}/polls/${pollId}/results`;
        const response = await persist(`${path}${query}`, { headers }, abort.signal);
        if (response.status === 404) return inbox.push({ type: 'gone' });
        if (response.status === 304) {
          // Nothing newer: ask whether the results are final.
          const now: ResultsAnswer = await (await persist(path, {}, abort.signal)).json();
          if (now.isFinal && now.version === version) return inbox.push({ type: 'end' });
          await new Promise((resolve) => setTimeout(resolve, 5));
          continue;
        }
        const results: ResultsAnswer = await response.json();
        if (response.headers.get('etag') !== `"v${results.version}"`) throw new Error('The ETag is not the version.');
        version = results.version;
        inbox.push({ type: 'results', results });
        if (results.isFinal) return inbox.push({ type: 'end' });
      }
    };
    void loop().catch((error: unknown) => {
      if (!abort.signal.aborted) throw error;
    });
    return {
      next: (patienceMs) => inbox.next(patienceMs),
      returned: 0,
      [Symbol.asyncDispose]: async () => abort.abort(),
    };
  };

/** The same as a GraphQL query with `waitMs`. */
const graphqlPolling: Open = async (url, pollId, afterVersion) => {
  const inbox = new Inbox<Seen>();
  const abort = new AbortController();
  const query = `query ($pollId: ID!, $after: Int, $waitMs: Int) { pollResults(pollId: $pollId, afterVersion: $after, waitMs: $waitMs) { ${RESULTS} } }`;
  const loop = async (): Promise<void> => {
    let version = afterVersion;
    for (;;) {
      const variables = { pollId, after: version, waitMs: version === undefined ? 0 : 10_000 };
      const init = {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query, variables }),
      };
      const response = await persist(`${url}/graphql`, init, abort.signal);
      const answer: { data: { pollResults: ResultsAnswer | null }; errors?: unknown } = await response.json();
      if (answer.errors !== undefined) return inbox.fail(new Error(JSON.stringify(answer)));
      const results = answer.data.pollResults;
      if (results === null) return inbox.push({ type: 'gone' });
      if (results.version !== version) inbox.push({ type: 'results', results });
      version = results.version;
      if (results.isFinal) return inbox.push({ type: 'end' });
    }
  };
  void loop().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  return {
    next: (patienceMs) => inbox.next(patienceMs),
    returned: 0,
    [Symbol.asyncDispose]: async () => abort.abort(),
  };
};

export const TRANSPORTS: readonly (readonly [name: string, open: Open])[] = [
  ['WebSocket', streaming(overWebSocket)],
  ['GraphQL over SSE', streaming(overEvents)],
  ['EventSource', eventSource],
  ['long polling', polling(10_000)],
  ['long polling in GraphQL', graphqlPolling],
  ['short polling', polling(0)],
];
