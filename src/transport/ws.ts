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
import { UnavailableError } from '../core/errors.ts';
import type { Clock, Log, Stop } from '../core/ports.ts';
import type { Context, Services } from '../graphql/builder.ts';
import { type Engine, isRefusal } from '../graphql/engine.ts';
import type { Prepared, Variables } from '../graphql/prepared.ts';
import { readId } from './answer.ts';
import type { Liveness } from './liveness.ts';
import { spread } from './spread.ts';
import { Connection, Subscription } from './subscription.ts';

/** Bytes that a client may leave unread before it is not read from any more. */
const UNREAD_BYTES = 256 * 1024;
/** How long a connection that is sent away waits for the answers to what it asked. */
const ANSWER_MS = 1_000;
/** How long the other side may take to say goodbye. */
const GOODBYE_MS = 2_000;

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
  /** How many subscriptions run on them. */
  readonly watching: number;
  /** Closes all connections with `code`, spread over `spreadMs`, and cuts who does not answer. */
  close(code: number, reason: string, spreadMs: number): Promise<void>;
}

interface Extra {
  readonly connection: Connection;
  readonly credentials: Credentials;
  readonly address: string;
  context: Context | null;
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
  /** Whether each connection has its lines at `debug`. */
  readonly logRequests: boolean;
}): WebSockets {
  const { engine, services, liveness, clock, log, logRequests } = options;
  const connections = new Set<Connection>();
  let watching = 0;
  /** Set once all are being sent away: called when the last is gone. */
  let whenEmpty: (() => void) | null = null;
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
      // graphql-ws keeps the message as long as the subscription runs: it keeps the one text that all share, not its own.
      Object.assign(payload, { query: prepared.document.loc?.source.body ?? payload.query });
      const subscription = new Subscription(connection, id);
      const started = await engine.subscribe(prepared, payload.variables, context, subscription);
      if (typeof started !== 'function') return refuse(started);
      watching++;
      connection.subscriptions++;
      subscription.joined(() => {
        watching--;
        connection.subscriptions--;
        started();
      });
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
      const { connection } = extra;
      connection.operations--;
      if (connection.whenAnswered !== null && connection.isAnswered) connection.whenAnswered();
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

  function contextOf(
    { connection, credentials, address }: Extra,
    params: Record<string, unknown>,
  ): Context | Promise<Context> {
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
      origin: connection,
    });
    return viewer instanceof Promise ? viewer.then(context) : context(viewer);
  }

  function open(
    webSocket: WebSocket,
    socket: Duplex,
    from: { readonly credentials: Credentials; readonly address: string; readonly id: string | null },
  ): void {
    const { credentials, address } = from;
    const connection = new Connection(webSocket, socket, from.id);
    const opened = logRequests ? clock.now() : 0;
    if (logRequests) log.debug(connection.logFields, 'a WebSocket opened');
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
        log.error({ err: error, ...connection.logFields }, 'a WebSocket message failed');
        webSocket.close(CloseCode.InternalServerError, 'Internal error');
      });
      // Who does not read its answers may not ask for more.
      if (socket.writableLength > UNREAD_BYTES && !webSocket.isPaused) {
        webSocket.pause();
        socket.once('drain', () => webSocket.resume());
      }
    });
    webSocket.on('error', (error) => log.debug({ err: error, ...connection.logFields }, 'a WebSocket failed'));
    webSocket.on('close', (code, reason) => {
      forget();
      connection.stopTimer?.();
      connections.delete(connection);
      if (logRequests)
        log.debug({ ...connection.logFields, closeCode: code, ms: clock.now() - opened }, 'a WebSocket closed');
      if (connections.size === 0) whenEmpty?.();
      closed(code, String(reason)).catch((error: unknown) =>
        log.error({ err: error, ...connection.logFields }, 'a WebSocket did not close well'),
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
      const id = readId(request.headers['x-request-id']);
      const { address } = from;
      server.handleUpgrade(request, socket, head, (webSocket) => open(webSocket, socket, { credentials, address, id }));
    },
    get size() {
      return connections.size;
    },
    get watching() {
      return watching;
    },
    async close(code, reason, spreadMs) {
      const all = [...connections];
      const gone = all.length === 0 ? null : new Promise<void>((resolve) => (whenEmpty = resolve));
      const stop = spread(clock, all, spreadMs, (connection) => sendAway(connection, code, reason));
      await gone;
      stop();
      server.close();
    },
  };

  /** Takes no more of its messages, answers those that it has, and closes. */
  function sendAway(connection: Connection, code: number, reason: string): void {
    const { webSocket } = connection;
    let stop: Stop = () => {};
    let closing = false;
    const close = (): void => {
      if (closing) return;
      closing = true;
      stop();
      webSocket.close(code, reason);
      // Else its goodbye would not be heard.
      webSocket.resume();
      stop = clock.after(GOODBYE_MS, () => webSocket.terminate());
    };
    webSocket.once('close', () => stop());
    if (connection.isAnswered) {
      close();
      return;
    }
    webSocket.pause();
    stop = clock.after(ANSWER_MS, close);
    connection.whenAnswered = () => void setImmediate(close);
  }
}
