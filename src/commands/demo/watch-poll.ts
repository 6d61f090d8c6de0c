/** The live results of a poll over a graphql-ws subscription. */
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { reasonOf } from './api.ts';
import { RESULTS, type Results, readObject, readResults } from './count-results.ts';
import { Failure } from './failure.ts';

const RECONNECTS = 40;
const RECONNECT_MS = 250;

export interface Watch {
  /** Resolves when the first results are here; rejects where none can come. So does `final`. */
  readonly first: Promise<void>;
  readonly final: Promise<Results>;
  /** Rejects where no results can come any more before the final ones; else stays as it is. */
  readonly broken: Promise<never>;
  stop(): void;
}

/** Calls `onResults` with each results that arrive. A lost connection is made again for 10 s, one never made is not. */
export function watch(graphql: URL, pollId: string, onResults: (results: Results) => void): Watch {
  const url = new URL(graphql);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  let wasConnected = false;
  let socket: unknown;
  const client = createClient({
    url: url.href,
    webSocketImpl: WebSocket,
    retryAttempts: RECONNECTS,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, RECONNECT_MS)),
    shouldRetry: () => wasConnected,
    on: {
      opened: (opened) => (socket = opened),
      connected: () => (wasConnected = true),
    },
  });

  let begin = (): void => {};
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const final = new Promise<Results>((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(error instanceof Failure ? error : new Failure(`The subscription at ${url} broke: ${wordsFor(error)}.`));
    client.subscribe<Record<string, unknown>>(
      {
        query: `subscription ($pollId: ID!) { pollResults(pollId: $pollId) { ${RESULTS} } }`,
        variables: { pollId },
      },
      {
        next({ data, errors }) {
          try {
            if (errors !== undefined) throw errors;
            const results = readResults(readObject(data).pollResults);
            onResults(results);
            begin();
            if (results.isFinal) resolve(results);
          } catch (error) {
            fail(error);
          }
        },
        error: fail,
        complete: () => fail('it ended before the final results'),
      },
    );
  });
  const broken = final.then(() => new Promise<never>(() => {}));
  const first = Promise.race([begun, broken]);
  // Whoever waits for one of them sees it; the others are no unhandled rejections.
  for (const promise of [first, final, broken]) promise.catch(() => {});
  return {
    first,
    final,
    broken,
    stop() {
      // Rejects where it was connecting again.
      Promise.resolve(client.dispose()).catch(() => {});
      // The closing handshake with a server that hangs takes half a minute.
      if (socket instanceof WebSocket) socket.terminate();
    },
  };
}

/** graphql-ws gives errors of GraphQL, of the connection (an event), or the event of its close. */
function wordsFor(error: unknown): string {
  if (Array.isArray(error)) return wordsFor(error[0]);
  if (typeof error !== 'object' || error === null) return String(error);
  if ('error' in error && error.error instanceof Error) return reasonOf(error.error);
  if ('message' in error && error.message !== '') return String(error.message);
  if ('code' in error) return `closed with ${error.code}`;
  return String(error);
}
