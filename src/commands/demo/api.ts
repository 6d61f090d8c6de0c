/** GraphQL over HTTP on connections that stay open. */
import { setMaxListeners } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { readObject } from './count-results.ts';
import { Failure } from './failure.ts';

/** How long nothing at all may go through before a repeated operation gives up. */
const PATIENCE_MS = 10_000;
const ANSWER_MS = 10_000;
const LONGEST_PAUSE_MS = 1_000;

export interface Operation {
  readonly query: string;
  readonly variables?: Readonly<Record<string, unknown>>;
  readonly organizerKey?: string;
}

export interface Api {
  /** Sends it once and resolves with its `data`. Throws a Failure that says what is wrong. */
  ask(operation: Operation): Promise<Record<string, unknown>>;
  /**
   * `attempt` again and again while what it throws passes, until nothing went through for 10 s. Only for what is safe to
   * repeat: an answer that was lost may have been carried out.
   */
  persist<T>(attempt: () => Promise<T>): Promise<T>;
  /** Cuts all connections; what still waits fails. */
  close(): void;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** `connections` at most are open at once; operations beyond wait for one. */
export function makeApi(url: URL, connections: number): Api {
  const { Agent, request } = url.protocol === 'https:' ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const closing = new AbortController();
  // All of them may be pausing at once.
  setMaxListeners(0, closing.signal);
  const underway = new Set<http.ClientRequest>();
  let wentThroughAt = performance.now();

  async function ask({ query, variables = {}, organizerKey }: Operation): Promise<Record<string, unknown>> {
    const authorization = organizerKey === undefined ? {} : { authorization: `Bearer ${organizerKey}` };
    const answer = await post(JSON.stringify({ query, variables }), authorization).catch((error: unknown) => {
      throw new Failure(`No server answers at ${url}: ${reasonOf(error)}.`, { passes: true });
    });
    const data = readAnswer(url, answer);
    wentThroughAt = performance.now();
    return data;
  }

  async function persist<T>(attempt: () => Promise<T>): Promise<T> {
    const began = performance.now();
    for (let pause = 50; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        const passes = error instanceof Failure && error.passes && !closing.signal.aborted;
        if (!passes || performance.now() > Math.max(began, wentThroughAt) + PATIENCE_MS) throw error;
        await sleep(Math.max(pause, error.retryAfterMs), undefined, { signal: closing.signal });
      }
    }
  }

  function post(body: string, authorization: Record<string, string>): Promise<Answer> {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...authorization };
    return new Promise((resolve, reject) => {
      const sent = request(url, { method: 'POST', agent, headers, timeout: ANSWER_MS }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (piece: string) => (text += piece));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? 'no type', text }),
        );
      });
      sent.on('timeout', () => sent.destroy(new Error(`no answer within ${ANSWER_MS / 1_000} s`)));
      sent.on('error', reject);
      sent.on('close', () => underway.delete(sent));
      underway.add(sent);
      sent.end(body);
    });
  }

  return {
    ask,
    persist,
    close() {
      closing.abort();
      // The agent alone would give new connections to those that still wait for one.
      for (const sent of underway) sent.destroy();
      agent.destroy();
    },
  };
}

/** The `data` of an answer; what is wrong with it as a Failure. */
function readAnswer(url: URL, { status, type, text }: Answer): Record<string, unknown> {
  const passes = status === 429 || status >= 500;
  let answer: Record<string, unknown>;
  try {
    answer = readObject(JSON.parse(text));
  } catch {
    throw new Failure(`What answers at ${url} is not Pollcast: HTTP ${status}, ${type}.`, { passes });
  }
  if (Array.isArray(answer.errors)) {
    const { message, extensions } = readObject(answer.errors[0]);
    const isAway = typeof extensions === 'object' && JSON.stringify(extensions)?.includes('"UNAVAILABLE"') === true;
    throw new Failure(`The server at ${url} refuses: ${message}`, { passes: passes || isAway });
  }
  return readObject(answer.data);
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection broke',
  EPIPE: 'the connection broke',
  ENOTFOUND: 'there is no such host',
  EAI_AGAIN: 'its name cannot be looked up now',
  EHOSTUNREACH: 'there is no way to that host',
  ENETUNREACH: 'there is no way to that network',
  ETIMEDOUT: 'it does not respond',
};

/** In words what is wrong with a connection. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Where a name has several addresses, all of them failed, and the message is empty.
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = first instanceof Error && 'code' in first ? String(first.code) : '';
  return REASONS[code] ?? (error.message || code);
}
