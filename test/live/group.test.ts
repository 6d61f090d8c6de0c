/** Each group is run and encoded once, whatever the number of its subscribers and the versions they resume from. */
import { describe, expect, test } from 'vitest';
import { PollNotOpenError } from '../../src/core/errors.ts';
import { makeBroadcastQueue } from '../../src/live/broadcast-queue.ts';
import { makeGroup } from '../../src/live/group.ts';
import { makeSlowReaders } from '../../src/live/slow-readers.ts';
import { Subscriber, type Update } from '../../src/live/subscriber.ts';
import type { Clock } from '../../src/ports/clock.ts';
import { makeHeartbeat } from '../../src/transport/socket/heartbeat.ts';

/** Time that moves only when a test says so. */
function manualClock() {
  let now = 0;
  let timers: { at: number; run: () => void; every: number | null }[] = [];
  const clock: Clock = {
    now: () => now,
    after: (ms, run) => add({ at: now + ms, run, every: null }),
    every: (ms, run) => add({ at: now + ms, run, every: ms }),
  };
  function add(timer: (typeof timers)[number]): () => void {
    timers.push(timer);
    return () => {
      timers = timers.filter((other) => other !== timer);
    };
  }
  return {
    clock,
    get timers() {
      return timers.length;
    },
    pass(ms: number) {
      const end = now + ms;
      for (;;) {
        const next = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        now = next.at;
        if (next.every === null) timers = timers.filter((timer) => timer !== next);
        else next.at += next.every;
        next.run();
      }
      now = end;
    },
  };
}

class Reader extends Subscriber {
  readonly got: Update[] = [];
  /** What the kernel has not taken yet. */
  queued = 0;
  /** Takes nothing any more: all that is sent to it stays queued. */
  isStuck = false;
  end_ = 0;
  cuts = 0;
  failure: unknown = null;
  backlog() {
    return this.queued;
  }
  send(update: Update) {
    expect(this.queued).toBe(0);
    this.got.push(update);
    if (this.isStuck) this.queued = 100;
    return this.queued === 0;
  }
  end() {
    this.end_++;
  }
  fail(error: unknown) {
    this.failure = error;
  }
  cut() {
    this.cuts++;
  }
  get cursors() {
    return this.got.map(({ cursor }) => cursor);
  }
}

const settled = async () => {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
};

function groupOf(everyMs = 0) {
  const time = manualClock();
  const encoded: number[] = [];
  let emptied = 0;
  const slow = makeSlowReaders(time.clock, 30_000);
  const group = makeGroup<number>({
    clock: time.clock,
    slow,
    broadcasts: makeBroadcastQueue(() => false),
    everyMs,
    encode: async (state) => {
      encoded.push(state);
      return Buffer.from(String(state));
    },
    onFault: (error) => expect.fail(String(error)),
    onDelivered: () => {},
    onEmpty: () => emptied++,
  });
  const at = (cursor: number, final = false) => ({ cursor, final, state: cursor });
  return { time, group, encoded, slow, at, emptied: () => emptied };
}

describe('a group', () => {
  test('L1 two thousand subscribers cost one execution, and all get the same bytes', async () => {
    const { group, encoded, at } = groupOf();
    const readers = Array.from({ length: 2_000 }, () => new Reader());
    await Promise.all(readers.map((reader, index) => group.join(reader, at(5), index % 7)));
    expect(encoded).toEqual([5]);
    group.offer(at(6));
    await settled();
    expect(encoded).toEqual([5, 6]);
    expect(new Set(readers.map(({ got }) => got.at(-1)?.payload)).size).toBe(1);
    for (const [index, { cursors }] of readers.entries()) expect(cursors).toEqual(index % 7 === 5 ? [6] : [5, 6]);
  });

  test('L3 what comes during a pass reaches everybody, those at the front too', async () => {
    const { group, at } = groupOf();
    const readers = Array.from({ length: 1_000 }, () => new Reader());
    for (const reader of readers) await group.join(reader, at(1), null);
    group.offer(at(2));
    await new Promise(setImmediate);
    group.offer(at(3));
    await settled();
    for (const { cursors } of readers) {
      expect(cursors.at(-1)).toBe(3);
      expect([...cursors].sort()).toEqual(cursors);
    }
  });

  test('L5 a slow reader holds one pending update, the newest; it gets that when it has caught up', async () => {
    const { group, at, time, slow } = groupOf();
    const [fast, lazy] = [new Reader(), new Reader()];
    await group.join(fast, at(1), null);
    await group.join(lazy, at(1), null);
    lazy.isStuck = true;
    for (const cursor of [2, 3, 4, 5]) {
      group.offer(at(cursor));
      await settled();
    }
    expect(fast.cursors).toEqual([1, 2, 3, 4, 5]);
    expect(lazy.cursors).toEqual([1, 2]);
    expect(slow.size).toBe(1);
    lazy.isStuck = false;
    lazy.queued = 0;
    time.pass(25);
    expect(lazy.cursors).toEqual([1, 2, 5]);
    expect(slow.size).toBe(0);
    expect(time.timers).toBe(0);
  });

  test('L5 thirty seconds without progress and it is cut; any progress starts them again', async () => {
    const { group, at, time } = groupOf();
    const stuck = new Reader();
    await group.join(stuck, at(1), null);
    stuck.isStuck = true;
    group.offer(at(2));
    await settled();
    time.pass(29_000);
    stuck.queued = 99;
    time.pass(29_000);
    expect(stuck.cuts).toBe(0);
    time.pass(1_500);
    expect(stuck.cuts).toBe(1);
    group.leave(stuck);
    expect(time.timers).toBe(0);
  });

  test('L4 everyMs: one update an interval, the newest; a final one does not wait', async () => {
    const { group, at, time } = groupOf(1_000);
    const reader = new Reader();
    await group.join(reader, at(1), null);
    for (const cursor of [2, 3, 4]) {
      group.offer(at(cursor));
      await settled();
    }
    expect(reader.cursors).toEqual([1, 2]);
    time.pass(1_000);
    await settled();
    expect(reader.cursors).toEqual([1, 2, 4]);
    group.offer(at(5, true));
    await settled();
    expect(reader.cursors).toEqual([1, 2, 4, 5]);
    expect(reader.end_).toBe(1);
  });

  test('L6 the final update reaches a slow reader before the end', async () => {
    const { group, at, time } = groupOf();
    const lazy = new Reader();
    await group.join(lazy, at(1), null);
    lazy.isStuck = true;
    group.offer(at(2));
    await settled();
    group.offer(at(3, true));
    await settled();
    expect(lazy.end_).toBe(0);
    lazy.isStuck = false;
    lazy.queued = 0;
    time.pass(25);
    expect(lazy.cursors).toEqual([1, 2, 3]);
    expect(lazy.end_).toBe(1);
  });

  test('who leaves gets nothing more; the last one closes the group', async () => {
    const { group, at, emptied } = groupOf();
    const [one, two] = [new Reader(), new Reader()];
    await group.join(one, at(1), null);
    await group.join(two, at(1), null);
    group.leave(one);
    group.offer(at(2));
    await settled();
    expect([one.cursors, two.cursors]).toEqual([[1], [1, 2]]);
    expect(emptied()).toBe(0);
    group.leave(two);
    expect(emptied()).toBe(1);
  });

  test('a failure reaches everybody once', async () => {
    const { group, at } = groupOf();
    const readers = [new Reader(), new Reader()];
    for (const reader of readers) await group.join(reader, at(1), null);
    const error = new PollNotOpenError('gone');
    group.fail(error);
    expect(readers.map(({ failure }) => failure)).toEqual([error, error]);
    expect(group.size).toBe(0);
  });
});

describe('liveness', () => {
  test('a peer that gives no sign of life is cut within two rounds, one that does stays', () => {
    const time = manualClock();
    const liveness = makeHeartbeat(time.clock, 25_000);
    const cut: string[] = [];
    const peer = (name: string, answers: boolean) => {
      let heard = true;
      return {
        slot: -1,
        isAlive() {
          const alive = heard;
          heard = answers;
          return alive;
        },
        cut: () => cut.push(name),
      };
    };
    const peers = [peer('dead', false), peer('alive', true)];
    for (const each of peers) liveness.add(each);
    time.pass(50_000);
    expect(cut).toEqual(['dead']);
    for (const each of peers) liveness.remove(each);
    expect(liveness.size).toBe(0);
    liveness.stop();
    expect(time.timers).toBe(0);
  });
});

describe('the pace of broadcasts', () => {
  /** A loop that turns when a test says so, and slices that each take `ms`. */
  function paceOf(votesWait: () => boolean) {
    let now = 0;
    const looks: (() => void)[] = [];
    const pace = makeBroadcastQueue(votesWait, { now: () => now, next: (run) => looks.push(run) });
    let slices = 0;
    const work = (count: number, ms: number) => {
      let left = count;
      pace.run(() => {
        slices++;
        now += ms;
        return --left > 0 ? 'more' : 'done';
      });
    };
    /** The loop turns once, with so much else to do. */
    const turn = (ms: number) => {
      now += ms;
      for (const look of looks.splice(0)) look();
    };
    return { pace, work, turn, slices: () => slices, looks: () => looks.length };
  }

  test('while votes keep the loop busy, a broadcast rests as long as it worked; without votes it does not rest', () => {
    let waiting = true;
    const { work, turn, slices, looks } = paceOf(() => waiting);
    work(10, 4);
    turn(0);
    for (let done = 1; done <= 5; done++) {
      expect(slices()).toBe(done);
      turn(1);
      turn(1.5);
      expect(slices()).toBe(done);
      turn(1.5);
    }
    expect(slices()).toBe(6);
    waiting = false;
    for (let left = 4; left > 0; left--) turn(3);
    expect(slices()).toBe(10);
    expect(looks()).toBe(0);
  });

  test('a loop with nothing else to do is not left idle, whatever votes wait for', () => {
    const { work, turn, slices } = paceOf(() => true);
    work(3, 4);
    turn(0);
    expect(slices()).toBe(1);
    turn(0.5);
    expect(slices()).toBe(1);
    turn(0.01);
    expect(slices()).toBe(2);
    turn(0.01);
    expect(slices()).toBe(3);
  });

  test('many small ones count together, and time that passes pays for them', () => {
    const { work, turn, slices } = paceOf(() => true);
    for (let each = 0; each < 3; each++) work(1, 1.5);
    turn(0);
    turn(0.1);
    expect(slices()).toBe(2);
    turn(1);
    expect(slices()).toBe(2);
    turn(2);
    expect(slices()).toBe(3);
    turn(100);
    work(1, 1);
    turn(0.1);
    expect(slices()).toBe(4);
  });

  test('what a broadcast tells of comes first: nothing goes out in the turn that asks for it', () => {
    const { work, turn, slices } = paceOf(() => false);
    work(1, 1);
    expect(slices()).toBe(0);
    turn(5);
    expect(slices()).toBe(1);
  });

  test('what is stopped looks once more at the loop, and never again', () => {
    const { pace, work, turn, slices, looks } = paceOf(() => true);
    work(3, 5);
    turn(0);
    expect(looks()).toBe(1);
    pace.stop();
    turn(10);
    expect(looks()).toBe(0);
    expect(slices()).toBe(1);
  });
});
