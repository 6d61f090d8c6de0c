/**
 * Short and long polling: an answer is a subscription that ends with its first update, so a woken crowd is answered from
 * the bytes of its group. While it waits, a long poll costs its request, a timer and a place in the group.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { GraphQLError } from 'graphql';
import type { PollcastError } from '../../core/errors.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import { Subscriber, type Update } from '../../live/subscriber.ts';
import type { Clock, Stop } from '../../ports/clock.ts';

export interface LongPollRequest {
  /** What to subscribe to; errors where it cannot be. */
  readonly start: (subscriber: Subscriber, after: number | null) => Promise<Stop | readonly GraphQLError[]>;
  /** The version that the client has; null: it wants what is there. */
  readonly after: number | null;
  readonly waitMs: number;
  readonly answer: (update: Update) => void;
  /** Nothing newer came in time, or will ever come. */
  readonly nothing: () => void;
  readonly refuse: (errors: readonly GraphQLError[]) => void;
}

export interface LongPolls {
  wait(request: IncomingMessage, response: ServerResponse, waiting: LongPollRequest): void;
  readonly size: number;
  /** Answers all that wait, with nothing; from then on nobody is held. */
  close(): void;
}

/** Takes exactly one update. */
class Answer extends Subscriber {
  private readonly finish: (say: () => void) => void;
  private readonly waiting: LongPollRequest;
  readonly end: () => void;
  readonly cut: () => void;

  constructor(finish: (say: () => void) => void, end: () => void, waiting: LongPollRequest) {
    super();
    this.finish = finish;
    this.waiting = waiting;
    this.end = end;
    this.cut = end;
  }

  backlog(): number {
    return 0;
  }

  send(update: Update): boolean {
    this.finish(() => this.waiting.answer(update));
    return true;
  }

  fail(error: PollcastError): void {
    this.finish(() => this.waiting.refuse([asGraphQLError(error)]));
  }
}

export function makeLongPolls(clock: Clock): LongPolls {
  const all = new Set<() => void>();
  let closing = false;

  return {
    wait(_, response, waiting) {
      const { start, after, nothing, refuse } = waiting;
      const waitMs = closing ? 0 : waiting.waitMs;
      let over = false;
      let leave: Stop | null = null;
      const finish = (say: () => void): void => {
        if (over) return;
        over = true;
        stopTimer();
        leave?.();
        all.delete(end);
        if (!response.destroyed) say();
      };
      const end = (): void => finish(nothing);
      const stopTimer = waitMs === 0 ? () => {} : clock.after(waitMs, end);
      const subscriber = new Answer(finish, end, waiting);
      // Who does not wait asked for what is there, and gets it.
      if (waitMs > 0) all.add(end);
      response.on('close', () => finish(() => {}));
      void start(subscriber, after).then((started) => {
        if (typeof started !== 'function') return finish(() => refuse(started));
        if (over) return started();
        leave = started;
        // It had just that version, and does not want to wait.
        if (waitMs === 0) end();
      });
    },
    get size() {
      return all.size;
    },
    close() {
      closing = true;
      for (const end of [...all]) end();
    },
  };
}
