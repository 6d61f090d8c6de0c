/** The channels of polls, one a poll: a message is decoded once, however many in this process listen. */
import type { BusStats, PollNews } from '../../ports/bus.ts';
import type { Clock, Stop } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { RedisLink } from './link.ts';
import { type AudienceNews, decode, encode, ownBeginning } from './message.ts';

export interface Listener {
  readonly onNews?: (news: PollNews) => void;
  readonly onAudience?: (news: AudienceNews) => void;
  readonly onStanding: () => void;
}

export interface Channels {
  readonly stats: BusStats;
  say(news: PollNews | Omit<AudienceNews, 'from'>): void;
  listen(pollId: string, ear: Listener): Stop;
}

export function makeChannels(options: {
  readonly link: RedisLink;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: Pick<Metrics, 'busMessage' | 'busLag'> | undefined;
}): Channels {
  const { link, clock, log, metrics } = options;
  const lines = new Map<string, { readonly ears: Set<Listener>; readonly stop: Stop }>();
  const own = ownBeginning(link.id);
  const stats = { published: 0, dropped: 0, received: 0, malformed: 0, lagMs: null as number | null };

  return {
    stats,
    say(news) {
      const sent =
        link.speaker !== null && link.publish(link.name('poll', news.pollId), encode(news, link.id, clock.now()));
      if (sent) stats.published++;
      else stats.dropped++;
      metrics?.busMessage(sent ? 'sent' : 'dropped');
    },
    listen(pollId, ear) {
      const known = lines.get(pollId);
      const line = known ?? open(pollId);
      line.ears.add(ear);
      if (known !== undefined && link.stands(link.name('poll', pollId))) {
        queueMicrotask(() => {
          if (line.ears.has(ear)) ear.onStanding();
        });
      }
      return () => {
        if (!line.ears.delete(ear) || line.ears.size > 0) return;
        line.stop();
        lines.delete(pollId);
      };
    },
  };

  function open(pollId: string) {
    const ears = new Set<Listener>();
    const stop = link.listen(
      link.name('poll', pollId),
      (payload) => hear(pollId, ears, payload),
      () => {
        for (const ear of [...ears]) ear.onStanding();
      },
    );
    const line = { ears, stop };
    lines.set(pollId, line);
    return line;
  }

  function hear(pollId: string, ears: ReadonlySet<Listener>, payload: Buffer): void {
    // MUST NOT echo: an instance that took its own news for another's would never come to rest.
    if (payload.subarray(0, own.length).equals(own)) return;
    const parsed = decode(payload, pollId);
    if ('malformed' in parsed) {
      stats.malformed++;
      metrics?.busMessage('malformed');
      log.debug({ pollId, reason: parsed.malformed }, 'a message on the bus is not understood');
      return;
    }
    const { news, sentAt } = parsed;
    stats.received++;
    stats.lagMs = Math.max(0, clock.now() - sentAt);
    metrics?.busMessage('received');
    metrics?.busLag(stats.lagMs);
    for (const ear of [...ears]) {
      if (news.kind === 'audience') ear.onAudience?.(news);
      else ear.onNews?.(news);
    }
  }
}
