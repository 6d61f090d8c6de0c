/** A faulty network in front of a server: delays, silence, resets. */
import { connect, createServer, type Socket } from 'node:net';
import { freePort } from './ports.ts';

/** Disposing cuts all connections. */
export interface TcpProxy extends AsyncDisposable {
  /** The URL of the server through the proxy. */
  readonly url: string;
  readonly connections: number;
  /** How many connections either side has reset. */
  readonly resets: number;
  /** Pieces in flight; the end of a connection counts as one. */
  readonly holding: number;
  /** Drops everything silently, like a firewall. New connections get no response either. */
  swallow(): void;
  /**
   * All passes again. What was held back arrives, as TCP sends it again, unless its sender reset the connection
   * meanwhile: then it is lost for good, and the other side hears of the reset only now.
   */
  heal(): void;
  /** New connections pass. Earlier ones stay silent until `heal()`, since TCP waits longer with each retry. */
  healNew(): void;
  /** Resets all connections. New ones pass. */
  cut(): void;
  /** Delays each piece by this many milliseconds. */
  delay(ms: number): void;
}

/** In front of the server that `serverUrl` names by host and port. */
export async function startProxy(serverUrl: string): Promise<TcpProxy> {
  const target = new URL(serverUrl);
  const lines = new Set<Line>();
  let silent = false;
  let resets = 0;
  let delayMs = 0;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const reach = () => connect({ host: target.hostname, port: Number(target.port), allowHalfOpen: true });
    const line = new Line(client, reach, () => delayMs);
    line.silent = silent;
    lines.add(line);
    line.pump();
    line.ended = () => lines.delete(line);
    line.reset = () => resets++;
  });
  const port = await freePort();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  const url = new URL(serverUrl);
  url.port = String(port);
  url.hostname = '127.0.0.1';
  const cut = (): void => {
    for (const line of [...lines]) line.cut();
  };
  return {
    url: url.href,
    get connections() {
      return lines.size;
    },
    get resets() {
      return resets;
    },
    get holding() {
      let pieces = 0;
      for (const line of lines) pieces += line.holding;
      return pieces;
    },
    swallow() {
      silent = true;
      for (const line of lines) line.silent = true;
    },
    heal() {
      silent = false;
      for (const line of [...lines]) {
        line.silent = false;
        line.pump();
      }
    },
    healNew: () => void (silent = false),
    cut,
    delay: (ms) => void (delayMs = ms),
    [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      cut();
      return closed;
    },
  };
}

/** One connection through the proxy: two directions with the pieces in flight. */
class Line {
  ended: () => unknown = () => {};
  reset: () => unknown = () => {};
  silent = false;
  private readonly client: Socket;
  private readonly delayMs: () => number;
  private readonly reach: () => Socket;
  private server: Socket | null = null;
  private readonly toServer: Piece[] = [];
  private readonly toClient: Piece[] = [];
  private timer: NodeJS.Timeout | null = null;
  private broken = false;

  constructor(client: Socket, reach: () => Socket, delayMs: () => number) {
    this.client = client;
    this.reach = reach;
    this.delayMs = delayMs;
    this.listen(client, this.toServer);
  }

  get holding(): number {
    return this.toServer.length + this.toClient.length;
  }

  cut(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.client.resetAndDestroy();
    this.server?.resetAndDestroy();
    this.ended();
  }

  /** Delivers what is due. */
  pump(): void {
    if (this.silent) return;
    if (this.broken) {
      this.cut();
      return;
    }
    if (this.server === null) {
      this.server = this.reach();
      this.listen(this.server, this.toClient);
    }
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const waits = [deliver(this.toServer, this.server), deliver(this.toClient, this.client)];
    const wait = Math.min(...waits);
    if (wait !== Number.POSITIVE_INFINITY) this.timer = setTimeout(() => this.pump(), wait);
  }

  private listen(from: Socket, pieces: Piece[]): void {
    from.setNoDelay(true);
    const put = (bytes: Buffer | null): void => {
      pieces.push({ bytes, due: performance.now() + this.delayMs() });
      this.pump();
    };
    from.on('data', put);
    // A FIN travels behind the data; a reset discards the pieces in flight.
    from.on('end', () => put(null));
    from.on('error', () => {
      pieces.length = 0;
      this.broken = true;
      this.reset();
      this.pump();
    });
    from.on('close', () => {
      if (this.client.destroyed && this.server?.destroyed !== false) this.ended();
    });
  }
}

interface Piece {
  /** Null: the end. */
  readonly bytes: Buffer | null;
  readonly due: number;
}

/** Milliseconds until the next piece is due. */
function deliver(pieces: Piece[], to: Socket): number {
  for (;;) {
    const next = pieces[0];
    if (next === undefined) return Number.POSITIVE_INFINITY;
    const wait = next.due - performance.now();
    if (wait > 0) return wait;
    pieces.shift();
    if (next.bytes === null) to.end();
    else if (to.writable) to.write(next.bytes);
  }
}
