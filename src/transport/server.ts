/**
 * The one node:http server: lets connections in and out, and knows what is asked where: operations, WebSocket upgrades,
 * plain results, health and metrics. What an operation comes to is the business of `operations.ts`.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { cut } from '../core/text.ts';
import type { Services } from '../graphql/context.ts';
import type { Engine } from '../graphql/engine/engine.ts';
import { LIMITS } from '../limits/limits.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import { listenForConnections } from './accept.ts';
import type { EventStreams } from './events/streams.ts';
import { makeGraphqlEndpoint } from './http/graphql.ts';
import { makeResultsEndpoint } from './http/results.ts';
import type { LongPolls } from './polling/long-polls.ts';
import type { ClientAddresses } from './request/client-address.ts';
import { makeContexts } from './request/context.ts';
import { makeCors } from './request/cors.ts';
import { send, sendError, sendFault, sendJson } from './request/reply.ts';
import { closeWithSocket, makeResponseClass, type Response } from './request/response.ts';
import type { WebSockets } from './websocket/server.ts';

export interface HttpOptions {
  readonly engine: Engine;
  readonly services: Services;
  readonly streams: EventStreams;
  readonly polling: LongPolls;
  readonly webSockets: WebSockets;
  readonly addresses: ClientAddresses;
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
  const plain = makeResultsEndpoint(engine, polling, streams, clock);
  const contexts = makeContexts(services, addresses);
  const operations = makeGraphqlEndpoint({ engine, services, streams, polling, addresses, contexts, clock, log });
  const origins = makeCors(options.corsOrigins);
  const crosses = options.corsOrigins.length > 0;
  const state = { draining: false };

  const { headersMs, requestMs } = options.patience ?? LIMITS;
  const timeouts = {
    keepAliveTimeout: 72_000,
    // Who sends its request drop by drop is cut; what it then waits for may take its time.
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: Math.min(5_000, headersMs / 2),
  };
  const server = createServer({ ...timeouts, ServerResponse: makeResponseClass(state) }, (request, response) => {
    if (logRequests) note(request, response);
    else if (request.headers['x-request-id'] !== undefined) response.identify();
    if (response.socket === null) closeWithSocket(request, response);
    // The short way is free of promises up to the operation itself: at this rate each is felt.
    if ((request.headers.origin !== undefined || crosses) && isOpen(request) && origins.answer(request, response))
      return;
    if (request.method === 'POST' && request.url === '/graphql') operations.post(request, response);
    else handle(request, response).catch((error: unknown) => sendFault(response, error, engine));
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
  const listener = listenForConnections(server, headersMs, clock, (socket) => {
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
      listener.closeIdle();
      server.close();
    },
    closeAll() {
      streams.cut();
      server.closeAllConnections();
    },
  };

  function note(request: IncomingMessage, response: Response): void {
    const arrived = performance.now();
    const { method } = request;
    const fields = { requestId: response.identify(), method, path: cut(pathOf(request), 200) };
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

  async function handle(request: IncomingMessage, response: Response): Promise<void> {
    switch (pathOf(request)) {
      case '/graphql':
        return operations.handle(request, response);
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
        if (plain.handle(request, response, await contexts.of(request, response))) return;
        return sendError(response, 404, `There is nothing at ${cut(pathOf(request), 100)}.`);
    }
  }

  async function answerReady(response: Response): Promise<void> {
    if (state.draining) return sendJson(response, 503, '{"status":"draining"}');
    const { missing, degraded } = await options.ready();
    const lacking = degraded.length === 0 ? {} : { degraded };
    if (missing.length === 0) sendJson(response, 200, JSON.stringify({ status: 'ready', ...lacking }));
    else sendJson(response, 503, JSON.stringify({ status: 'not ready', missing, ...lacking }));
  }
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

function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '/';
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}
