/**
 * A WebSocket connection and the operations on it: where the bytes of a group become frames on a socket.
 *
 * Tens of thousands of them idle in a process, so what belongs to a connection is in one object (the socket of `ws`
 * itself, extended), and its operations are a list and not a map: nearly all have one.
 */
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { type CompleteMessage, type ErrorMessage, MessageType, type NextMessage } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { PollcastError } from '../../core/errors.ts';
import type { Origin } from '../../graphql/context.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import type { Credentials, Viewer } from '../../identity/viewer.ts';
import { Subscriber, type Update } from '../../live/subscriber.ts';
import type { Stop } from '../../ports/clock.ts';
import { NO_CREDENTIALS } from '../request/context.ts';
import { writeDirect } from '../socket/direct-write.ts';
import type { Peer } from '../socket/heartbeat.ts';
import { Frames } from './frames.ts';

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

/** Where a connection came from, known from its upgrade request. */
export interface Arrival {
  readonly socket: Socket;
  readonly credentials: Credentials;
  /** What it is counted by. */
  readonly address: string;
  /** What the request called itself. */
  readonly id: string | null;
}

export class WebSocketConnection extends WebSocket implements Origin, Peer {
  /** Set once, by `arrive`. */
  socket!: Socket;
  address = '';
  /** What its upgrade request brought along; not needed any more once it is known who asks. */
  credentials = NO_CREDENTIALS;
  /** Whether `connection_init` has come. */
  isInitialised = false;
  /** Who asks; null until it is known and acknowledged. */
  viewer: Viewer | null = null;
  voterToken: string | null = null;
  /** Until `connection_init` that of our patience, then of the moment in which the viewer's token expires. */
  stopTimer: Stop | null = null;
  slot = -1;
  /** Called when a subscription has left its group. */
  onLeft: ((connection: WebSocketConnection) => void) | null = null;
  /** Of the socket, when it was looked at last: whatever comes is a sign of life. */
  private bytesRead = -1;
  /** Those that run, and how many of them are subscriptions. */
  operations = 0;
  subscriptions = 0;
  /** Called once when nothing but subscriptions runs. */
  whenAnswered: Stop | null = null;
  /** The operation that was begun last; it knows the one before it. */
  private newest: WebSocketOperation | null = null;
  private id: string | null = null;

  attach({ socket, credentials, address, id }: Arrival): void {
    this.socket = socket;
    this.credentials = credentials;
    this.address = address;
    this.id = id;
  }

  get logFields(): { readonly connectionId: string } {
    this.id ??= randomUUID();
    return { connectionId: this.id };
  }

  get isAnswered(): boolean {
    return this.operations <= this.subscriptions;
  }

  get isOpen(): boolean {
    return this.readyState === this.OPEN;
  }

  isAlive(): boolean {
    const { bytesRead } = this.socket;
    if (bytesRead === this.bytesRead) return false;
    this.bytesRead = bytesRead;
    if (this.isOpen) this.ping();
    return true;
  }

  cut(): void {
    this.terminate();
  }

  /** A message of the protocol. */
  sendMessage(message: string): void {
    if (this.isOpen) this.send(message);
  }

  /** The operation that has this id; null: none that the client knows of. */
  find(id: string): WebSocketOperation | null {
    let each = this.newest;
    while (each !== null && each.id !== id) each = each.older;
    return each;
  }

  add(operation: WebSocketOperation): void {
    operation.older = this.newest;
    this.newest = operation;
  }

  remove(operation: WebSocketOperation): void {
    if (this.newest === operation) {
      this.newest = operation.older;
      return;
    }
    let each = this.newest;
    while (each !== null && each.older !== operation) each = each.older;
    if (each !== null) each.older = operation.older;
  }

  /** The client is gone, and waits for nothing any more. */
  stopAll(): void {
    while (this.newest !== null) this.newest.stop();
  }
}

/** What a client began under an id and has not heard the end of. A subscription is also the outlet that its group writes to. */
export class WebSocketOperation extends Subscriber {
  readonly id: string;
  /** The one on its connection that was begun before it. */
  older: WebSocketOperation | null = null;
  private readonly connection: WebSocketConnection;
  private readonly socket: Socket;
  private isOver = false;
  /** Takes this off its group; set once the group has taken it in. */
  private leave: Stop | null = null;

  constructor(connection: WebSocketConnection, id: string) {
    super();
    this.connection = connection;
    this.socket = connection.socket;
    this.id = id;
    connection.add(this);
  }

  /** `leave` is called once, at its end, and then the connection's `onLeft`. */
  joined(leave: Stop): void {
    this.leave = leave;
    if (this.isOver) this.goneFrom(leave);
  }

  private goneFrom(leave: Stop): void {
    leave();
    this.connection.onLeft?.(this.connection);
  }

  backlog(): number {
    return this.socket.writableLength;
  }

  send(update: Update): boolean {
    const { socket, connection } = this;
    // Its client may have left it before the group took it in.
    if (this.isOver || !connection.isOpen) return true;
    const frames = framesOf(update);
    if (writeDirect(socket, frames.frame(this.id))) return true;
    // The kernel has not taken all of it: the bytes are still needed.
    frames.keep();
    return false;
  }

  /** The answer to a query or mutation. */
  answer({ errors, ...rest }: ExecutionResult): void {
    const payload = errors === undefined ? rest : { ...rest, errors: errors.map((error) => error.toJSON()) };
    const message: NextMessage = { id: this.id, type: MessageType.Next, payload };
    if (!this.isOver) this.connection.sendMessage(JSON.stringify(message));
    this.end();
  }

  end(): void {
    const message: CompleteMessage = { id: this.id, type: MessageType.Complete };
    this.conclude(message);
  }

  /** It could not be begun, or not be gone on with. */
  refuse(errors: readonly GraphQLError[]): void {
    const payload = errors.map((error) => error.toJSON());
    const message: ErrorMessage = { id: this.id, type: MessageType.Error, payload };
    this.conclude(message);
  }

  fail(error: PollcastError): void {
    this.refuse([asGraphQLError(error)]);
  }

  cut(): void {
    this.connection.terminate();
  }

  /** The client has left it. */
  stop(): void {
    this.conclude(null);
  }

  private conclude(last: CompleteMessage | ErrorMessage | null): void {
    if (this.isOver) return;
    this.isOver = true;
    this.connection.remove(this);
    if (this.leave !== null) this.goneFrom(this.leave);
    if (last !== null) this.connection.sendMessage(JSON.stringify(last));
  }
}
