/**
 * The HTTP server: accepts connections, routes requests and drains. Other files answer the
 * requests.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { cut } from '../core/text.ts';
import type { Services } from '../graphql/context.ts';
import type { Engine } from '../graphql/engine/engine.ts';
import { LIMITS } from '../limits/limits.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import { listenForConnections } from './accept.ts';
import type { EventStreams } from './events/streams.ts';
import { makeGraphqlEndpoint } from './http/graphql.ts';
import { type HealthOptions, makeHealthRoutes } from './http/health.ts';
import { makeResultsEndpoint } from './http/results.ts';
import type { LongPolls } from './polling/long-polls.ts';
import type { ClientAddresses } from './request/client-address.ts';
import { makeContexts } from './request/context.ts';
import { makeCors } from './request/cors.ts';
import { deferToItsTurn } from './request/order.ts';
import { sendError, sendFault } from './request/reply.ts';
import { closeWithSocket, makeResponseClass, type Response } from './request/response.ts';
import { normaliseTarget, pathOf } from './request/target.ts';
import { asksForWebSocket, makeUpgradeListener } from './upgrade.ts';
import type { WebSockets } from './websocket/server.ts';

export interface HttpOptions extends Pick<HealthOptions, 'ready' | 'metrics'> {
  readonly engine: Engine;
  readonly services: Services;
  readonly streams: EventStreams;
  readonly polling: LongPolls;
  readonly webSockets: WebSockets;
  readonly addresses: ClientAddresses;
  /** Origins besides our own whose pages may call. */
  readonly corsOrigins: readonly string[] | '*';
  /** The time in which a request must arrive; milliseconds. */
  readonly patience?: { readonly headersMs: number; readonly requestMs: number };
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the server logs each request at `debug`. */
  readonly logRequests: boolean;
}

/** Kept on the socket, because a closure for each connection would cost memory. */
const COUNTED_BY: unique symbol = Symbol('counted by');

declare module 'node:net' {
  interface Socket {
    /** The address whose connection count includes this one. */
    [COUNTED_BY]?: string;
  }
}

export interface HttpServer {
  readonly server: Server;
  /**
   * Stops listening. Open connections keep working, and each HTTP response closes its
   * connection. Resolves when the last connection is closed.
   */
  drain(): Promise<void>;
  /** Closes the connections that wait for no response. */
  closeIdle(): void;
  closeAll(): void;
}

export function makeHttpServer(options: HttpOptions): HttpServer {
  const { engine, services, streams, polling, webSockets, addresses, clock, log, logRequests } = options;
  const results = makeResultsEndpoint(engine, polling, streams, clock);
  const contexts = makeContexts(services, addresses);
  const operations = makeGraphqlEndpoint({ engine, services, streams, polling, addresses, contexts, clock, log });
  const cors = makeCors(options.corsOrigins);
  const allowsOrigins = options.corsOrigins.length > 0;
  const state = { draining: false };
  const isDraining = (): boolean => state.draining;
  const health = makeHealthRoutes({ isDraining, ready: options.ready, metrics: options.metrics });

  const { headersMs, requestMs } = options.patience ?? LIMITS;
  const nodeOptions = {
    keepAliveTimeout: 72_000,
    // Limit how long a request takes to arrive, not how long its response takes.
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: Math.min(5_000, headersMs / 2),
    // Node 24.21 and 26.12 ask this. Node 20 ignores it and hands over every upgrade.
    shouldUpgradeCallback: asksForWebSocket,
    ServerResponse: makeResponseClass(state),
  };
  const server = createServer(nodeOptions, (request, response) => {
    if (logRequests) logRequest(request, response);
    else if (request.headers['x-request-id'] !== undefined) response.identify();
    normaliseTarget(request);
    if (response.socket === null) {
      if (deferToItsTurn(request, response, () => route(request, response))) return;
      closeWithSocket(request, response);
    }
    route(request, response);
  });
  const listener = listenForConnections(server, headersMs, clock, (socket) => {
    const address = addresses.peer(socket);
    if (address === null) return true;
    if (!services.rates.openSocket(address)) return false;
    socket[COUNTED_BY] = address;
    socket.on('close', stopCounting);
    return true;
  });
  const { rates } = services;
  const { readAgain } = listener;
  server.on('upgrade', makeUpgradeListener({ webSockets, addresses, cors, rates, isDraining, readAgain }));

  function stopCounting(this: Socket): void {
    const address = this[COUNTED_BY];
    if (address !== undefined) services.rates.closeSocket(address);
  }

  return {
    server,
    drain() {
      state.draining = true;
      // The HTTP server's own close() would cut idle connections on which a vote may be arriving.
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

  function logRequest(request: IncomingMessage, response: Response): void {
    const arrived = performance.now();
    const { method } = request;
    const fields = { requestId: response.identify(), method, path: cut(pathOf(request), 200) };
    response.on('close', () => {
      // No status if the client left before the response.
      const status = response.headersSent ? response.statusCode : null;
      log.debug({ ...fields, status, ms: Math.round(performance.now() - arrived) }, 'a request');
    });
  }

  function route(request: IncomingMessage, response: Response): void {
    const { method, url = '', headers } = request;
    const mayCross = (headers.origin !== undefined || allowsOrigins) && isOpenToPages(url);
    if (mayCross && cors.answer(request, response)) return;
    // The path of a vote makes no promises before the operation itself: they cost throughput.
    if (method === 'POST' && url === '/graphql') operations.post(request, response);
    else routeOther(request, response).catch((error: unknown) => sendFault(response, error, engine));
  }

  async function routeOther(request: IncomingMessage, response: Response): Promise<void> {
    const path = pathOf(request);
    if (path === '/graphql') return operations.handle(request, response);
    if (await health(request, response)) return;
    if (results.handle(request, response, await contexts.of(request, response))) return;
    sendError(response, 404, `There is nothing at ${cut(path, 100)}.`);
  }
}

/** Whether pages of other origins may call this URL. */
function isOpenToPages(url: string): boolean {
  return url.startsWith('/graphql') || url.startsWith('/polls/');
}
