/** node:http: the operation endpoint on its short way, Yoga for all that is unusual, pages and health. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type ExecutionResult, GraphQLError } from 'graphql';
import { createYoga, type Plugin } from 'graphql-yoga';
import { LIMITS } from '../access/limits.ts';
import { readViewer, VOTER_COOKIE, VOTER_HEADER } from '../access/viewer.ts';
import { UnavailableError } from '../core/errors.ts';
import type { Log } from '../core/ports.ts';
import type { Context, Services } from '../graphql/builder.ts';
import { type Engine, isRefusal, type Prepared, type Variables, type Wait } from '../graphql/engine.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import type { Outlet, Update } from '../live/mailbox.ts';
import { type Accepted, acceptedBy } from './accept.ts';
import { GRAPHIQL, renderPage } from './graphiql.ts';
import { makePlain } from './plain.ts';
import type { Polling } from './polling.ts';
import { send, sendError, sendJson } from './reply.ts';
import { type EventStreams, lastEventId } from './sse.ts';
import type { WebSockets } from './ws.ts';

const YEAR_S = 365 * 24 * 3600;

export interface HttpOptions {
  readonly engine: Engine;
  readonly services: Services;
  readonly streams: EventStreams;
  readonly polling: Polling;
  readonly webSockets: WebSockets;
  readonly log: Log;
  /** Resolves where the server can do its work; rejects with what is missing. */
  readonly ready: () => Promise<void>;
}

export function makeHttpServer(options: HttpOptions): Server {
  const { engine, services, streams, polling, webSockets, log } = options;
  const plain = makePlain(engine, polling, streams);
  const yoga = makeYoga(engine, log);

  const server = createServer({ keepAliveTimeout: 72_000 }, (request, response) => {
    // The short way is free of promises up to the operation itself: at this rate each is felt.
    if (request.method === 'POST' && request.url === '/graphql') operatePost(request, response);
    else handle(request, response).catch((error: unknown) => fault(response, error));
  });
  server.on('upgrade', (request, socket, head) => {
    if (pathOf(request) === '/graphql') return webSockets.accept(request, socket, head);
    // From here on nobody else listens: a reset must not take the process down.
    socket.on('error', () => {});
    socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  return server;

  function fault(response: ServerResponse, error: unknown): void {
    const { message, extensions } = engine.mask(error);
    if (response.headersSent) response.destroy();
    else sendJson(response, 500, JSON.stringify({ errors: [{ message, extensions }] }));
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (pathOf(request)) {
      case '/graphql':
        return operate(request, response);
      case '/':
        response.writeHead(302, { location: '/graphql' }).end();
        return;
      case '/healthz':
        return sendJson(response, 200, '{"status":"alive"}');
      case '/readyz':
        try {
          await options.ready();
          return sendJson(response, 200, '{"status":"ready"}');
        } catch (error) {
          log.warn({ err: error }, 'not ready');
          return sendJson(response, 503, '{"status":"not ready","missing":["database"]}');
        }
      default:
        if (plain.handle(request, response, contextOf(request, response))) return;
        return sendError(response, 404, `There is nothing at ${pathOf(request).slice(0, 100)}.`);
    }
  }

  async function operate(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === 'POST') {
      operatePost(request, response);
      return;
    }
    const accepted = acceptedBy(request.headers.accept);
    if (request.method === 'GET' && accepted.events) {
      const params = readUrl(request);
      if (params !== null && run(request, response, params, accepted, null)) return;
    }
    return handOver(request, response, null);
  }

  function operatePost(request: IncomingMessage, response: ServerResponse): void {
    const type = request.headers['content-type'] ?? '';
    // A form can be posted from any page, with our cookie and without a preflight.
    if (type !== 'application/json' && !/^application\/(json|graphql|graphql\+json)\s*(;|$)/i.test(type)) {
      request.resume();
      sendError(response, 415, 'content-type: must be application/json.');
      return;
    }
    readBody(request, response, (body) => {
      if (type === 'application/json' || type.startsWith('application/json;')) {
        const params = readParams(body);
        if (params !== null && run(request, response, params, acceptedBy(request.headers.accept), body)) return;
      }
      handOver(request, response, body).catch((error: unknown) => fault(response, error));
    });
  }

  /**
   * The short way: answers what is in order. False: it is not, and Yoga says so, in its words, whatever it is; so a
   * client cannot tell the two ways apart. Nothing was run then. `body` is null for a GET, which may not mutate.
   */
  function run(
    request: IncomingMessage,
    response: ServerResponse,
    params: Params,
    accepted: Accepted,
    body: Buffer | null,
  ): boolean {
    const prepared = engine.prepare(params.query, params.operationName);
    if (isRefusal(prepared)) {
      if (accepted.json !== null || !accepted.events) return false;
      streams.single(response, { errors: prepared });
      return true;
    }
    const { operation } = prepared.operation;
    if (operation === 'mutation' && body === null) return false;
    const context = contextOf(request, response);
    if (operation === 'subscription') {
      if (!accepted.events) return false;
      const after = lastEventId(request);
      streams.subscribe(request, response, (outlet) =>
        engine.subscribe(prepared, params.variables, context, outlet, after),
      );
      return true;
    }
    if (accepted.json === null && !accepted.events) return false;
    const wait = accepted.json === null ? null : engine.waitOf(prepared, params.variables);
    if (wait !== null && accepted.json !== null) {
      waitFor(request, response, { prepared, variables: params.variables, context, type: accepted.json, wait });
      return true;
    }
    const answer = (result: ExecutionResult): void => {
      if (accepted.json === null) streams.single(response, result);
      else if ('data' in result) send(response, 200, accepted.json, JSON.stringify(result));
      // Without data nothing was run: the variables were wrong.
      else handOver(request, response, body).catch((error: unknown) => fault(response, error));
    };
    const result = engine.execute(prepared, params.variables, context);
    if (result instanceof Promise) result.then(answer).catch((error: unknown) => fault(response, error));
    else answer(result);
    return true;
  }

  /** A long poll in GraphQL: when the time has passed, the results that are there. */
  function waitFor(
    request: IncomingMessage,
    response: ServerResponse,
    { prepared, variables, context, type, wait }: LongPoll,
  ): void {
    const start = (outlet: Outlet, afterVersion: number | null) =>
      engine.wait(prepared, variables, context, { ...wait, afterVersion }, outlet);
    const answer = ({ payload }: Update) => send(response, 200, type, payload);
    const refuse = async ([error]: readonly GraphQLError[]): Promise<void> => {
      // That there is no such poll is an answer like any other; both are said in the words of the query.
      const isGone = error?.extensions.code === 'NOT_FOUND';
      const standing = isGone ? null : { results: () => Promise.reject(error) };
      const result = await engine.execute(prepared, variables, { ...context, standing });
      send(response, 200, type, JSON.stringify(result));
    };
    const now = (): void =>
      polling.wait(request, response, {
        start,
        after: null,
        waitMs: 0,
        answer,
        nothing: () => void refuse([asGraphQLError(new UnavailableError('The server is shutting down; try again.'))]),
        refuse,
      });
    polling.wait(request, response, {
      start,
      after: wait.afterVersion,
      waitMs: wait.waitMs,
      answer,
      nothing: now,
      refuse,
    });
  }

  async function handOver(request: IncomingMessage, response: ServerResponse, body: Buffer | null): Promise<void> {
    const { Request, Headers } = yoga.fetchAPI;
    const headers = new Headers();
    for (const [name, value] of Object.entries(request.headers)) {
      if (typeof value === 'string') headers.set(name, value);
    }
    const init = { method: request.method ?? 'GET', headers, ...(body === null ? {} : { body: new Uint8Array(body) }) };
    const answer = await yoga.fetch(new Request(`http://localhost${request.url ?? '/'}`, init), {
      ...contextOf(request, response),
    });
    const text = Buffer.from(await answer.arrayBuffer());
    answer.headers.forEach((value, name) => {
      response.setHeader(name, value);
    });
    response.setHeader('content-length', text.length);
    response.writeHead(answer.status).end(request.method === 'HEAD' ? undefined : text);
  }

  function contextOf(request: IncomingMessage, response: ServerResponse): Context {
    const { authorization, cookie } = request.headers;
    const header = request.headers[VOTER_HEADER];
    const voterToken = typeof header === 'string' ? header : undefined;
    return {
      services,
      viewer: readViewer({ authorization, cookie, voterToken }, services.voters),
      voterToken: voterToken ?? null,
      keepVoterToken: isOwnPage(request) ? (token) => keepCookie(response, token) : null,
    };
  }
}

/**
 * Whether the request comes from a page of our own: only a browser keeps an httpOnly cookie, and it drops ours on a page of
 * another origin, which gets the token in the payload. `Sec-Fetch-*` is not sent over plain http in a network, `Origin` is.
 */
function isOwnPage({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const { origin, host } = headers;
  return origin !== undefined && host !== undefined && origin.replace(/^https?:\/\//, '') === host;
}

interface LongPoll {
  readonly prepared: Prepared;
  readonly variables: Variables;
  readonly context: Context;
  readonly type: string;
  readonly wait: Wait;
}

interface Params {
  readonly query: string;
  readonly operationName: string | null;
  readonly variables: Variables;
}

/** What is in order; null otherwise. */
function readParams(body: Buffer): Params | null {
  try {
    return checkParams(JSON.parse(body.toString()));
  } catch {
    return null;
  }
}

function readUrl(request: IncomingMessage): Params | null {
  const { searchParams } = new URL(request.url ?? '/', 'http://localhost');
  try {
    const variables: unknown = JSON.parse(searchParams.get('variables') || 'null');
    return checkParams({
      query: searchParams.get('query'),
      operationName: searchParams.get('operationName'),
      variables,
    });
  } catch {
    return null;
  }
}

function checkParams(value: unknown): Params | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  for (const name of Object.keys(value)) if (!PARAMETERS.has(name)) return null;
  const { query, operationName, variables, extensions }: Record<string, unknown> = { ...value };
  if (typeof query !== 'string') return null;
  if (operationName != null && typeof operationName !== 'string') return null;
  if (!isObjectOrNothing(variables) || !isObjectOrNothing(extensions)) return null;
  return { query, operationName: operationName ?? null, variables };
}

const PARAMETERS = new Set(['query', 'operationName', 'variables', 'extensions']);

function isObjectOrNothing(value: unknown): value is Variables {
  return value == null || (typeof value === 'object' && !Array.isArray(value));
}

function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '/';
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}

/** Calls `done` with the whole body, unless it is too large: then that has been said. */
function readBody(request: IncomingMessage, response: ServerResponse, done: (body: Buffer) => void): void {
  let first: Buffer | null = null;
  let pieces: Buffer[] | null = null;
  let length = 0;
  request.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > LIMITS.bodyBytes) {
      pieces = null;
      if (response.headersSent) return;
      response.setHeader('connection', 'close');
      sendError(response, 413, `The body is larger than ${LIMITS.bodyBytes} bytes.`);
    } else if (first === null) {
      first = piece;
    } else {
      pieces ??= [first];
      pieces.push(piece);
    }
  });
  request.on('end', () => {
    if (length <= LIMITS.bodyBytes) done(pieces === null ? (first ?? EMPTY) : Buffer.concat(pieces));
  });
}

const EMPTY = Buffer.alloc(0);

function keepCookie(response: ServerResponse, token: string): boolean {
  response.setHeader('set-cookie', `${VOTER_COOKIE}=${token}; Path=/; Max-Age=${YEAR_S}; HttpOnly; SameSite=Lax`);
  return true;
}

function makeYoga(engine: Engine, log: Log) {
  return createYoga<Context>({
    schema: engine.schema,
    graphqlEndpoint: '/graphql',
    landingPage: false,
    multipart: false,
    cors: false,
    parserAndValidationCache: false,
    maxRequestBodySize: false,
    maskedErrors: { maskError: (error) => engine.mask(error) },
    logging: {
      debug() {},
      info() {},
      warn: (...args) => log.warn({ args }, 'yoga'),
      // Faults are logged with their number where they are masked.
      error() {},
    },
    graphiql: GRAPHIQL,
    renderGraphiQL: renderPage,
    plugins: [onEngine(engine)],
  });
}

/** Yoga parses, validates and executes with the one engine of all transports. */
function onEngine(engine: Engine): Plugin<Context> {
  return {
    onParse({ setParseFn }) {
      setParseFn((source: string | { readonly body: string }) =>
        engine.parse(typeof source === 'string' ? source : source.body),
      );
    },
    onValidate({ setValidationFn }) {
      setValidationFn((_, document) => engine.validate(document));
    },
    onExecute({ setExecuteFn }) {
      setExecuteFn(engine.executeArgs);
    },
    onSubscribe() {
      throw new GraphQLError('A subscription needs "Accept: text/event-stream", or a WebSocket.', {
        extensions: { http: { status: 406 } },
      });
    },
  };
}
