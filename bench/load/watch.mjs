// A process full of watchers; the driver tells it what to do.
import { cpuOf, shares } from '../lib/proc.mjs';
import { openCrowd } from './crowd.mjs';
import { serve } from './ipc.mjs';
import { pace } from './pace.mjs';
import { openPollers } from './pollers.mjs';
import { rounds } from './rounds.mjs';
import { pause } from './timing.mjs';

let crowd;

serve({
  async open(options) {
    const open = options.dialect.endsWith('-poll') ? openPollers : openCrowd;
    crowd = await open(options);
    return { watchers: crowd.watchers.length };
  },

  rounds: (options) => rounds(crowd, options),

  pace: (options) => pace(crowd, options),

  /** Only looks on, while somebody else votes. */
  async count({ seconds, cpu = {} }) {
    const start = { at: performance.now(), deliveries: crowd.deliveries, cpu: cpuOf(cpu) };
    await pause(seconds * 1000);
    const took = (performance.now() - start.at) / 1000;
    return {
      perSecond: (crowd.deliveries - start.deliveries) / took,
      cpu: shares(start.cpu, cpuOf(cpu), took),
      backwards: crowd.backwards,
      faults: crowd.faults,
      oldest: crowd.watchers.reduce((least, watcher) => Math.min(least, watcher.seen), Infinity),
      newest: crowd.watchers.reduce((most, watcher) => Math.max(most, watcher.seen), -1),
    };
  },

  close() {
    crowd.close();
    return null;
  },
});
