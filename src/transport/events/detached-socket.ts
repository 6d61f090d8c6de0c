/** The temporary stream through which Node's HTTP server reads a request for an event stream. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Stands for a connection until what it asked for is known. */
export class DetachableSocket extends Duplex {
  private socket: Socket | null;
  private readonly from: string | undefined;
  private readonly onSocket = {
    data: (data: Buffer): void => {
      if (!this.push(data)) this.socket?.pause();
    },
    end: (): void => void this.push(null),
    error: (error: Error): void => void this.destroy(error),
    close: (): void => void this.destroy(),
    timeout: (): void => void this.emit('timeout'),
  };

  constructor(line: Socket) {
    super({ allowHalfOpen: true });
    this.socket = line;
    this.from = line.remoteAddress;
    const { data, end, error, close } = this.onSocket;
    line.on('data', data).on('end', end).on('error', error).on('close', close);
  }

  /** The connection itself, for whoever writes to it from now on and listens to its end; all that was made for the request goes. */
  detach(): Socket {
    const { socket } = this;
    if (socket === null) throw new Error('A guest leaves once.');
    this.socket = null;
    const { data, end, error, close, timeout } = this.onSocket;
    socket.off('data', data).off('end', end).off('error', error).off('close', close);
    if (socket.listenerCount('timeout') > 0) socket.off('timeout', timeout).setTimeout(0);
    // Nothing that still comes is of interest but its end.
    socket.on('end', endLine);
    socket.on('error', ignore);
    socket.resume();
    this.destroy();
    return socket;
  }

  get remoteAddress(): string | undefined {
    return this.from;
  }

  /** Whoever looks for signs of life looks here: an upgrade may ask for an event stream, too. */
  get bytesRead(): number {
    return this.socket?.bytesRead ?? 0;
  }

  setTimeout(milliseconds: number, listener?: () => void): this {
    if (this.socket?.listenerCount('timeout') === 0) this.socket.on('timeout', this.onSocket.timeout);
    this.socket?.setTimeout(milliseconds);
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
    this.socket?.resume();
  }

  override _write(data: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    const { socket } = this;
    // Without a line nothing is written any more; nobody waits for it.
    if (socket === null) {
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
    socket.write(data, over);
    if (socket.writableLength === 0) over();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.socket === null) done();
    else this.socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { socket } = this;
    this.socket = null;
    socket?.on('error', ignore);
    socket?.destroy();
    done(error);
  }
}

function endLine(this: Socket): void {
  this.destroySoon();
}

function ignore(): void {}
