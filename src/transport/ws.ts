/**
 * GraphQL over WebSocket. graphql-ws keeps the protocol (graphql-transport-ws); updates of subscriptions do not pass
 * through it: the iterator that it is given never yields, its `return()` takes the outlet off its group, and the outlet
 * writes the group's bytes straight to the socket.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { GraphQLError } from 'graphql';
import { CloseCode, handleProtocols, makeServer } from 'graphql-ws';
import { type WebSocket, WebSocketServer } from 'ws';
import { LIMITS } from '../access/limits.ts';
import { type Credentials, readViewer, type Viewer, withoutSession } from '../access/viewer.ts';
import { type PollcastError, UnavailableError } from '../core/errors.ts';
import type { Clock, Log, Stop } from '../core/ports.ts';
import type { Context, Services } from '../graphql/builder.ts';
import { type Engine, isRefusal, type Prepared, type Variables } from '../graphql/engine.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import type { Outlet, Update } from '../live/mailbox.ts';
import { Frames, nextPrefix } from './frames.ts';
import type { Liveness } from './liveness.ts';

/** Bytes that a client may leave unread before it is not read from any more. */
const UNREAD_BYTES = 256 * 1024;

/** RFC 6455's registry; clients take it for a fault that passes. */
const TRY_AGAIN_LATER = 1013;

export interface WebSockets {
  /** Takes an upgrade request over; without `cookie` who asks is not known by the browser's cookie. `address` is what it is counted by. */
  accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    from: { readonly cookie: boolean; readonly address: string },
  ): void;
  readonly size: number;
  /** Closes all connections with `code`, spread over `spreadMs`, and cuts who does not answer. */
  close(code: number, reason: string, spreadMs: number): Promise<void>;
}

interface Extra {
  readonly connection: Connection;
  readonly credentials: Credentials;
  readonly address: string;
  context: Context | null;
}

// One after the other is served the same update: the last one is at hand without a look-up.
let lastUpdate: Update | null = null;
let lastFrames = new Frames(Buffer.alloc(0));

function framesOf(update: Update): Frames {
  if (update !== lastUpdate) {
    lastUpdate = update;
    lastFrames = new Frames(update.payload);
  }
  return lastFrames;
}

/** A connection's socket, and what keeps it honest. */
class Connection {
  readonly webSocket: WebSocket;
  readonly socket: Duplex;
  heard = true;
  operations = 0;
  /** Of the moment in which the viewer's token expires. */
  stopTimer: Stop | null = null;

  constructor(webSocket: WebSocket, socket: Duplex) {
    this.webSocket = webSocket;
    this.socket = socket;
  }

  get isOpen(): boolean {
    return this.webSocket.readyState === this.webSocket.OPEN;
  }
}

/** One subscription: the outlet that its group writes to, and the idle iterator that graphql-ws waits on. */
class Subscription implements Outlet, AsyncIterableIterator<never> {
  private readonly connection: Connection;
  private readonly prefix: Buffer;
  private finish: ((result: IteratorReturnResult<undefined>) => void) | null = null;
  private break: ((error: unknown) => void) | null = null;
  private outcome: 'running' | 'ended' | PollcastError = 'running';
  /** Takes this off its group; set once the group has taken it in. */
  private leave: Stop | null = null;

  constructor(connection: Connection, operationId: string) {
    this.connection = connection;
    this.prefix = nextPrefix(operationId);
  }

  joined(leave: Stop): void {
    this.leave = leave;
    if (this.outcome !== 'running') leave();
  }

  backlog(): number {
    return this.connection.socket.writableLength;
  }

  send(update: Update): void {
    const { connection } = this;
    if (!connection.isOpen) return;
    const frames = framesOf(update);
    connection.socket.write(frames.frame(this.prefix));
    // The kernel has not taken all of it: the bytes are still needed.
    if (connection.socket.writableLength > 0) frames.keep();
  }

  end(): void {
    this.settle('ended');
  }

  fail(error: PollcastError): void {
    this.settle(error);
  }

  drop(): void {
    this.connection.webSocket.terminate();
  }

  private settle(outcome: 'ended' | PollcastError): void {
    if (this.outcome !== 'running') return;
    this.outcome = outcome;
    this.leave?.();
    if (outcome === 'ended') this.finish?.({ done: true, value: undefined });
    else this.break?.(asGraphQLError(outcome));
  }

  next(): Promise<IteratorResult<never, undefined>> {
    if (this.outcome === 'ended') return Promise.resolve({ done: true, value: undefined });
    if (this.outcome !== 'running') return Promise.reject(asGraphQLError(this.outcome));
    return new Promise((resolve, reject) => {
      this.finish = resolve;
      this.break = reject;
    });
  }

  return(): Promise<IteratorResult<never, undefined>> {
    this.settle('ended');
    return Promise.resolve({ done: true, value: undefined });
  }

  throw(): Promise<IteratorResult<never, undefined>> {
    return this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** A query or mutation on its way through graphql-ws. */
class Operation {
  readonly prepared: Prepared;
  readonly variables: Variables;
  readonly context: Context;

  constructor(prepared: Prepared, variables: Variables, context: Context) {
    this.prepared = prepared;
    this.variables = variables;
    this.context = context;
  }
}

export function makeWebSockets(options: {
  readonly engine: Engine;
  readonly services: Services;
  readonly liveness: Liveness;
  readonly clock: Clock;
  readonly log: Log;
}): WebSockets {
  const { engine, services, liveness, clock, log } = options;
  const connections = new Set<Connection>();
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: LIMITS.messageBytes,
    perMessageDeflate: false,
    handleProtocols,
  });

  const protocol = makeServer<Record<string, unknown>, Extra>({
    connectionInitWaitTimeout: LIMITS.connectionInitMs,
    onConnect({ connectionParams, extra }) {
      const context = contextOf(extra, connectionParams ?? {});
      if (!(context instanceof Promise)) {
        extra.context = context;
        return;
      }
      return context.then(
        (known) => signIn(extra, known),
        (error: unknown) => {
          if (!(error instanceof UnavailableError)) throw error;
          extra.connection.webSocket.close(TRY_AGAIN_LATER, error.message);
          return false;
        },
      );
    },
    async onSubscribe({ extra }, id, payload) {
      const { connection, context } = extra;
      if (context === null) throw new Error('graphql-ws lets nobody subscribe before connection_init.');
      if (id.length > LIMITS.operationIdLength) {
        connection.webSocket.close(CloseCode.BadRequest, 'The operation id is too long');
        return [new GraphQLError('The operation id is too long.')];
      }
      if (connection.operations >= LIMITS.operationsPerConnection) {
        return [new GraphQLError(`At most ${LIMITS.operationsPerConnection} operations at once on a connection.`)];
      }
      // Reserved before anything is waited for: a hundred at once must not all find the same room.
      connection.operations++;
      const refuse = (errors: readonly GraphQLError[]): readonly GraphQLError[] => {
        connection.operations--;
        return errors;
      };
      const prepared = engine.prepare(payload.query, payload.operationName);
      const isMutation = !isRefusal(prepared) && prepared.operation.operation === 'mutation';
      const cost = isRefusal(prepared) ? LIMITS.unusualCost : prepared.cost;
      const counted = isMutation ? null : services.rates.operation(context.address, cost);
      try {
        if (counted !== null) await counted;
      } catch (error) {
        return refuse([engine.mask(error)]);
      }
      if (isRefusal(prepared)) return refuse(prepared);
      const args = { schema: engine.schema, document: prepared.document, operationName: prepared.operationName };
      if (prepared.operation.operation !== 'subscription') {
        return { ...args, contextValue: new Operation(prepared, payload.variables, context) };
      }
      const subscription = new Subscription(connection, id);
      const started = await engine.subscribe(prepared, payload.variables, context, subscription);
      if (typeof started !== 'function') return refuse(started);
      subscription.joined(started);
      if (!connection.isOpen) void subscription.return();
      return { ...args, contextValue: subscription };
    },
    subscribe({ contextValue }) {
      if (!(contextValue instanceof Subscription)) throw new Error('A subscription was started without its outlet.');
      return contextValue;
    },
    execute({ contextValue }) {
      if (!(contextValue instanceof Operation)) throw new Error('An operation was started without its context.');
      return engine.execute(contextValue.prepared, contextValue.variables, contextValue.context);
    },
    onComplete({ extra }) {
      extra.connection.operations--;
    },
  });

  /** Whoever came with a token leaves when it expires, and comes back with a new one and the version that it has. */
  function signIn(extra: Extra, context: Context): void {
    const { connection } = extra;
    const { account } = context.viewer;
    extra.context = context;
    if (account === null || !connection.isOpen) return;
    connection.stopTimer = clock.after(account.expiresAt - clock.now(), () => {
      // What is on its way already must not be done in the name of the account.
      extra.context = { ...context, viewer: withoutSession(context.viewer) };
      connection.webSocket.close(CloseCode.Forbidden, 'Token expired');
    });
  }

  function contextOf({ credentials, address }: Extra, params: Record<string, unknown>): Context | Promise<Context> {
    const textOf = (name: string): string | undefined => {
      const value = Object.hasOwn(params, name) ? params[name] : undefined;
      return typeof value === 'string' ? value : undefined;
    };
    const authorization = textOf('authorization') ?? textOf('Authorization') ?? credentials.authorization;
    const voterToken = textOf('voterToken') ?? credentials.voterToken;
    const given = { authorization, voterToken, cookie: credentials.cookie };
    const viewer = readViewer(given, services.voters, services.accounts);
    const context = (known: Viewer): Context => ({
      services,
      viewer: known,
      address,
      keepVoterToken: null,
      voterToken: voterToken ?? null,
    });
    return viewer instanceof Promise ? viewer.then(context) : context(viewer);
  }

  function open(webSocket: WebSocket, socket: Duplex, credentials: Credentials, address: string): void {
    const connection = new Connection(webSocket, socket);
    connections.add(connection);
    const forget = liveness.add({
      look() {
        if (!connection.heard) return false;
        connection.heard = false;
        if (connection.isOpen) webSocket.ping();
        return true;
      },
      cut: () => webSocket.terminate(),
    });
    let receive: ((data: string) => Promise<void>) | null = null;
    const closed = protocol.opened(
      {
        protocol: webSocket.protocol,
        send: (data) =>
          new Promise((resolve, reject) => {
            if (!connection.isOpen) return resolve();
            webSocket.send(data, (error) => (error ? reject(error) : resolve()));
          }),
        close: (code, reason) => webSocket.close(code, reason),
        onMessage: (callback) => {
          receive = callback;
        },
      },
      { connection, credentials, address, context: null },
    );
    webSocket.on('pong', () => {
      connection.heard = true;
    });
    webSocket.on('message', (data, isBinary) => {
      connection.heard = true;
      if (isBinary) return webSocket.close(CloseCode.BadRequest, 'Text messages only');
      receive?.(String(data)).catch((error: unknown) => {
        if (!connection.isOpen) return;
        log.error({ err: error }, 'a WebSocket message failed');
        webSocket.close(CloseCode.InternalServerError, 'Internal error');
      });
      // Who does not read its answers may not ask for more.
      if (socket.writableLength > UNREAD_BYTES && !webSocket.isPaused) {
        webSocket.pause();
        socket.once('drain', () => webSocket.resume());
      }
    });
    webSocket.on('error', (error) => log.debug({ err: error }, 'a WebSocket failed'));
    webSocket.on('close', (code, reason) => {
      forget();
      connection.stopTimer?.();
      connections.delete(connection);
      closed(code, String(reason)).catch((error: unknown) =>
        log.error({ err: error }, 'a WebSocket did not close well'),
      );
    });
  }

  return {
    accept(request, socket, head, from) {
      const { authorization, cookie } = request.headers;
      const voterToken = request.headers['pollcast-voter'];
      const credentials = {
        authorization,
        cookie: from.cookie ? cookie : undefined,
        voterToken: typeof voterToken === 'string' ? voterToken : undefined,
      };
      server.handleUpgrade(request, socket, head, (webSocket) => open(webSocket, socket, credentials, from.address));
    },
    get size() {
      return connections.size;
    },
    async close(code, reason, spreadMs) {
      const all = [...connections];
      const gone = all.map(
        (connection, index) =>
          new Promise<void>((resolve) => {
            const { webSocket } = connection;
            if (webSocket.readyState === webSocket.CLOSED) return resolve();
            webSocket.once('close', () => resolve());
            setTimeout(() => webSocket.close(code, reason), (spreadMs * index) / all.length);
            setTimeout(() => webSocket.terminate(), spreadMs + 2_000).unref();
          }),
      );
      await Promise.all(gone);
      server.close();
    },
  };
}
