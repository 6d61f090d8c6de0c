/**
 * A group: the subscribers of one operation, variables and visibility. Its operation runs once an update and is encoded
 * once; the same bytes go to all, in slices, so that votes get through while thousands are served.
 */
import type { PollcastError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { Pace } from './broadcast-queue.ts';
import type { SlowReaders } from './slow-readers.ts';
import type { Outlet, Update } from './subscriber.ts';
import { makeThrottle } from './throttle.ts';

const SLICE = 500;

/** What a group is served from: where its topic stands. */
export interface Standing<State> {
  readonly cursor: number;
  readonly final: boolean;
  readonly state: State;
}

export interface Group<State> {
  readonly size: number;
  /** Nobody is in it, nor being let in. */
  readonly isEmpty: boolean;
  /** Sends where the topic stands to everybody who has not got it, no more often than `everyMs`; a final one at once. */
  offer(standing: Standing<State>): void;
  /**
   * The first thing that the newcomer receives is where the topic stands (L1), unless it has just that. `fits` is asked when it
   * is about to receive it: if not, it receives nothing and is no member. Whether it was let in.
   */
  join(outlet: Outlet, standing: Standing<State>, after: number | null, fits?: () => boolean): Promise<boolean>;
  /** Who has left already may leave again. */
  leave(outlet: Outlet): void;
  fail(error: PollcastError): void;
}

export interface GroupOptions<State> {
  readonly clock: Clock;
  readonly slow: SlowReaders;
  readonly pace: Pace;
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
  const members: Outlet[] = [];
  let wanted: Standing<State> | null = null;
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
    async join(outlet, standing, after, fits) {
      joining++;
      try {
        if (wanted === null || standing.cursor > wanted.cursor) wanted = standing;
        const update = await upToDate();
        if (fits?.() === false) return false;
        // Who comes from another group with bytes on their way is as slow as it was there.
        if (outlet.cursor >= 0 && outlet.backlog() > 0) slow.add(outlet);
        if (update.cursor === after) {
          outlet.cursor = update.cursor;
          if (update.final) outlet.end();
        } else {
          give(outlet, update);
        }
        if (!update.final || outlet.pending !== null) {
          outlet.place = members.length;
          members.push(outlet);
        }
        // It may have moved on while this one waited for its bytes.
        if (latest !== null && latest !== update) give(outlet, latest);
        return true;
      } finally {
        joining--;
        if (isEmpty()) close();
      }
    },
    leave,
    fail(error) {
      for (const outlet of members.splice(0)) {
        outlet.place = -1;
        slow.remove(outlet);
        outlet.fail(error);
      }
      close();
    },
  };

  function give(outlet: Outlet, update: Update): void {
    if (outlet.push(update)) options.onDelivered(1);
    else slow.add(outlet);
  }

  function leave(outlet: Outlet): void {
    slow.remove(outlet);
    const { place } = outlet;
    const last = members.at(-1);
    if (last === undefined || members[place] !== outlet) return;
    members.pop();
    // Passes go from the end to the front: the last one was served already, wherever it stands now.
    if (last !== outlet) {
      members[place] = last;
      last.place = place;
    }
    outlet.place = -1;
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

  async function encode(standing: Standing<State>): Promise<Update> {
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
    options.pace.run(() => {
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
      const outlet = members[--at];
      if (update === null || outlet === undefined || update.cursor <= outlet.cursor) continue;
      if (outlet.push(update)) delivered++;
      else slow.add(outlet);
    }
    return { delivered, reached: at };
  }
}
