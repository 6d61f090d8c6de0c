/** Watchers with a cursor: `await peer.next()` gives the next results, over WebSocket or SSE, on real sockets. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { WebSocket } from 'ws';
import { RESULTS, type ResultsAnswer } from './api.ts';

const PATIENCE_MS = 15_000;

interface Waiting<T> {
  readonly take: (item: T) => void;
  readonly fail: (error: Error) => void;
}

/** A queue of what arrives. `next()` waits at most `PATIENCE_MS`, or as long as its argument says. */
export class Inbox<T> {
  private readonly items: T[] = [];
  private readonly waiting: Waiting<T>[] = [];
  private broken: Error | null = null;

  push(item: T): void {
    const first = this.waiting.shift();
    if (first === undefined) this.items.push(item);
    else first.take(item);
  }

  /** Nothing more will arrive: rejects all that wait, with the reason. */
  fail(error: Error): void {
    this.broken = error;
    for (const { fail } of this.waiting.splice(0)) fail(error);
  }

  get size(): number {
    return this.items.length;
  }

  next(patienceMs = PATIENCE_MS): Promise<T> {
    const item = this.items.shift();
    if (item !== undefined) return Promise.resolve(item);
    if (this.broken !== null) return Promise.reject(this.broken);
    return new Promise((resolve, reject) => {
      const waiting: Waiting<T> = {
        take(arrived) {
          clearTimeout(timer);
          resolve(arrived);
        },
        fail(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      const late = (): void => {
        this.waiting.splice(this.waiting.indexOf(waiting), 1);
        reject(new Error(`Nothing arrived in ${patienceMs} ms.`));
      };
      const timer = patienceMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(late, patienceMs);
      this.waiting.push(waiting);
    });
  }
}

export type Event =
  | { readonly type: 'next'; readonly results: ResultsAnswer }
  | { readonly type: 'errors'; readonly errors: readonly { message: string; extensions?: { code?: string } }[] }
  | { readonly type: 'complete' }
  | { readonly type: 'closed'; readonly code: number };

export interface Peer extends AsyncDisposable {
  /** The next event of the subscription. */
  event(patienceMs?: number): Promise<Event>;
  /** The next results; throws on anything else. */
  next(): Promise<ResultsAnswer>;
  /** Reads results until `done` says so; gives all versions seen on the way. */
  until(
    done: (results: ResultsAnswer) => boolean,
  ): Promise<{ readonly last: ResultsAnswer; readonly versions: number[] }>;
  /** Stops and starts reading from the socket. */
  pause(): void;
  resume(): void;
  readonly arrived: number;
}

export interface Watch {
  readonly pollId: string;
  readonly afterVersion?: number;
  readonly everyMs?: number;
}

export const WATCH = `subscription ($pollId: ID!, $afterVersion: Int, $everyMs: Int) {
  pollResults(pollId: $pollId, afterVersion: $afterVersion, everyMs: $everyMs) { ${RESULTS} } }`;

interface Payload {
  readonly data?: { readonly pollResults: ResultsAnswer } | null;
  readonly errors?: readonly { message: string; extensions?: { code?: string } }[];
}

function eventOf(payload: Payload): Event {
  if (payload.errors !== undefined) return { type: 'errors', errors: payload.errors };
  if (payload.data == null) throw new Error('Neither data nor errors.');
  return { type: 'next', results: payload.data.pollResults };
}

function peer(inbox: Inbox<Event>, controls: Pick<Peer, 'pause' | 'resume'>, close: () => void): Peer {
  const next = async (): Promise<ResultsAnswer> => {
    const event = await inbox.next();
    if (event.type !== 'next') throw new Error(`Not results: ${JSON.stringify(event)}`);
    return event.results;
  };
  return {
    event: (patienceMs) => inbox.next(patienceMs),
    next,
    async until(done) {
      const versions: number[] = [];
      for (;;) {
        const results = await next();
        versions.push(results.version);
        if (done(results)) return { last: results, versions };
      }
    },
    ...controls,
    get arrived() {
      return inbox.size;
    },
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}

/** `who`: the credentials as headers. Over a WebSocket they go as connection parameters. */
export type Connect = (graphql: string, watch: Watch, query?: string, who?: Record<string, string>) => Promise<Peer>;

/** Speaks graphql-transport-ws itself: a client library could retry or hide errors. */
export const overWebSocket: Connect = async (graphql, watch, query = WATCH, who = {}) => {
  const inbox = new Inbox<Event>();
  const socket = new WebSocket(graphql.replace('http', 'ws'), 'graphql-transport-ws');
  socket.on('message', (data) => {
    const message: { type: string; payload: never } = JSON.parse(String(data));
    if (message.type === 'connection_ack') {
      socket.send(JSON.stringify({ id: 'w"1', type: 'subscribe', payload: { query, variables: watch } }));
    } else if (message.type === 'next') inbox.push(eventOf(message.payload));
    else if (message.type === 'error') inbox.push({ type: 'errors', errors: message.payload });
    else if (message.type === 'complete') inbox.push({ type: 'complete' });
  });
  socket.on('close', (code) => inbox.push({ type: 'closed', code }));
  socket.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  const { 'pollcast-voter': voterToken, ...params } = who;
  socket.send(JSON.stringify({ type: 'connection_init', payload: { ...params, voterToken } }));
  return peer(inbox, { pause: () => socket.pause(), resume: () => socket.resume() }, () => socket.terminate());
};

/** GraphQL over SSE (distinct connections mode) on a socket of its own. */
export const overEvents: Connect = async (graphql, watch, query = WATCH, who = {}) => {
  const inbox = new Inbox<Event>();
  const { hostname, port, pathname } = new URL(graphql);
  let socket: Socket | null = null;
  const response = request({
    hostname,
    port,
    path: pathname,
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...who },
    createConnection: () => (socket = connect({ host: hostname, port: Number(port), highWaterMark: 1024 } as never)),
  });
  response.on('response', (message) => {
    let text = '';
    message.setEncoding('utf8');
    message.on('data', (piece: string) => {
      text += piece;
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const lines = text.slice(0, end).split('\n');
        text = text.slice(end + 2);
        const kind = lines.find((line) => line.startsWith('event: '))?.slice(7);
        const data = lines.find((line) => line.startsWith('data: '))?.slice(6) ?? '';
        if (kind === 'next') inbox.push(eventOf(JSON.parse(data)));
        else if (kind === 'complete') inbox.push({ type: 'complete' });
      }
    });
    message.on('close', () => inbox.push({ type: 'closed', code: 0 }));
  });
  response.on('error', () => inbox.push({ type: 'closed', code: 0 }));
  response.end(JSON.stringify({ query, variables: watch }));
  return peer(
    inbox,
    { pause: () => void socket?.pause(), resume: () => void socket?.resume() },
    () => void socket?.destroy(),
  );
};

/** Polls `holds` on each turn of the event loop. Rejects after `PATIENCE_MS`. */
export async function eventually(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`It never came to this: ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
