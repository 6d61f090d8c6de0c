/**
 * Connections to Postgres, each trusted only until its first trouble.
 *
 * postgres.js has a pool of its own, but a connection of it that was lost comes back with what it was doing then: it
 * writes into a socket that is gone, which ends the process, or sends what is left of a dead transaction inside the next
 * one (porsager/postgres 1208, 1215, 1216); and while the network swallows packets its queue has no end. So here each
 * connection is a client of its own, which connects once and is thrown away with its first trouble.
 *
 * A statement is answered or fails in bounded time. Postgres ends it after `STATEMENT_MS`; a connection that stays
 * silent for longer is reset, which also drops what the kernel still holds of it: a vote that was refused is not
 * carried out when the network is back. Where nobody can connect, all fail at once until a probe gets through.
 */
import { connect, type Socket } from 'node:net';
import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres, { type Sql } from 'postgres';
import { codeOf, isConnectionLoss, isUnavailable, UnreachableError } from './errors.ts';

/** The most statements that run at once. */
export const CONNECTIONS = 10;
/** How long Postgres may work at a statement, unless it is given longer, or the URL says `statement_timeout=` itself. */
const STATEMENT_MS = 10_000;
/** How much longer than that a connection may be silent. */
const GRACE_MS = 2_000;
const CONNECT_MS = 5_000;
/** Then it is replaced: sessions of Postgres grow, and hosts move. */
const LIFETIME_MS = 3_600_000;
/** How long to wait for a free connection, and how many may. */
const WAIT_MS = 10_000;
const MOST_WAITING = 20_000;
const LOOK_MS = 500;
const PROBE_MS = 500;

export interface DatabaseConnection {
  readonly sql: Sql;
  readonly drizzle: PostgresJsDatabase;
}

export interface PostgresPool {
  /** Lends a connection for `work`, which MUST send one statement after the other, each of at most `limitMs`. */
  use<T>(work: (connection: DatabaseConnection) => Promise<T>, limitMs?: number): Promise<T>;
  transaction<T>(work: (db: PostgresJsDatabase) => Promise<T>, limitMs?: number): Promise<T>;
  close(): Promise<void>;
}

interface Member extends DatabaseConnection {
  /** Whether a statement was ever answered on it. */
  proved: boolean;
  lost: boolean;
  /** While it is lent: ends the work with an error. */
  fail: ((error: Error) => void) | null;
  limitMs: number;
  readonly usualMs: number;
  bytesRead: number;
  heardAt: number;
  readonly madeAt: number;
  readonly socket: () => Socket | null;
}

interface Waiting {
  readonly since: number;
  readonly resolve: (member: Member) => void;
  readonly reject: (error: Error) => void;
}

export function openPool(url: string): PostgresPool {
  const members = new Set<Member>();
  const idle: Member[] = [];
  let waiting: Waiting[] = [];
  let attempts = 0;
  /** The timer of the next probe while nobody can connect. */
  let down: NodeJS.Timeout | null = null;
  let closed = false;
  let lookedAt = performance.now();
  const looking = setInterval(look, LOOK_MS);
  looking.unref();

  return {
    use,
    transaction: (work, limitMs) =>
      use(async (connection) => {
        const { sql } = connection;
        await sql.unsafe(limitMs === undefined ? 'BEGIN' : `BEGIN; SET LOCAL statement_timeout = ${limitMs}`);
        try {
          const result = await work(connection.drizzle);
          await sql.unsafe('COMMIT');
          return result;
        } catch (error) {
          // In trouble the connection goes, and its transaction with it: nothing more may be sent on it.
          if (!isUnavailable(error)) await sql.unsafe('ROLLBACK');
          throw error;
        }
      }, limitMs),
    async close() {
      closed = true;
      clearInterval(looking);
      if (down !== null) clearTimeout(down);
      refuseWaiting();
      await Promise.all([...members].map(({ sql }) => sql.end({ timeout: 5 })));
    },
  };

  async function use<T>(work: (connection: DatabaseConnection) => Promise<T>, limitMs?: number): Promise<T> {
    return lend(idle.pop() ?? (await take()), work, limitMs);
  }

  function take(): Promise<Member> | Member {
    if (closed || down !== null || waiting.length >= MOST_WAITING) throw unreachable();
    if (members.size < CONNECTIONS) return make();
    return new Promise((resolve, reject) => waiting.push({ since: performance.now(), resolve, reject }));
  }

  async function lend<T>(
    member: Member,
    work: (connection: DatabaseConnection) => Promise<T>,
    limitMs?: number,
  ): Promise<T> {
    member.heardAt = performance.now();
    member.limitMs = limitMs ?? member.usualMs;
    try {
      const result = await new Promise<T>((resolve, reject) => {
        member.fail = reject;
        if (member.lost) throw unreachable();
        work(member).then(resolve, reject);
      });
      member.proved = true;
      return result;
    } catch (error) {
      // Postgres that refuses by itself (a wrong password, too many clients) is there.
      if (!member.proved && isConnectionLoss(error)) goDown();
      if (isUnavailable(error) || (!member.proved && codeOf(error) !== '')) discard(member);
      throw error;
    } finally {
      member.fail = null;
      giveBack(member);
    }
  }

  function giveBack(member: Member): void {
    if (member.lost || closed) return;
    const next = waiting.shift();
    if (next !== undefined) next.resolve(member);
    else if (performance.now() - member.madeAt < LIFETIME_MS) idle.push(member);
    else {
      member.lost = true;
      members.delete(member);
      void member.sql.end({ timeout: 5 });
    }
  }

  function make(): Member {
    let socket: Socket | null = null;
    const attempt = attempts++;
    const options = {
      max: 1,
      connect_timeout: CONNECT_MS / 1_000,
      max_lifetime: null,
      onnotice: () => {},
      connection: {
        application_name: 'pollcast',
        statement_timeout: STATEMENT_MS,
        // A lock that is held for somebody who is gone would stop its poll until the kernel notices, hours later.
        idle_in_transaction_session_timeout: STATEMENT_MS + GRACE_MS,
      },
      onclose: () => discard(member, 'CONNECTION_LOST'),
      socket: ({ host, port, path }: { host: string[]; port: number[]; path: string | false }) => {
        // Once: what comes after the first socket is the client's own try to come back.
        if (socket !== null) throw unreachable();
        const turn = attempt % host.length;
        socket = path ? connect(path) : connect({ host: host[turn] ?? 'localhost', port: port[turn] ?? 5432 });
        return connected(Object.assign(socket, { host: host[turn] }));
      },
    };
    const sql = postgres(url, options);
    const { statement_timeout } = sql.options.connection;
    const usualMs = Number(statement_timeout) || STATEMENT_MS;
    const member: Member = {
      sql,
      drizzle: drizzle(sql),
      proved: false,
      lost: false,
      fail: null,
      limitMs: usualMs,
      usualMs,
      bytesRead: 0,
      heardAt: performance.now(),
      madeAt: performance.now(),
      socket: () => socket,
    };
    members.add(member);
    return member;
  }

  /** For good. Whoever waits for a connection gets a new one in its place. */
  function discard(member: Member, why: UnreachableError['code'] = 'UNREACHABLE'): void {
    if (member.lost) return;
    member.lost = true;
    members.delete(member);
    const at = idle.indexOf(member);
    if (at !== -1) idle.splice(at, 1);
    if (closed) return;
    const socket = member.socket();
    if (socket?.connecting === true) socket.destroy();
    else socket?.resetAndDestroy();
    void member.sql.end({ timeout: 0 });
    member.fail?.(new UnreachableError(why));
    if (down === null && members.size < CONNECTIONS) waiting.shift()?.resolve(make());
  }

  function look(): void {
    const now = performance.now();
    // This process itself stood still: what came in meanwhile is not read yet.
    const stoodStill = now - lookedAt > LOOK_MS * 4;
    lookedAt = now;
    for (const member of members) {
      if (member.fail === null) continue;
      const bytesRead = member.socket()?.bytesRead ?? 0;
      // Patience with a long statement ends where nobody else gets through either.
      const limit = down === null ? member.limitMs : member.usualMs;
      if (stoodStill || bytesRead !== member.bytesRead) {
        member.bytesRead = bytesRead;
        member.heardAt = now;
      } else if (now - member.heardAt > limit + GRACE_MS) {
        goDown();
        discard(member);
      }
    }
    while (waiting[0] !== undefined && now - waiting[0].since > WAIT_MS) waiting.shift()?.reject(unreachable());
  }

  function goDown(): void {
    if (down !== null || closed) return;
    down = setTimeout(probe, PROBE_MS);
    for (const member of [...idle]) discard(member);
    refuseWaiting();
  }

  async function probe(): Promise<void> {
    const member = make();
    try {
      await lend(member, ({ sql }) => sql`SELECT 1`);
      down = null;
    } catch {
      discard(member);
      if (!closed) down = setTimeout(probe, PROBE_MS);
    }
  }

  function refuseWaiting(): void {
    const refused = waiting;
    waiting = [];
    for (const { reject } of refused) reject(unreachable());
  }
}

/** Resolves with the socket when it is connected; rejects when it cannot be, or not in time. */
function connected(socket: Socket): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.setNoDelay(true);
    socket.setTimeout(CONNECT_MS, () => socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
    socket.on('error', reject);
    socket.once('connect', () => {
      socket.removeAllListeners('timeout').setTimeout(0);
      resolve(socket);
    });
  });
}

const unreachable = (): UnreachableError => new UnreachableError('UNREACHABLE');
