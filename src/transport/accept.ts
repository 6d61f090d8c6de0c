/**
 * Where TCP connections come in. Node keeps a parser, a request and a response for each HTTP connection as long as it is
 * open: 11 KB for a watcher who only listens (`bench/README.md`). So whoever begins by asking for an event stream is let in
 * as a guest: Node's HTTP server reads the request from a stand-in for the connection, and the stand-in goes, with all that
 * was made for it, once the stream has begun. Everybody else is given to the HTTP server as ever.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Clock } from '../ports/clock.ts';

/** A header of its own, and nothing else in it: clients that would also take an event stream ask for many other things. */
const ASKS_FOR_STREAM = /\r\naccept:[ \t]*text\/event-stream[ \t]*\r\n/i;

const TOO_LATE = 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n';

/** Stands for a connection until what it asked for is known. */
export class Guest extends Duplex {
  private line: Socket | null;
  private readonly from: string | undefined;
  private readonly onLine = {
    data: (data: Buffer): void => {
      if (!this.push(data)) this.line?.pause();
    },
    end: (): void => void this.push(null),
    error: (error: Error): void => void this.destroy(error),
    close: (): void => void this.destroy(),
    timeout: (): void => void this.emit('timeout'),
  };

  constructor(line: Socket) {
    super({ allowHalfOpen: true });
    this.line = line;
    this.from = line.remoteAddress;
    const { data, end, error, close } = this.onLine;
    line.on('data', data).on('end', end).on('error', error).on('close', close);
  }

  /** The connection itself, for whoever writes to it from now on and listens to its end; all that was made for the request goes. */
  leave(): Socket {
    const { line } = this;
    if (line === null) throw new Error('A guest leaves once.');
    this.line = null;
    const { data, end, error, close, timeout } = this.onLine;
    line.off('data', data).off('end', end).off('error', error).off('close', close);
    if (line.listenerCount('timeout') > 0) line.off('timeout', timeout).setTimeout(0);
    // Nothing that still comes is of interest but its end.
    line.on('end', endLine);
    line.on('error', ignore);
    line.resume();
    this.destroy();
    return line;
  }

  get remoteAddress(): string | undefined {
    return this.from;
  }

  /** Whoever looks for signs of life looks here: an upgrade may ask for an event stream, too. */
  get bytesRead(): number {
    return this.line?.bytesRead ?? 0;
  }

  setTimeout(milliseconds: number, listener?: () => void): this {
    if (this.line?.listenerCount('timeout') === 0) this.line.on('timeout', this.onLine.timeout);
    this.line?.setTimeout(milliseconds);
    if (listener !== undefined) this.once('timeout', listener);
    return this;
  }

  setNoDelay(_on?: boolean): this {
    return this;
  }

  setKeepAlive(_on?: boolean, _afterMs?: number): this {
    return this;
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  override _read(): void {
    this.line?.resume();
  }

  override _write(data: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    const { line } = this;
    // Without a line nothing is written any more; nobody waits for it.
    if (line === null) {
      done();
      return;
    }
    // Over when the kernel has taken it: until then the bytes are needed, and count as backlog.
    let isOver = false;
    const over = (error?: Error | null): void => {
      if (isOver) return;
      isOver = true;
      done(error);
    };
    line.write(data, over);
    if (line.writableLength === 0) over();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.line === null) done();
    else this.line.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { line } = this;
    this.line = null;
    line?.on('error', ignore);
    line?.destroy();
    done(error);
  }
}

export interface Door {
  /** Cuts the connections that have not said anything yet; called once, when the server listens no more. */
  closeIdle(): void;
}

/** `admit`: whether there is a place for one more; `headersMs`: how long one may stay without a word. */
export function makeDoor(server: Server, headersMs: number, clock: Clock, admit: (line: Socket) => boolean): Door {
  const [serve, ...others] = server.listeners('connection');
  if (serve === undefined || others.length > 0) throw new Error('Node listens to its connections with one function.');
  server.removeAllListeners('connection');
  /** Those that have not said anything yet, the oldest first, and since when. */
  const waiting = new Map<Socket, number>();

  server.on('connection', (line: Socket) => {
    if (!admit(line)) {
      line.destroy();
      return;
    }
    waiting.set(line, clock.now());
    line.on('error', ignore);
    line.on('end', endLine);
    line.once('data', enter);
  });

  function enter(this: Socket, data: Buffer): void {
    waiting.delete(this);
    this.off('error', ignore);
    this.off('end', endLine);
    const isGuest = ASKS_FOR_STREAM.test(data.toString('latin1'));
    serve?.call(server, isGuest ? new Guest(this) : this);
    this.unshift(data);
  }

  // One timer for all: one each would be kept by its socket as long as that lives.
  const stop = clock.every(Math.max(100, headersMs / 4), () => {
    const latest = clock.now() - headersMs;
    for (const [line, since] of waiting) {
      if (since > latest && !line.destroyed) continue;
      waiting.delete(line);
      if (line.writable) line.write(TOO_LATE);
      line.destroySoon();
    }
  });

  return {
    closeIdle() {
      for (const line of waiting.keys()) line.destroy();
      waiting.clear();
      stop();
    },
  };
}

function endLine(this: Socket): void {
  this.destroySoon();
}

function ignore(): void {}
