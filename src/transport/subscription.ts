/** A WebSocket connection and the subscriptions on it: where the bytes of a group become frames on a socket. */
import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { PollcastError } from '../core/errors.ts';
import type { Stop } from '../core/ports.ts';
import type { Origin } from '../graphql/builder.ts';
import { asGraphQLError } from '../graphql/errors.ts';
import { Outlet, type Update } from '../live/mailbox.ts';
import { Frames, nextPrefix } from './frames.ts';

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
export class Connection implements Origin {
  readonly webSocket: WebSocket;
  readonly socket: Duplex;
  heard = true;
  operations = 0;
  /** Of the moment in which the viewer's token expires. */
  stopTimer: Stop | null = null;
  subscriptions = 0;
  /** Called once when nothing but subscriptions runs. */
  whenAnswered: (() => void) | null = null;
  /** What the upgrade request called itself; made when it is needed. */
  private id: string | null;

  constructor(webSocket: WebSocket, socket: Duplex, id: string | null) {
    this.webSocket = webSocket;
    this.socket = socket;
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
    return this.webSocket.readyState === this.webSocket.OPEN;
  }
}

/** One subscription: the outlet that its group writes to, and the idle iterator that graphql-ws waits on. */
export class Subscription extends Outlet implements AsyncIterableIterator<never> {
  private readonly connection: Connection;
  private readonly socket: Duplex;
  private readonly prefix: Buffer;
  private finish: ((result: IteratorReturnResult<undefined>) => void) | null = null;
  private break: ((error: unknown) => void) | null = null;
  private outcome: 'running' | 'ended' | PollcastError = 'running';
  /** Takes this off its group; set once the group has taken it in. */
  private leave: Stop | null = null;

  constructor(connection: Connection, operationId: string) {
    super();
    this.connection = connection;
    this.socket = connection.socket;
    this.prefix = nextPrefix(operationId);
  }

  joined(leave: Stop): void {
    this.leave = leave;
    if (this.outcome !== 'running') leave();
  }

  backlog(): number {
    return this.socket.writableLength;
  }

  send(update: Update): boolean {
    if (!this.connection.isOpen) return true;
    const { socket } = this;
    const frames = framesOf(update);
    socket.write(frames.frame(this.prefix));
    if (socket.writableLength === 0) return true;
    // The kernel has not taken all of it: the bytes are still needed.
    frames.keep();
    return false;
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
