/**
 * An event stream: the outlet through which a group writes to one client's connection. The bytes of an update are the same
 * for all of a group, chunk framing included, so they go to the socket as they are, past the response.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { GraphQLError } from 'graphql';
import type { PollcastError } from '../../core/errors.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import { sessionExpired } from '../../identity/session.ts';
import { Subscriber, type Update } from '../../live/subscriber.ts';
import type { Stop } from '../../ports/clock.ts';
import { writeDirect } from '../socket/direct-write.ts';
import type { Peer } from '../socket/heartbeat.ts';
import { DetachableSocket } from './detached-socket.ts';
import { chunk } from './encoding.ts';
import type { EventFormat } from './formats.ts';

export const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const;

/** Of a stream that has its connection to itself. */
const OWN_HEADERS = { ...STREAM_HEADERS, connection: 'close' } as const;

const LAST_CHUNK = Buffer.from('0\r\n\r\n');

export class Stream extends Subscriber implements Peer {
  slot = -1;
  /** Null once the stream has its connection to itself. */
  private response: ServerResponse | null;
  private socket: Socket | DetachableSocket;
  readonly dialect: EventFormat;
  readonly address: string;
  /** Called at the end of the connection. */
  onClose: Stop = () => {};
  private lastBacklog = 0;
  private lastCursor = -1;
  private leave: Stop | null = null;
  private isOpen = false;
  private isOver = false;

  constructor(response: ServerResponse, socket: Socket | DetachableSocket, dialect: EventFormat, address: string) {
    super();
    this.address = address;
    this.response = response;
    this.socket = socket;
    this.dialect = dialect;
  }

  open(): void {
    const { response } = this;
    if (this.isOpen || this.isOver || response === null) return;
    this.isOpen = true;
    const guest = this.socket instanceof DetachableSocket ? this.socket : null;
    const headers = guest === null ? STREAM_HEADERS : OWN_HEADERS;
    response.writeHead(200, { ...headers, 'content-type': this.dialect.contentType });
    response.flushHeaders();
    // Unless something is still on its way through it, or it has just gone: then it stays what it is.
    if (guest !== null && guest.writableLength === 0 && !guest.destroyed) {
      response.off('close', this.onClose);
      this.response = null;
      this.socket = guest.detach();
      this.socket.on('close', this.onClose);
    }
    this.socket.setNoDelay(true);
    this.socket.setKeepAlive(true, 5_000);
    // Different pauses, so that not all clients come back in one moment.
    this.write(this.dialect.opening(1_000 + Math.floor(Math.random() * 2_000)));
  }

  joined(leave: Stop): void {
    this.leave = leave;
    // It may have ended, or the client left, before there was a way to leave.
    if (this.isOver) leave();
  }

  backlog(): number {
    return this.socket.writableLength;
  }

  send(update: Update): boolean {
    if (this.isOver) return true;
    if (!this.isOpen) this.open();
    const { socket, dialect } = this;
    if (dialect.lastUpdate !== update) {
      dialect.lastUpdate = update;
      dialect.lastBytes = dialect.frame(dialect.bytes(update));
    }
    return writeDirect(socket, dialect.lastBytes);
  }

  private write(data: Buffer): void {
    this.socket.write(this.dialect.frame(data));
  }

  end(): void {
    this.finish(this.dialect.complete);
  }

  fail(error: PollcastError): void {
    this.sendErrors([asGraphQLError(error)]);
  }

  sendErrors(errors: readonly GraphQLError[]): void {
    this.open();
    this.finish(this.dialect.failure(errors));
  }

  /** Says by `status` that it cannot be begun, unless it has been begun or ended meanwhile: an answer has one head. */
  refuse(errors: readonly GraphQLError[], status: (errors: readonly GraphQLError[]) => void): void {
    if (this.isOpen || this.isOver) {
      this.sendErrors(errors);
      return;
    }
    this.isOver = true;
    status(errors);
  }

  expire(): void {
    this.open();
    this.finish(this.dialect.expiry(asGraphQLError(sessionExpired())));
  }

  finish(last?: Buffer): void {
    if (this.isOver) return;
    this.isOver = true;
    this.leave?.();
    const { response } = this;
    if (response !== null && !this.isOpen) {
      // Nothing was sent and nothing will be: 204 tells an EventSource not to come back.
      response.writeHead(204).end();
      return;
    }
    if (last !== undefined) this.write(last);
    if (response !== null) {
      response.end();
      return;
    }
    if (this.dialect.frame === chunk) this.socket.write(LAST_CHUNK);
    this.socket.destroySoon();
  }

  /** Ends it so that the client comes back, to whoever takes it then. */
  sendAway(retryMs: number): void {
    if (this.isOver) return;
    // Also one that is still being let in: the 204 of a stream that never opened would end it for good.
    this.open();
    this.write(this.dialect.away(retryMs));
    this.finish();
    this.socket.destroySoon();
  }

  closed(): void {
    this.isOver = true;
    this.leave?.();
  }

  cut(): void {
    this.socket.destroy();
  }

  /** A comment is both heartbeat and probe: while nothing moves, the kernel finds out about a peer that is gone. */
  isAlive(): boolean {
    if (!this.isOpen) return true;
    const backlog = this.backlog();
    // A newer update goes out when all before it was taken: as much may wait of it as of that one.
    const stuck = backlog > 0 && backlog === this.lastBacklog && this.cursor === this.lastCursor;
    this.lastBacklog = backlog;
    this.lastCursor = this.cursor;
    if (backlog === 0 && !this.isOver) this.write(this.dialect.heartbeat);
    return !stuck;
  }
}
