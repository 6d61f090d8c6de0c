// Pollcast itself, but every vote is a transaction of its own, as most servers do it: side by side over the same pool of connections.
import { makeLog, startApp } from '../../dist/app.js';
import { readConfig } from '../../dist/config/config.js';

const alone = (store) => ({
  ...store,
  async castBallots(entries, now) {
    const results = await Promise.all(entries.map((entry) => store.castBallots([entry], now)));
    const latest = new Map();
    for (const { changes } of results) {
      for (const change of changes) {
        const known = latest.get(change.pollId);
        const added = [...(known?.added ?? []), ...change.added];
        const removed = [...(known?.removed ?? []), ...change.removed];
        const newest = known === undefined || change.version > known.version ? change : known;
        latest.set(change.pollId, { ...newest, added, removed });
      }
    }
    return { outcomes: results.flatMap(({ outcomes }) => outcomes), changes: [...latest.values()] };
  },
});

const config = readConfig(process.env);
const app = await startApp(config, { log: makeLog(config.logLevel, false), storeBehind: alone });
console.log(`listening at ${app.url}`);
process.once('SIGTERM', () => void app.stop().then(() => process.exit(0)));
