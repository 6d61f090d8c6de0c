/**
 * A group: the subscribers of one operation, variables and visibility. Its operation runs once an update and is encoded
 * once; the same bytes go to all, in slices, so that votes get through while thousands are served.
 */
import type { PollcastError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { BroadcastQueue } from './broadcast-queue.ts';
import type { SlowReaders } from './slow-readers.ts';
import type { Subscriber, Update } from './subscriber.ts';
import { makeThrottle } from './throttle.ts';

const SLICE = 500;

/** What a group is served from: where its topic stands. */
export interface TopicState<State> {
  readonly cursor: number;
  readonly final: boolean;
  readonly state: State;
}

export interface Group<State> {
  readonly size: number;
  /** Nobody is in it, nor being let in. */
  readonly isEmpty: boolean;
  /** Sends where the topic stands to everybody who has not got it, no more often than `everyMs`; a final one at once. */
  offer(standing: TopicState<State>): void;
  /**
   * The first thing that the newcomer receives is where the topic stands (L1), unless it has just that. `fits` is asked when it
   * is about to receive it: if not, it receives nothing and is no member. Whether it was let in.
   */
  join(
    subscriber: Subscriber,
    standing: TopicState<State>,
    after: number | null,
    fits?: () => boolean,
  ): Promise<boolean>;
  /** Who has left already may leave again. */
  leave(subscriber: Subscriber): void;
  fail(error: PollcastError): void;
}

export interface GroupOptions<State> {
  readonly clock: Clock;
  readonly slow: SlowReaders;
  readonly broadcasts: BroadcastQueue;
  readonly everyMs: number;
  /** Executes and encodes; the result is shared by everybody in the group. */
  readonly encode: (state: State) => Promise<Buffer> | Buffer;
  readonly onFault: (error: unknown) => void;
  readonly onDelivered: (count: number) => void;
  /** The last subscriber has left. */
  readonly onEmpty: () => void;
}

export function makeGroup<State>(options: GroupOptions<State>): Group<State> {
  const { clock, slow } = options;
  // An array, and each member knows its place: a pass reads it in order, and leaving costs nothing.
  const members: Subscriber[] = [];
  let wanted: TopicState<State> | null = null;
  let latest: Update | null = null;
  let encoding: Promise<Update> | null = null;
  let passing = false;
  let joining = 0;
  const throttle = makeThrottle(clock, () => options.everyMs, refresh);

  return {
    get size() {
      return members.length;
    },
    get isEmpty() {
      return isEmpty();
    },
    offer(standing) {
      if (wanted === null || standing.cursor >= wanted.cursor) wanted = standing;
      if (standing.final) refresh();
      else throttle.poke();
    },
    async join(subscriber, standing, after, fits) {
      joining++;
      try {
        if (wanted === null || standing.cursor > wanted.cursor) wanted = standing;
        const update = await upToDate();
        if (fits?.() === false) return false;
        // Who comes from another group with bytes on their way is as slow as it was there.
        if (subscriber.cursor >= 0 && subscriber.backlog() > 0) slow.add(subscriber);
        if (update.cursor === after) {
          subscriber.cursor = update.cursor;
          if (update.final) subscriber.end();
        } else {
          give(subscriber, update);
        }
        if (!update.final || subscriber.pending !== null) {
          subscriber.index = members.length;
          members.push(subscriber);
        }
        // It may have moved on while this one waited for its bytes.
        if (latest !== null && latest !== update) give(subscriber, latest);
        return true;
      } finally {
        joining--;
        if (isEmpty()) close();
      }
    },
    leave,
    fail(error) {
      for (const subscriber of members.splice(0)) {
        subscriber.index = -1;
        slow.remove(subscriber);
        subscriber.fail(error);
      }
      close();
    },
  };

  function give(subscriber: Subscriber, update: Update): void {
    if (subscriber.push(update)) options.onDelivered(1);
    else slow.add(subscriber);
  }

  function leave(subscriber: Subscriber): void {
    slow.remove(subscriber);
    const { index } = subscriber;
    const last = members.at(-1);
    if (last === undefined || members[index] !== subscriber) return;
    members.pop();
    // Passes go from the end to the front: the last one was served already, wherever it stands now.
    if (last !== subscriber) {
      members[index] = last;
      last.index = index;
    }
    subscriber.index = -1;
    if (isEmpty()) close();
  }

  function isEmpty(): boolean {
    return members.length === 0 && joining === 0;
  }

  function close(): void {
    throttle.stop();
    options.onEmpty();
  }

  /** The bytes of the newest state known, encoded at most once. */
  function upToDate(): Promise<Update> | Update {
    const standing = wanted;
    if (standing === null) throw new Error('A group is joined with a state.');
    if (latest !== null && latest.cursor >= standing.cursor) return latest;
    encoding ??= encode(standing).finally(() => {
      encoding = null;
    });
    return encoding.then(upToDate);
  }

  async function encode(standing: TopicState<State>): Promise<Update> {
    const payload = await options.encode(standing.state);
    latest = { cursor: standing.cursor, final: standing.final, payload };
    return latest;
  }

  function refresh(): void {
    if (members.length === 0) return;
    if (latest !== null && wanted !== null && latest.cursor >= wanted.cursor) pass();
    else Promise.resolve(upToDate()).then(pass, options.onFault);
  }

  /** Goes around all members in slices, from the end to the front; whoever is reached gets what is newest then. */
  function pass(): void {
    if (passing) return;
    passing = true;
    const started = latest;
    let next = members.length;
    options.broadcasts.run(() => {
      const from = Math.min(next, members.length);
      const { delivered, reached } = serve(from, Math.max(0, from - SLICE));
      next = reached;
      options.onDelivered(delivered);
      if (next > 0) return 'more';
      passing = false;
      // Those at the end may have been served an older one: they get the newer with the next round.
      if (latest !== started) {
        if (latest?.final === true) pass();
        else throttle.poke();
      }
      return 'done';
    });
  }

  function serve(from: number, until: number): { delivered: number; reached: number } {
    const update = latest;
    let delivered = 0;
    let at = from;
    while (at > until) {
      // Who is served may leave, and others with it.
      const subscriber = members[--at];
      if (update === null || subscriber === undefined || update.cursor <= subscriber.cursor) continue;
      if (subscriber.push(update)) delivered++;
      else slow.add(subscriber);
    }
    return { delivered, reached: at };
  }
}
