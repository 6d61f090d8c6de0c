/** node:http: the operation endpoint on its short way, Yoga for all that is unusual, pages and health. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { LIMITS } from '../access/limits.ts';
import { readViewer, type Viewer, VOTER_COOKIE, VOTER_HEADER, withinSession } from '../access/viewer.ts';
import { HTTP_STATUS, PollcastError, UnavailableError } from '../core/errors.ts';
import type { Clock, Log } from '../core/ports.ts';
import type { Context, Services } from '../graphql/builder.ts';
import { type Engine, isRefusal, type Wait } from '../graphql/engine.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import type { Prepared, Variables } from '../graphql/prepared.ts';
import type { Outlet, Update } from '../live/mailbox.ts';
import { type Accepted, acceptedBy } from './accept.ts';
import type { Addresses } from './address.ts';
import { makeAnswers, tellOfEnd } from './answer.ts';
import { makeDoor } from './door.ts';
import { pageHeaders } from './graphiql.ts';
import { isOwn, makeOrigins } from './origins.ts';
import { type Params, readBody, readParams, readUrl } from './params.ts';
import { makePlain } from './plain.ts';
import type { Polling } from './polling.ts';
import { send, sendError, sendErrors, sendJson } from './reply.ts';
import type { EventStreams } from './sse.ts';
import type { WebSockets } from './ws.ts';
import { makeYoga } from './yoga.ts';

const YEAR_S = 365 * 24 * 3600;

export interface HttpOptions {
  readonly engine: Engine;
  readonly services: Services;
  readonly streams: EventStreams;
  readonly polling: Polling;
  readonly webSockets: WebSockets;
  readonly addresses: Addresses;
  /** Origins besides our own whose pages may call. */
  readonly corsOrigins: readonly string[] | '*';
  /** How long a request may take to arrive; milliseconds. */
  readonly patience?: { readonly headersMs: number; readonly requestMs: number };
  readonly clock: Clock;
  readonly log: Log;
  /** Whether each request has its line at `debug`. */
  readonly logRequests: boolean;
  /** What the server lacks for its work. Resolves within seconds. */
  readonly ready: () => Promise<{ readonly missing: readonly string[]; readonly degraded: readonly string[] }>;
  /** The page of the metrics, and its media type. */
  readonly metrics: () => Promise<{ readonly type: string; readonly text: string }>;
}

/** On a socket itself: a function of its own for each would be kept as long as it is open. */
const COUNTED_BY: unique symbol = Symbol('counted by');

declare module 'node:net' {
  interface Socket {
    /** The address that this connection takes a place of. */
    [COUNTED_BY]?: string;
  }
}

export interface HttpServer {
  readonly server: Server;
  /**
   * Listens no more, and says with each answer that its connection closes; what is asked on those that are open is still
   * answered. Resolves when the last connection is closed.
   */
  drain(): Promise<void>;
  /** Cuts the connections on which nothing is asked. */
  closeIdle(): void;
  closeAll(): void;
}

export function makeHttpServer(options: HttpOptions): HttpServer {
  const { engine, services, streams, polling, webSockets, addresses, clock, log, logRequests } = options;
  const plain = makePlain(engine, polling, streams, clock);
  const yoga = makeYoga(engine, log);
  const origins = makeOrigins(options.corsOrigins);
  const crosses = options.corsOrigins.length > 0;
  const state = { draining: false };
  const Answer = makeAnswers(state);

  const { headersMs, requestMs } = options.patience ?? LIMITS;
  const timeouts = {
    keepAliveTimeout: 72_000,
    // Who sends its request drop by drop is cut; what it then waits for may take its time.
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: Math.min(5_000, headersMs / 2),
  };
  const server = createServer({ ...timeouts, ServerResponse: Answer }, (request, response) => {
    if (logRequests) note(request, response);
    else if (request.headers['x-request-id'] !== undefined) response.identify();
    if (response.socket === null) tellOfEnd(request, response);
    // The short way is free of promises up to the operation itself: at this rate each is felt.
    if ((request.headers.origin !== undefined || crosses) && isOpen(request) && origins.answer(request, response))
      return;
    if (request.method === 'POST' && request.url === '/graphql') operatePost(request, response);
    else handle(request, response).catch((error: unknown) => fault(response, error));
  });
  server.on('upgrade', (request, socket, head) => {
    if (pathOf(request) !== '/graphql') return turnAway(socket, '404 Not Found');
    if (state.draining) return turnAway(socket, '503 Service Unavailable');
    const asking = origins.asking(request);
    // A browser asks nobody before it opens a WebSocket: this is the only place where a foreign page is stopped.
    if (asking === 'foreign') return turnAway(socket, '403 Forbidden');
    const address = addresses.of(request);
    try {
      services.rates.connect(address);
    } catch {
      return turnAway(socket, '429 Too Many Requests');
    }
    webSockets.accept(request, socket, head, { cookie: asking !== 'any', address });
  });
  const door = makeDoor(server, headersMs, clock, (socket) => {
    const address = addresses.peer(socket);
    if (address === null) return true;
    if (!services.rates.openSocket(address)) return false;
    socket[COUNTED_BY] = address;
    socket.on('close', leavePlace);
    return true;
  });

  function leavePlace(this: Socket): void {
    const address = this[COUNTED_BY];
    if (address !== undefined) services.rates.closeSocket(address);
  }

  return {
    server,
    drain() {
      state.draining = true;
      // Not the HTTP server's own close: that cuts idle connections at once, on which a vote may be coming in just now.
      return new Promise((resolve) => NetServer.prototype.close.call(server, () => resolve()));
    },
    closeIdle() {
      door.closeIdle();
      server.close();
    },
    closeAll() {
      streams.cut();
      server.closeAllConnections();
    },
  };

  function note(request: IncomingMessage, response: InstanceType<typeof Answer>): void {
    const arrived = performance.now();
    const { method } = request;
    const fields = { requestId: response.identify(), method, path: pathOf(request).slice(0, 200) };
    response.on('close', () => {
      // A client that left before the answer has no status.
      const status = response.headersSent ? response.statusCode : null;
      log.debug({ ...fields, status, ms: Math.round(performance.now() - arrived) }, 'a request');
    });
  }

  /** Where pages of other origins may ask. */
  function isOpen({ url = '' }: IncomingMessage): boolean {
    return url.startsWith('/graphql') || url.startsWith('/polls/');
  }

  function fault(response: ServerResponse, error: unknown): void {
    const { message, extensions } = engine.mask(error, response instanceof Answer ? response : null);
    const status = error instanceof PollcastError ? HTTP_STATUS[error.code] : 500;
    if (response.headersSent) response.destroy();
    else sendErrors(response, status, [{ message, extensions }]);
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
        return answerReady(response);
      case '/metrics': {
        const { type, text } = await options.metrics();
        return send(response, 200, type, text);
      }
      default:
        if (plain.handle(request, response, await contextOf(request, response))) return;
        return sendError(response, 404, `There is nothing at ${pathOf(request).slice(0, 100)}.`);
    }
  }

  async function answerReady(response: ServerResponse): Promise<void> {
    if (state.draining) return sendJson(response, 503, '{"status":"draining"}');
    const { missing, degraded } = await options.ready();
    const lacking = degraded.length === 0 ? {} : { degraded };
    if (missing.length === 0) sendJson(response, 200, JSON.stringify({ status: 'ready', ...lacking }));
    else sendJson(response, 503, JSON.stringify({ status: 'not ready', missing, ...lacking }));
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
    const given = request.headers['content-type'] ?? '';
    // A media type is the same in any case; Yoga knows it in small letters alone.
    const type = given === 'application/json' ? given : given.toLowerCase();
    if (type !== given) request.headers['content-type'] = type;
    // A form can be posted from any page, with our cookie and without a preflight.
    if (type !== 'application/json' && !/^application\/(json|graphql|graphql\+json)\s*(;|$)/.test(type)) {
      request.resume();
      sendError(response, 415, 'content-type: must be application/json.');
      return;
    }
    readBody(request, response, (body) => {
      try {
        take(body);
      } catch (error) {
        // Nobody else catches what is thrown in the event of a stream: it would end the process.
        fault(response, error);
      }
    });

    function take(body: Buffer): void {
      if (type === 'application/json' || type.startsWith('application/json;')) {
        const params = readParams(body);
        if (params !== null && run(request, response, params, acceptedBy(request.headers.accept), body)) return;
      }
      handOver(request, response, body).catch((error: unknown) => fault(response, error));
    }
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
      const counted = services.rates.operation(addresses.of(request), LIMITS.unusualCost);
      const say = (): void => streams.single(response, { errors: prepared });
      if (counted === null) say();
      else counted.then(say).catch((error: unknown) => fault(response, error));
      return true;
    }
    const { operation } = prepared.operation;
    if (operation === 'mutation' && body === null) return false;
    if (operation === 'subscription' && !accepted.events) return false;
    const context = contextOf(request, response);
    // A vote is counted where it is cast.
    const counted = operation === 'mutation' ? null : services.rates.operation(addresses.of(request), prepared.cost);
    if (counted === null && !(context instanceof Promise)) {
      return runAs(context, prepared, request, response, params, accepted, body);
    }
    const go = ([known]: [Context, unknown]): void | Promise<void> => {
      if (response.destroyed || runAs(known, prepared, request, response, params, accepted, body)) return;
      return handOver(request, response, body);
    };
    Promise.all([context, counted])
      .then(go)
      .catch((error: unknown) => fault(response, error));
    return true;
  }

  /** The same, once it is known who asks. */
  function runAs(
    context: Context,
    prepared: Prepared,
    request: IncomingMessage,
    response: ServerResponse,
    params: Params,
    accepted: Accepted,
    body: Buffer | null,
  ): boolean {
    if (prepared.operation.operation === 'subscription') {
      const start = (outlet: Outlet, after: number | null) =>
        engine.subscribe(prepared, params.variables, context, outlet, after ?? undefined);
      try {
        streams.subscribe(request, response, {
          start,
          address: context.address,
          expiresAt: context.viewer.account?.expiresAt ?? null,
        });
      } catch (error) {
        fault(response, error);
      }
      return true;
    }
    if (prepared.waits && !holdPlace(response, context.address)) return true;
    if (accepted.json === null && !accepted.events) return false;
    const refused = engine.refusal(prepared.operation, context) !== null;
    const wait = accepted.json === null || refused ? null : engine.waitOf(prepared, params.variables);
    if (wait !== null && accepted.json !== null) {
      waitFor(request, response, { prepared, variables: params.variables, context, type: accepted.json, wait });
      return true;
    }
    const answer = (result: ExecutionResult): void => {
      if (accepted.json === null) streams.single(response, result);
      else if ('data' in result) send(response, 200, accepted.json, JSON.stringify(result));
      // Without data nothing was run: the variables were wrong, or the viewer's token.
      else handOver(request, response, body).catch((error: unknown) => fault(response, error));
    };
    const result = engine.execute(prepared, params.variables, context);
    if (result instanceof Promise) result.then(answer).catch((error: unknown) => fault(response, error));
    else answer(result);
    return true;
  }

  /** Until it is answered, or left; false: its address has no place left, and that has been said. */
  function holdPlace(response: ServerResponse, address: string): boolean {
    try {
      services.rates.connect(address);
      response.on('close', () => services.rates.disconnect(address));
      return true;
    } catch (error) {
      fault(response, error);
      return false;
    }
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
      const standing = isGone ? null : error;
      const result = await engine.execute(
        prepared,
        variables,
        standing === undefined ? context : { ...context, standing },
      );
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
      waitMs: withinSession(wait.waitMs, context.viewer, clock),
      answer,
      nothing: now,
      refuse,
    });
  }

  async function handOver(request: IncomingMessage, response: ServerResponse, body: Buffer | null): Promise<void> {
    const address = addresses.of(request);
    await services.rates.operation(address, LIMITS.unusualCost);
    // What it asks may wait too.
    if (response.destroyed || !holdPlace(response, address)) return;
    const { Request, Headers } = yoga.fetchAPI;
    const headers = new Headers();
    for (const [name, value] of Object.entries(request.headers)) {
      if (typeof value === 'string') headers.set(name, value);
    }
    const init = { method: request.method ?? 'GET', headers, ...(body === null ? {} : { body: new Uint8Array(body) }) };
    const answer = await yoga.fetch(new Request(`http://localhost${request.url ?? '/'}`, init), {
      ...(await contextOf(request, response)),
    });
    const text = Buffer.from(await answer.arrayBuffer());
    if (answer.headers.get('content-type')?.startsWith('text/html')) {
      for (const [name, value] of Object.entries(pageHeaders())) response.setHeader(name, value);
    }
    answer.headers.forEach((value, name) => {
      response.setHeader(name, value);
    });
    response.setHeader('content-length', text.length);
    response.writeHead(answer.status).end(request.method === 'HEAD' ? undefined : text);
  }

  function contextOf(request: IncomingMessage, response: ServerResponse): Context | Promise<Context> {
    const { authorization, cookie } = request.headers;
    const header = request.headers[VOTER_HEADER];
    const voterToken = typeof header === 'string' ? header : undefined;
    const context = (viewer: Viewer): Context => ({
      services,
      viewer,
      address: addresses.of(request),
      voterToken: voterToken ?? null,
      origin: response instanceof Answer ? response : null,
      keepVoterToken: isOwnPage(request) ? (token) => keepCookie(response, token, addresses.isSecure(request)) : null,
    });
    const viewer = readViewer({ authorization, cookie, voterToken }, services.voters, services.accounts);
    return viewer instanceof Promise ? viewer.then(context) : context(viewer);
  }
}

/**
 * Whether the request comes from a page of our own: only a browser keeps an httpOnly cookie, and it drops ours on a page of
 * another origin, which gets the token in the payload. `Sec-Fetch-*` is not sent over plain http in a network, `Origin` is.
 */
function isOwnPage({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  return headers.origin !== undefined && isOwn(headers.origin, headers.host);
}

/**
 * From here on nobody else listens to the socket: a reset must not take the process down, and a client that keeps its side
 * open must not keep ours.
 */
function turnAway(socket: Duplex, status: string): void {
  socket.on('error', () => {});
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

interface LongPoll {
  readonly prepared: Prepared;
  readonly variables: Variables;
  readonly context: Context;
  readonly type: string;
  readonly wait: Wait;
}

function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '/';
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}

function keepCookie(response: ServerResponse, token: string, secure: boolean): boolean {
  const attributes = `Path=/; Max-Age=${YEAR_S}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
  response.setHeader('set-cookie', `${VOTER_COOKIE}=${token}; ${attributes}`);
  return true;
}
