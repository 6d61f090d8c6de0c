/** The bus and the presence of many instances, over one Redis. */
import type { Bus, Clock, Log, Metrics, Presence } from '../core/ports.ts';
import { makeChannels } from './channels.ts';
import { openLink } from './link.ts';
import { makeRedisPresence, type PresenceTimes } from './presence.ts';

export interface RedisBusOptions {
  /** `redis://` or `rediss://`, with user, password and the number of a database where they are needed. */
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: Pick<Metrics, 'busMessage' | 'busLag'>;
  readonly times?: Partial<PresenceTimes> & { readonly pulseMs?: number };
}

/** Never throws for want of a Redis: whatever its state, the instance serves, and what is missed is read from the database. */
export function openRedisBus({ url, clock, log, metrics, times = {} }: RedisBusOptions): {
  readonly bus: Bus;
  readonly presence: Presence;
  /** The connection for commands, which queues nothing while it is away. */
  readonly shared: object;
} {
  const { pulseMs, ...presenceTimes } = times;
  const link = openLink({ url, clock, log, ...(pulseMs === undefined ? {} : { pulseMs }) });
  const channels = makeChannels({ link, clock, log, metrics });
  const presence = makeRedisPresence({ link, channels, clock, log, times: presenceTimes });
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
  return { bus, presence, shared: link.commands };
}
