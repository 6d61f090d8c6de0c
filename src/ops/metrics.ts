/**
 * What `GET /metrics` shows. Each app has its own registry. What happens often is counted in plain fields, which are read
 * when somebody looks; what is there at a moment is asked for then.
 */
import { AggregatorRegistry, Counter, Gauge, prometheusContentType, Registry } from 'prom-client';
import type { ErrorCode } from '../core/errors.ts';
import type { Stop } from '../ports/clock.ts';
import type { AnomalyKind, Metrics, VoteEnd } from '../ports/metrics.ts';
import { PlainHistogram } from './histogram.ts';
import { measureProcess } from './process.ts';

/** What is there at the moment. */
export interface Readings {
  readonly ballotsWaiting: number;
  readonly watchers: Readonly<Record<string, number>>;
  readonly webSockets: number;
  readonly database: { readonly operations: number; readonly connections: number };
}

export interface Meters extends Metrics {
  /** All metrics as prom-client's JSON, which `renderMetrics` makes a page of. */
  snapshot(): Promise<Snapshot>;
  stop: Stop;
}

export type Snapshot = readonly object[];

export const METRICS_TYPE = prometheusContentType;

/** One page for the snapshots of all workers: sums, where a metric does not say otherwise. */
export function renderMetrics(snapshots: readonly Snapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate([...snapshots]).metrics();
}

const ERRORS: Record<ErrorCode, 0> = {
  NOT_FOUND: 0,
  NOT_ALLOWED: 0,
  POLL_NOT_OPEN: 0,
  ALREADY_VOTED: 0,
  INVALID_BALLOT: 0,
  INVALID_INPUT: 0,
  RATE_LIMITED: 0,
  UNAVAILABLE: 0,
  UNAUTHENTICATED: 0,
};

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** `read` is called when somebody looks, and not before. */
export function makeMetrics(read: () => Readings): Meters {
  const registry = new Registry();
  const registers = [registry];
  const stop = measureProcess(registry);

  // From the start on, so that a first error is a rise from 0.
  const votes: Record<VoteEnd, number> = { RECORDED: 0, UNCHANGED: 0, REPLACED: 0, ...ERRORS, FAULT: 0 };
  const updates = { delivered: 0, conflated: 0, cut: 0 };
  const busMessages = new Map<string, number>();
  const refused = new Map<string, number>();
  const anomalies: Record<AnomalyKind, number> = { VOTE_BURST: 0, CODE_BURST: 0, EARLY_VOTES: 0 };

  counter('pollcast_votes_total', 'Votes that were answered, by what became of them.', 'outcome', () =>
    Object.entries(votes).map(([end, count]) => [end.toLowerCase(), count]),
  );
  const voteSeconds = histogram(
    'pollcast_vote_seconds',
    'Time from the arrival of a vote to its answer, in seconds.',
    SECONDS,
  );
  const batchSeconds = histogram('pollcast_batch_seconds', 'Time to commit a batch of ballots, in seconds.', SECONDS);
  const batchBallots = histogram(
    'pollcast_batch_ballots',
    'Ballots in a batch.',
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000],
  );
  gauge('pollcast_ballots_waiting', 'Ballots that wait for their batch to be committed.', () => read().ballotsWaiting);

  gauges('pollcast_watchers', 'Who waits for updates, by transport.', 'transport', () =>
    Object.entries(read().watchers),
  );
  gauge('pollcast_websocket_connections', 'Open WebSocket connections.', () => read().webSockets);
  counter(
    'pollcast_updates_delivered_total',
    'Updates that were sent to watchers, answers to polling included.',
    null,
    () => updates.delivered,
  );
  counter(
    'pollcast_updates_conflated_total',
    'Updates that a newer one replaced before a slow reader had them.',
    null,
    () => updates.conflated,
  );
  counter(
    'pollcast_readers_cut_total',
    'Readers that were cut off because they made no progress.',
    null,
    () => updates.cut,
  );

  counter('pollcast_bus_messages_total', 'Messages between instances, by what became of them.', 'outcome', () => [
    ...busMessages,
  ]);
  const busSeconds = histogram(
    'pollcast_bus_lag_seconds',
    'How long a message between instances was under way, in seconds.',
    SECONDS,
  );
  counter('pollcast_refused_total', 'Requests and connections that a limit refused, by limit.', 'limit', () => [
    ...refused,
  ]);

  counter('pollcast_anomalies_total', 'Votes and failed codes that were part of an anomaly, by its kind.', 'kind', () =>
    Object.entries(anomalies).map(([kind, count]) => [kind.toLowerCase(), count]),
  );

  gauge(
    'pollcast_database_operations',
    'Database operations under way, those that wait for a connection included.',
    () => read().database.operations,
  );
  gauge('pollcast_database_connections', 'The most database connections at once.', () => read().database.connections);
  gauge('pollcast_workers', 'Processes whose figures these are.', () => 1);

  return {
    vote(end, milliseconds) {
      votes[end]++;
      voteSeconds.add(milliseconds / 1e3);
    },
    batch(ballots, milliseconds) {
      batchBallots.add(ballots);
      batchSeconds.add(milliseconds / 1e3);
    },
    delivered(count) {
      updates.delivered += count;
    },
    conflated() {
      updates.conflated++;
    },
    cut() {
      updates.cut++;
    },
    busMessage: (outcome) => void raise(busMessages, outcome),
    // The clocks of two machines differ: what seems to have come before it was sent came at once.
    busLag: (milliseconds) => busSeconds.add(Math.max(0, milliseconds) / 1e3),
    anomaly(kind, count) {
      anomalies[kind] += count;
    },
    refused: (kind) => void raise(refused, kind),
    snapshot: () => registry.getMetricsAsJSON(),
    stop,
  };

  function histogram(name: string, help: string, bounds: readonly number[]): PlainHistogram {
    return new PlainHistogram({ name, help, bounds }, registry);
  }

  /** `count` gives one number, or one for each value of the label. */
  function counter(
    name: string,
    help: string,
    label: string | null,
    count: () => number | readonly (readonly [string, number])[],
  ): void {
    const labelNames = label === null ? [] : [label];
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        const counts = count();
        if (typeof counts === 'number') this.inc(counts);
        else for (const [value, each] of counts) this.inc(label === null ? {} : { [label]: value }, each);
      },
    });
  }

  function gauge(name: string, help: string, now: () => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(now());
      },
    });
  }

  function gauges(name: string, help: string, label: string, now: () => readonly (readonly [string, number])[]): void {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        for (const [value, each] of now()) this.set({ [label]: value }, each);
      },
    });
  }
}

function raise(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
