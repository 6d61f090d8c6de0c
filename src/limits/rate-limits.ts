/**
 * How often one address may ask for what. Counted in this process, or with `shared` in a Redis for all of them; where that
 * does not answer, each process counts for itself: losing it stops nobody.
 */
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes, RLWrapperTimeouts } from 'rate-limiter-flexible';
import { RateLimitedError } from '../core/errors.ts';
import type { Log } from '../ports/log.ts';
import type { SharedCounts } from '../ports/presence.ts';
import { makeConnectionLimits } from './connection-limits.ts';
import { LIMITS } from './limits.ts';

export type RateKind = 'votes' | 'polls' | 'operations' | 'connections' | 'codes';

/** Each of the promises rejects with `RateLimitedError`; null: there is no limit, or it is not reached, known at once. */
export interface RateLimits {
  /** `ballots`: of a batch by an organizer, which costs its address a vote for each hundred. */
  vote(address: string, ballots?: number): Promise<void> | null;
  /** `who`: the address, or the account of whoever is signed in. */
  createPoll(who: string): Promise<void> | null;
  /** `cost` as `costOf` counts it. */
  operation(address: string, cost: number): Promise<void> | null;
  /** Takes a place for what stays open. Throws `RateLimitedError` where there is none. */
  connect(address: string): void;
  /** MUST be called once for each that was taken. */
  disconnect(address: string): void;
  /** The same for a TCP connection, which may be idle. Whether there was a place. */
  openSocket(address: string): boolean;
  closeSocket(address: string): void;
  /** Before a voter code is looked at: whether this address may still try here. */
  codeAllowed(pollId: string, address: string): Promise<void>;
  /** After a voter code was wrong. Never rejects. */
  noteWrongCode(pollId: string, address: string): Promise<void>;
}

export interface RateLimitsOptions {
  /** A second, for one address; 0: no limit. Likewise the others. */
  readonly votes: number;
  /** An hour. */
  readonly polls: number;
  /** At once. */
  readonly connections: number;
  /** Points a second. */
  readonly operationCost: number;
  readonly log: Log;
  /** An ioredis connection. It MUST NOT queue while it is not connected (`enableOfflineQueue: false`). */
  readonly shared?: object;
  /** What is open at the other processes. */
  readonly places?: SharedCounts;
  /** Told of every refusal. */
  readonly refused?: (kind: RateKind) => void;
}

const HOUR_S = 3_600;
const CODE_TRIES = 10;
const CODE_WINDOW_S = 60;
const BALLOTS_A_VOTE = 100;
/** Nobody is sent away for more seconds than that after the end of the window. */
const MOST_EXTRA_S = 10;
/** After that many milliseconds a Redis that hangs is one that is gone. */
const PATIENCE_MS = 250;

interface Limiter {
  take(key: string, points: number): Promise<void>;
  spent(key: string): Promise<void>;
  charge(key: string): Promise<void>;
}

export function makeRateLimits(options: RateLimitsOptions): RateLimits {
  const { connections, log } = options;
  const votes = limiter('votes', options.votes, 1, 'Too many votes from your address');
  const polls = limiter('polls', options.polls, HOUR_S, 'Too many new polls from you');
  const operations = limiter(
    'operations',
    options.operationCost,
    1,
    'Too many or too large operations from your address',
  );
  const codes = limiter('codes', CODE_TRIES, CODE_WINDOW_S, 'Too many wrong codes from your address');
  const everywhere = options.places ?? null;
  const places = makeConnectionLimits('connections', connections, everywhere);
  const sockets = makeConnectionLimits('sockets', connections * LIMITS.socketsPerConnection, everywhere);

  return {
    vote: (address, ballots = 1) =>
      votes === null ? null : votes.take(address, Math.min(Math.ceil(ballots / BALLOTS_A_VOTE), options.votes)),
    createPoll: (who) => (polls === null ? null : polls.take(who, 1)),
    // What costs more than a second of it gives must pass at a time of rest.
    operation: (address, cost) =>
      operations === null ? null : operations.take(address, Math.min(cost, options.operationCost)),
    connect(address) {
      if (places.acquire(address)) return;
      options.refused?.('connections');
      throw new RateLimitedError(`At most ${connections} connections at once from one address.`, 5_000);
    },
    disconnect: places.release,
    openSocket(address) {
      const taken = sockets.acquire(address);
      if (!taken) options.refused?.('connections');
      return taken;
    },
    closeSocket: sockets.release,
    codeAllowed: async (pollId, address) => codes?.spent(`${pollId} ${address}`),
    noteWrongCode: async (pollId, address) => codes?.charge(`${pollId} ${address}`),
  };

  /** Null: no limit. `windowS`: in how many seconds `points` are given, from the first that is spent. */
  function limiter(kind: RateKind, points: number, windowS: number, message: string): Limiter | null {
    if (points === 0) return null;
    const settings = { points, duration: windowS, keyPrefix: `pollcast:${kind}` };
    const own = new RateLimiterMemory(settings);
    const counter = options.shared === undefined ? own : sharedCounter(options.shared, settings, own);

    const refusal = ({ consumedPoints, msBeforeNext }: RateLimiterRes): RateLimitedError => {
      options.refused?.(kind);
      // Who is the thousandth in a window of fifty comes again when its turn is, not with all the others.
      const extraS = Math.min(MOST_EXTRA_S, Math.max(0, Math.ceil(consumedPoints / points) - 2) * windowS);
      const waitMs = Math.max(1, Math.ceil(msBeforeNext)) + extraS * 1_000;
      return new RateLimitedError(`${message}. Try again in ${Math.ceil(waitMs / 1_000)} s.`, waitMs);
    };
    // Neither the counter nor what stands in for it: better no limit than no votes.
    const failed = (error: unknown): void => log.warn({ err: error, kind }, 'a limit could not be checked');

    return {
      take: (key, cost) =>
        counter.consume(key, cost).then(
          () => {},
          (reason: unknown) => {
            if (reason instanceof RateLimiterRes) throw refusal(reason);
            failed(reason);
          },
        ),
      async spent(key) {
        const found = await counter.get(key).catch(failed);
        if (found && found.consumedPoints >= points) throw refusal(found);
      },
      async charge(key) {
        await counter.penalty(key, 1).catch(failed);
      },
    };
  }
}

/** In Redis; in `own` where Redis is not connected, fails or hangs. */
function sharedCounter(
  client: object,
  settings: { readonly points: number; readonly duration: number; readonly keyPrefix: string },
  own: RateLimiterMemory,
): RLWrapperTimeouts {
  const redis = new RateLimiterRedis({
    ...settings,
    storeClient: client,
    rejectIfRedisNotReady: true,
    // Who has used all up is not asked about again in this window: a flood stays here.
    inMemoryBlockOnConsumed: settings.points + 1,
  });
  return new RLWrapperTimeouts({ limiter: redis, timeoutMs: PATIENCE_MS, insuranceLimiter: own });
}
