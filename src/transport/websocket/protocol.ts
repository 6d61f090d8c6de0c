/**
 * The server's side of graphql-transport-ws (the protocol of graphql-ws, whose words, checks and close codes these are).
 *
 * graphql-ws' own `makeServer` keeps an async function with its message, closures and promises for each subscription as
 * long as it runs: 4 KB of the 12 that an idle watcher cost with it (`bench/README.md`). Here it is one object.
 * A test runs both servers side by side: a client cannot tell them apart.
 */
import { GraphQLError } from 'graphql';
import {
  CloseCode,
  type Message,
  MessageType,
  type PongMessage,
  parseMessage,
  type SubscribePayload,
} from 'graphql-ws';
import { UnavailableError } from '../../core/errors.ts';
import type { Context, Services } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { isRefusal } from '../../graphql/engine/operation.ts';
import { withoutSession } from '../../identity/session.ts';
import { readViewer, type Viewer } from '../../identity/viewer.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import { NO_CREDENTIALS } from '../request/context.ts';
import { type WebSocketConnection, WebSocketOperation } from './connection.ts';

/** RFC 6455's registry; clients take it for a fault that passes. */
const TRY_AGAIN_LATER = 1013;

const ACKNOWLEDGEMENT = JSON.stringify({ type: MessageType.ConnectionAck });

export interface WebSocketProtocol {
  /** From now on there is so much time for `connection_init`. */
  onOpen(connection: WebSocketConnection): void;
  receive(connection: WebSocketConnection, text: string): void;
  closed(connection: WebSocketConnection): void;
  /** How many subscriptions run on all connections. */
  readonly watching: number;
}

export function makeProtocol(options: {
  readonly engine: Engine;
  readonly services: Services;
  readonly clock: Clock;
  readonly log: Log;
}): WebSocketProtocol {
  const { engine, services, clock, log } = options;
  let watching = 0;

  return {
    onOpen(connection) {
      connection.onLeft = left;
      connection.stopTimer = clock.after(LIMITS.connectionInitMs, () =>
        connection.close(CloseCode.ConnectionInitialisationTimeout, 'Connection initialisation timeout'),
      );
    },

    receive(connection, text) {
      let message: Message;
      try {
        message = parseMessage(text);
      } catch {
        connection.close(CloseCode.BadRequest, 'Invalid message received');
        return;
      }
      switch (message.type) {
        case MessageType.ConnectionInit:
          initialise(connection, message.payload ?? {});
          return;
        case MessageType.Ping: {
          const { payload } = message;
          const pong: PongMessage = { type: MessageType.Pong, ...(payload ? { payload } : {}) };
          connection.sendMessage(JSON.stringify(pong));
          return;
        }
        case MessageType.Pong:
          return;
        case MessageType.Subscribe:
          subscribe(connection, message.id, message.payload);
          return;
        case MessageType.Complete:
          connection.find(message.id)?.stop();
          return;
        default:
          connection.close(CloseCode.BadRequest, `Unexpected message of type ${message.type} received`);
      }
    },

    closed(connection) {
      connection.stopTimer?.();
      connection.stopAll();
    },

    get watching() {
      return watching;
    },
  };

  function initialise(connection: WebSocketConnection, params: Record<string, unknown>): void {
    if (connection.isInitialised) {
      connection.close(CloseCode.TooManyInitialisationRequests, 'Too many initialisation requests');
      return;
    }
    connection.isInitialised = true;
    connection.stopTimer?.();
    connection.stopTimer = null;
    const textOf = (name: string): string | undefined => {
      const value = Object.hasOwn(params, name) ? params[name] : undefined;
      return typeof value === 'string' ? value : undefined;
    };
    const { credentials } = connection;
    connection.credentials = NO_CREDENTIALS;
    const authorization = textOf('authorization') ?? textOf('Authorization') ?? credentials.authorization;
    const voterToken = textOf('voterToken') ?? credentials.voterToken;
    const given = { authorization, voterToken, cookie: credentials.cookie };
    connection.voterToken = voterToken || null;
    const viewer = readViewer(given, services.voters, services.accounts);
    if (viewer instanceof Promise) viewer.then((known) => acknowledge(connection, known)).catch(failed(connection));
    else acknowledge(connection, viewer);
  }

  /** Whoever came with a token leaves when it expires, and comes back with a new one and the version that it has. */
  function acknowledge(connection: WebSocketConnection, viewer: Viewer): void {
    if (!connection.isOpen) return;
    connection.viewer = viewer;
    const { account } = viewer;
    if (account !== null) {
      connection.stopTimer = clock.after(account.expiresAt - clock.now(), () => {
        // What is on its way already must not be done in the name of the account.
        connection.viewer = withoutSession(viewer);
        connection.close(CloseCode.Forbidden, 'Token expired');
      });
    }
    connection.sendMessage(ACKNOWLEDGEMENT);
  }

  /** Made for each operation, and not kept for those who only watch. Null: it is not known yet who asks. */
  function contextOf(connection: WebSocketConnection): Context | null {
    const { viewer, address, voterToken } = connection;
    if (viewer === null) return null;
    return { services, viewer, address, voterToken, keepVoterToken: null, origin: connection };
  }

  function subscribe(connection: WebSocketConnection, id: string, payload: SubscribePayload): void {
    const context = contextOf(connection);
    if (context === null) {
      connection.close(CloseCode.Unauthorized, 'Unauthorized');
      return;
    }
    if (id.length > LIMITS.operationIdLength) {
      connection.close(CloseCode.BadRequest, 'The operation id is too long');
      return;
    }
    if (connection.find(id) !== null) {
      connection.close(CloseCode.SubscriberAlreadyExists, reasonOf(`Subscriber for ${id} already exists`));
      return;
    }
    const operation = new WebSocketOperation(connection, id);
    if (connection.operations >= LIMITS.operationsPerConnection) {
      const most = `At most ${LIMITS.operationsPerConnection} operations at once on a connection.`;
      operation.refuse([new GraphQLError(most)]);
      return;
    }
    // Counted before anything is waited for: a hundred at once must not all find the same room.
    connection.operations++;
    perform(connection, operation, payload, context)
      .then((stays) => stays || release(connection))
      .catch(failed(connection));
  }

  /** Whether it goes on, as a subscription does. */
  async function perform(
    connection: WebSocketConnection,
    operation: WebSocketOperation,
    { query, operationName, variables }: SubscribePayload,
    context: Context,
  ): Promise<boolean> {
    const prepared = engine.prepare(query, operationName);
    const { rates } = services;
    const { address } = context;
    // The connection itself has the place.
    const asked = engine.admit({
      rates,
      address,
      prepared: isRefusal(prepared) ? null : prepared,
      onPlace: null,
    });
    const admission = asked instanceof Promise ? await asked : asked;
    if (!admission.ok) {
      operation.refuse([engine.mask(admission.error)]);
      return false;
    }
    if (isRefusal(prepared)) {
      operation.refuse(prepared);
      return false;
    }
    if (prepared.operation.operation !== 'subscription') {
      const result = await engine.execute(prepared, variables, context);
      const asking = engine.admitRejected(prepared, result, { rates, address });
      const charged = asking instanceof Promise ? await asking : asking;
      if (charged.ok) operation.answer(result);
      else operation.refuse([engine.mask(charged.error)]);
      return false;
    }
    const started = await engine.subscribe(prepared, variables, context, operation);
    if (typeof started !== 'function') {
      operation.refuse(started);
      return false;
    }
    watching++;
    connection.subscriptions++;
    operation.joined(started);
    return true;
  }

  function left(connection: WebSocketConnection): void {
    watching--;
    connection.subscriptions--;
    release(connection);
  }

  function release(connection: WebSocketConnection): void {
    connection.operations--;
    if (connection.whenAnswered !== null && connection.isAnswered) connection.whenAnswered();
  }

  function failed(connection: WebSocketConnection): (error: unknown) => void {
    return (error) => {
      if (!connection.isOpen) return;
      if (error instanceof UnavailableError) {
        connection.close(TRY_AGAIN_LATER, reasonOf(error.message));
        return;
      }
      log.error({ err: error, ...connection.logFields }, 'a WebSocket message failed');
      connection.close(CloseCode.InternalServerError, 'Internal error');
    };
  }
}

/** Cuts a close reason to 123 bytes (RFC 6455, 5.5.1), between two characters. */
function reasonOf(text: string): string {
  let reason = '';
  let bytes = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > 123) break;
    reason += character;
  }
  return reason;
}
