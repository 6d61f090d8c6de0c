/** The bus and the presence of many instances, over one Redis. */
import type { Bus } from '../../ports/bus.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Presence, SharedCounts } from '../../ports/presence.ts';
import { makeChannels } from './channels.ts';
import { openRedisLink } from './link.ts';
import { makeRedisPresence, type PresenceTimes } from './presence.ts';

export interface RedisBusOptions {
  /** `redis://` or `rediss://`, with user, password and the number of a database where they are needed. */
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: Pick<Metrics, 'busMessage' | 'busLag'>;
  readonly times?: Partial<PresenceTimes> & { readonly pulseMs?: number };
}

/** An address that comes back after a crash must not find its places taken for long; and a flood is seen by all soon. */
const PLACES_TIMES: PresenceTimes = { beatMs: 2_000, lifeMs: 6_000, reportMs: 100 };

/** Never throws for want of a Redis: whatever its state, the instance serves, and what is missed is read from the database. */
export function openRedisBus({ url, clock, log, metrics, times = {} }: RedisBusOptions): {
  readonly bus: Bus;
  readonly presence: Presence;
  readonly places: SharedCounts;
  /** The connection for commands, which queues nothing while it is away. */
  readonly shared: object;
} {
  const { pulseMs, ...presenceTimes } = times;
  const link = openRedisLink({ url, clock, log, ...(pulseMs === undefined ? {} : { pulseMs }) });
  const channels = makeChannels({ link, clock, log, metrics });
  const parts = { link, channels, clock, log };
  const presence = makeRedisPresence({ ...parts, kind: 'audience', times: presenceTimes });
  const counted = makeRedisPresence({ ...parts, kind: 'places', times: { ...PLACES_TIMES, ...presenceTimes } });
  const places: SharedCounts = {
    ...counted,
    // What was heard before Redis went away may not be true any more, and nobody is turned away for it.
    total: (name) => (link.connected ? counted.total(name) : 0),
  };
  const bus: Bus = {
    alone: false,
    get connected() {
      return link.connected;
    },
    stats: channels.stats,
    publish: channels.say,
    subscribe: (pollId, onNews, onStanding) => channels.listen(pollId, { onNews, onStanding }),
    close: link.close,
  };
  return { bus, presence, places, shared: link.commands };
}
