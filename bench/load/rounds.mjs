// The closed loop: one vote, all watchers see it, the next vote.
import { cpuOf, shares } from '../lib/proc.mjs';
import { httpBallots } from './ballots.mjs';
import { openHttpLine } from './lines.mjs';
import { pause, quantiles, until } from './timing.mjs';

const STUCK_MS = 15_000;

/**
 * Casts a vote whenever every watcher has seen the one before. `ahead` (0) is how many votes may be under way beyond the
 * one that is being delivered: at 0 the server idles between two updates for as long as a vote takes, at 1 it never does.
 * Times run from the moment at which the vote was sent. Nobody else may vote in the poll meanwhile.
 */
export async function rounds(crowd, { port, polls, warmup, seconds, ahead = 0, cpu = {} }) {
  const { watchers } = crowd;
  const castAt = new Map();
  const firsts = [];
  const lasts = [];
  let newest; // the version that the last vote makes
  let everywhere; // the version that all have reached
  let target; // the version that is on its way to them
  let behind = 0;
  let firstAt = 0;
  let casting = false;
  let trouble;
  let onAcknowledged;
  let over = false;

  const done = (_line, _at, kind, version) => onAcknowledged(kind, version);
  const line = await openHttpLine({ port, ballot: httpBallots(polls.slice(0, 1)), done });

  // A server need not send its state to those who join, so the first vote tells where the versions are.
  newest = await new Promise((resolve, reject) => {
    onAcknowledged = (kind, version) =>
      kind === 'RECORDED' ? resolve(version) : reject(new Error(`a vote was answered with ${kind}`));
    line.send(performance.now());
  });
  const late = () => watchers.filter((watcher) => watcher.seen < newest).length;
  await until(
    () => late() === 0,
    STUCK_MS,
    () => `${late()} of ${watchers.length} watchers never saw version ${newest}: ${JSON.stringify(crowd.faults)}`,
  );
  everywhere = newest;
  target = newest;

  onAcknowledged = (kind, version) => {
    casting = false;
    if (kind !== 'RECORDED') trouble = `a vote was answered with ${kind}`;
    else if (version !== newest) trouble = `a vote made version ${version} instead of ${newest}`;
    else castNext();
  };
  crowd.onSeen = (_watcher, before, version) => {
    if (before >= target || version < target) return;
    if (firstAt === 0) firstAt = performance.now();
    behind -= 1;
    if (behind === 0) reached();
  };
  castNext();
  await pause(warmup * 1000);

  firsts.length = 0;
  lasts.length = 0;
  const start = { at: performance.now(), deliveries: crowd.deliveries, bytes: crowd.payloadBytes, cpu: cpuOf(cpu) };
  await pause(seconds * 1000);
  const took = (performance.now() - start.at) / 1000;
  const deliveries = crowd.deliveries - start.deliveries;
  const bytes = crowd.payloadBytes - start.bytes;
  const used = shares(start.cpu, cpuOf(cpu), took);

  over = true;
  await until(
    () => !casting && newest === everywhere,
    STUCK_MS,
    () => trouble ?? `${behind} watchers never saw version ${target}: ${JSON.stringify(crowd.faults)}`,
  );
  crowd.onSeen = () => {};
  line.close();
  return {
    perSecond: deliveries / took,
    deliveries,
    seconds: took,
    bytesEach: bytes / deliveries,
    firstSeen: quantiles(firsts),
    lastSeen: quantiles(lasts),
    backwards: crowd.backwards,
    faults: crowd.faults,
    cpu: used,
  };

  function castNext() {
    if (over || casting || trouble !== undefined || newest - everywhere > ahead) return;
    casting = true;
    newest += 1;
    castAt.set(newest, performance.now());
    line.send(performance.now());
    if (target === everywhere) aim();
  }

  function aim() {
    target = everywhere + 1;
    behind = watchers.length;
    firstAt = 0;
    for (const watcher of watchers) if (watcher.seen >= target) behind -= 1;
    if (behind === 0) reached();
  }

  function reached() {
    const now = performance.now();
    firsts.push((firstAt || now) - castAt.get(target));
    lasts.push(now - castAt.get(target));
    castAt.delete(target);
    everywhere = target;
    castNext();
    if (target === everywhere && newest > everywhere) aim();
  }
}
