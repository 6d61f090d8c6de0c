/**
 * A group: the subscribers of one operation, variables and visibility. Its operation runs once an update and is encoded
 * once; the same bytes go to all, in slices, so that votes get through while thousands are served.
 */
import type { PollcastError } from '../core/errors.ts';
import type { Clock, Stop } from '../core/ports.ts';
import { Mailbox, type Outlet, type Update } from './mailbox.ts';
import type { SlowReaders } from './slow.ts';
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
  /** Sends where the topic stands to everybody who has not got it, no more often than `everyMs`; a final one at once. */
  offer(standing: Standing<State>): void;
  /** The first thing that the newcomer receives is where the topic stands (L1), unless it has just that. */
  join(outlet: Outlet, standing: Standing<State>, after: number | null): Promise<Stop>;
  fail(error: PollcastError): void;
}

export interface GroupOptions<State> {
  readonly clock: Clock;
  readonly slow: SlowReaders;
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
  const members = new Set<Mailbox>();
  let wanted: Standing<State> | null = null;
  let latest: Update | null = null;
  let encoding: Promise<Update> | null = null;
  let passing = false;
  let joining = 0;
  const throttle = makeThrottle(clock, () => options.everyMs, refresh);

  return {
    get size() {
      return members.size;
    },
    offer(standing) {
      if (wanted === null || standing.cursor >= wanted.cursor) wanted = standing;
      if (standing.final) refresh();
      else throttle.poke();
    },
    async join(outlet, standing, after) {
      joining++;
      try {
        if (wanted === null || standing.cursor > wanted.cursor) wanted = standing;
        const update = await upToDate();
        const mailbox = new Mailbox(outlet, update.cursor === after ? update.cursor : Number.NEGATIVE_INFINITY);
        if (update.final && update.cursor === after) outlet.end();
        else if (!mailbox.push(update)) slow.add(mailbox);
        else if (update.cursor !== after) options.onDelivered(1);
        if (!update.final || mailbox.pending !== null) members.add(mailbox);
        // It may have moved on while this one waited for its bytes.
        if (latest !== null && latest !== update && !mailbox.push(latest)) slow.add(mailbox);
        return () => leave(mailbox);
      } finally {
        joining--;
        if (members.size === 0 && joining === 0) close();
      }
    },
    fail(error) {
      for (const mailbox of members) {
        slow.remove(mailbox);
        mailbox.outlet.fail(error);
      }
      members.clear();
      close();
    },
  };

  function leave(mailbox: Mailbox): void {
    slow.remove(mailbox);
    if (members.delete(mailbox) && members.size === 0 && joining === 0) close();
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
    if (members.size === 0) return;
    if (latest !== null && wanted !== null && latest.cursor >= wanted.cursor) pass();
    else Promise.resolve(upToDate()).then(pass, options.onFault);
  }

  /** Goes around all members in slices; whoever is reached gets what is newest then. */
  function pass(): void {
    if (passing) return;
    passing = true;
    const around = members.values();
    const started = latest;
    const slice = (): void => {
      let delivered = 0;
      for (let count = 0; count < SLICE; count++) {
        const next = around.next();
        if (next.done === true) {
          passing = false;
          options.onDelivered(delivered);
          // Those at the front may have been served an older one: they get the newer with the next round.
          if (latest !== started) {
            if (latest?.final === true) pass();
            else throttle.poke();
          }
          return;
        }
        const mailbox = next.value;
        if (latest === null || latest.cursor <= mailbox.cursor) continue;
        if (mailbox.push(latest)) delivered++;
        else slow.add(mailbox);
      }
      options.onDelivered(delivered);
      setImmediate(slice);
    };
    slice();
  }
}
