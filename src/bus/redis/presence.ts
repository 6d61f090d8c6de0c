/**
 * How many watch each poll, over all instances; and, by the name of an address instead of a poll's id, how many places it
 * has taken. Each instance keeps a sign of life that runs out by itself, and its own numbers in one hash a poll; changes are
 * told on the poll's channel. A number carries the place in which it was reported, so that an old one never overwrites a
 * newer one, whichever way it came.
 */
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { Presence } from '../../ports/presence.ts';
import type { Channels } from './channels.ts';
import { reasonOf } from './connection.ts';
import type { RedisLink } from './link.ts';

export interface PresenceTimes {
  /** How often an instance gives its sign of life, and looks for those of others. Milliseconds. */
  readonly beatMs: number;
  /** After how long without one it counts as gone. Milliseconds. */
  readonly lifeMs: number;
  /** At most one report of a poll in this time. Milliseconds. */
  readonly reportMs: number;
}

const TIMES: PresenceTimes = { beatMs: 10_000, lifeMs: 30_000, reportMs: 1_000 };
/** Every so many beats all numbers are reported again, long before their hashes run out. */
const BEATS_OF_A_ROUND = 30;
const ROUNDS_OF_A_HASH = 3;
const AT_ONCE = 500;
/** The longest that a goodbye may take. */
const END_MS = 1_000;

interface Told {
  readonly seq: number;
  readonly watching: number;
  /** When it was heard of, in looks at Redis. */
  readonly look: number;
}

/** What is known of a poll that is followed: the others' numbers, by instance. */
interface Followed {
  readonly others: Map<string, Told>;
  total: number;
  readonly stop: Stop;
}

export function makeRedisPresence(options: {
  /** What is counted: the names of its keys begin with it. */
  readonly kind: 'audience' | 'places';
  readonly link: RedisLink;
  readonly channels: Channels;
  readonly clock: Clock;
  readonly log: Log;
  readonly times?: Partial<PresenceTimes>;
}): Presence {
  const { kind, link, channels, clock, log } = options;
  const { beatMs, lifeMs, reportMs } = { ...TIMES, ...options.times };
  const hashMs = beatMs * BEATS_OF_A_ROUND * ROUNDS_OF_A_HASH;
  const own = new Map<string, number>();
  const followed = new Map<string, Followed>();
  const listeners = new Set<(pollId: string) => void>();
  let unreported = new Set<string>();
  let unread = new Set<string>();
  let seq = 0;
  let looks = 0;
  let beats = 0;
  let reportedAt = Number.NEGATIVE_INFINITY;
  let reporting: Stop | null = null;
  let reading: Stop | null = null;
  let closed = false;

  const lifeOf = (instance: string): string => link.name('instance', kind, instance);
  const hashOf = (pollId: string): string => link.name(kind, pollId);
  const stopBeating = clock.every(beatMs, () => void attempt('the beat', beat));
  // Redis may be a new and empty one.
  link.onSpeaker(() => {
    for (const pollId of own.keys()) unreported.add(pollId);
    for (const pollId of followed.keys()) unread.add(pollId);
    void attempt('the beat', beat);
    reportSoon();
    readSoon();
  });

  return {
    report(pollId, watching) {
      if ((own.get(pollId) ?? 0) === watching) return;
      if (watching === 0) own.delete(pollId);
      else own.set(pollId, watching);
      unreported.add(pollId);
      reportSoon();
    },
    total: (pollId) => (own.get(pollId) ?? 0) + (followed.get(pollId)?.total ?? 0),
    follow(pollId) {
      const stop = channels.listen(pollId, {
        onAudience: ({ from, seq, watching }) => {
          if (tell(pollId, from, { seq, watching, look: looks })) changed(pollId);
        },
        onStanding() {
          unread.add(pollId);
          readSoon();
        },
      });
      followed.set(pollId, { others: new Map(), total: 0, stop });
      return () => {
        followed.delete(pollId);
        stop();
      };
    },
    listen(onChange) {
      listeners.add(onChange);
      return () => listeners.delete(onChange);
    },
    async close() {
      closed = true;
      stopBeating();
      reporting?.();
      reading?.();
      for (const pollId of own.keys()) unreported.add(pollId);
      own.clear();
      const end = attempt('the end', async () => {
        await report();
        await link.speaker?.del(lifeOf(link.id));
      });
      // Others find out without it.
      let stopWaiting: Stop = () => {};
      await Promise.race([end, new Promise<void>((resolve) => (stopWaiting = clock.after(END_MS, resolve)))]);
      stopWaiting();
      for (const { stop } of followed.values()) stop();
    },
  };

  /** Whatever fails is tried again with the next beat or report, or when Redis is back. */
  async function attempt(what: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      const reason = error instanceof Error ? reasonOf(error) : String(error);
      log.debug({ reason }, `${what} of presence failed; it is tried again`);
    }
  }

  function changed(pollId: string): void {
    for (const onChange of listeners) onChange(pollId);
  }

  /** Whether the sum is another one now. */
  function tell(pollId: string, instance: string, told: Told): boolean {
    const poll = followed.get(pollId);
    const before = poll?.others.get(instance);
    if (poll === undefined || instance === link.id || (before !== undefined && before.seq > told.seq)) return false;
    // Who is at 0 stays known: an older number may be under way.
    poll.others.set(instance, told);
    poll.total += told.watching - (before?.watching ?? 0);
    return told.watching !== (before?.watching ?? 0);
  }

  function forget(pollId: string, instance: string): boolean {
    const poll = followed.get(pollId);
    const told = poll?.others.get(instance);
    if (poll === undefined || told === undefined) return false;
    poll.others.delete(instance);
    poll.total -= told.watching;
    return told.watching !== 0;
  }

  async function beat(): Promise<void> {
    const { speaker } = link;
    if (speaker === null) return;
    await speaker.set(lifeOf(link.id), '1', 'PX', lifeMs);
    if (++beats % BEATS_OF_A_ROUND === 0) {
      for (const pollId of own.keys()) unreported.add(pollId);
      reportSoon();
    }
    const instances = new Set([...followed.values()].flatMap(({ others }) => [...others.keys()]));
    const dead = await deadOf(instances);
    for (const [pollId, { others }] of followed) {
      for (const instance of others.keys()) {
        if (!dead.has(instance)) continue;
        if (forget(pollId, instance)) changed(pollId);
        // It left its number behind.
        link.speaker?.hdel(hashOf(pollId), instance).catch(() => {});
      }
    }
  }

  async function deadOf(instances: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    if (instances.size === 0 || link.speaker === null) return new Set();
    const names = [...instances];
    const signs = await link.speaker.mget(names.map(lifeOf));
    return new Set(names.filter((_, index) => signs[index] === null));
  }

  /** The first at once, then all that changed meanwhile together. */
  function reportSoon(): void {
    if (closed || reporting !== null || unreported.size === 0) return;
    reporting = clock.after(Math.max(0, reportedAt + reportMs - clock.now()), () => {
      reportedAt = clock.now();
      void attempt('a report', report).then(() => {
        reporting = null;
        // What could not be said waits for Redis.
        if (link.speaker !== null) reportSoon();
      });
    });
  }

  async function report(): Promise<void> {
    const changes = [...unreported];
    unreported = new Set();
    for (let from = 0; from < changes.length; from += AT_ONCE) {
      const some = changes.slice(from, from + AT_ONCE);
      try {
        await reportSome(some);
      } catch (error) {
        for (const pollId of changes.slice(from)) unreported.add(pollId);
        throw error;
      }
    }
  }

  async function reportSome(pollIds: readonly string[]): Promise<void> {
    const { speaker } = link;
    if (speaker === null) throw new Error('Redis is away');
    const commands = speaker.pipeline();
    const numbers = pollIds.map((pollId) => ({ pollId, watching: own.get(pollId) ?? 0, seq: ++seq }));
    for (const { pollId, watching, seq } of numbers) {
      if (watching === 0) commands.hdel(hashOf(pollId), link.id);
      else commands.hset(hashOf(pollId), link.id, `${seq} ${watching}`).pexpire(hashOf(pollId), hashMs);
    }
    for (const [error] of (await commands.exec()) ?? []) if (error !== null) throw error;
    for (const number of numbers) channels.say({ kind: 'audience', ...number });
  }

  /** After a subscription stands: what was said before is in the hashes. */
  function readSoon(): void {
    if (closed || reading !== null || unread.size === 0) return;
    reading = clock.after(0, () => {
      void attempt('a look', read).then(() => {
        reading = null;
        if (link.speaker !== null) readSoon();
      });
    });
  }

  async function read(): Promise<void> {
    const pollIds = [...unread];
    unread = new Set();
    for (let from = 0; from < pollIds.length; from += AT_ONCE) {
      const some = pollIds.slice(from, from + AT_ONCE);
      try {
        await readSome(some);
      } catch (error) {
        for (const pollId of pollIds.slice(from)) unread.add(pollId);
        throw error;
      }
    }
  }

  async function readSome(pollIds: readonly string[]): Promise<void> {
    const { speaker } = link;
    if (speaker === null) throw new Error('Redis is away');
    const look = ++looks;
    const hashes = await Promise.all(pollIds.map((pollId) => speaker.hgetall(hashOf(pollId))));
    const instances = new Set(hashes.flatMap((hash) => Object.keys(hash)));
    instances.delete(link.id);
    const dead = await deadOf(instances);
    for (const [index, pollId] of pollIds.entries()) {
      const hash = hashes[index] ?? {};
      let moved = false;
      for (const [instance, text] of Object.entries(hash)) {
        const [, seq, watching] = /^(\d{1,15}) (\d{1,15})$/.exec(text) ?? [];
        if (seq === undefined || watching === undefined || dead.has(instance)) continue;
        if (tell(pollId, instance, { seq: Number(seq), watching: Number(watching), look })) moved = true;
      }
      // Who is not there any more, unless it was heard of while we looked.
      for (const [instance, told] of followed.get(pollId)?.others ?? []) {
        if (told.look < look && !(instance in hash) && forget(pollId, instance)) moved = true;
      }
      if (moved) changed(pollId);
    }
  }
}
