/** What the process itself costs and how late its loop is, under the names that dashboards for Node know. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { type Aggregator, Counter, Gauge, type Registry } from 'prom-client';
import type { Stop } from '../ports/clock.ts';

const RESOLUTION_MS = 20;

/** prom-client's own default metrics cannot be stopped: they leave a monitor and an observer behind for each registry. */
export function measureProcess(registry: Registry): Stop {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  let busy = performance.eventLoopUtilization();

  for (const percent of [50, 90, 99]) {
    gauge(
      `nodejs_eventloop_lag_p${percent}_seconds`,
      `How late the event loop was since the last look, ${percent} % of the time at most; of several workers the latest.`,
      'max',
      () => lateness(delay.percentile(percent)),
    );
  }
  // The last to be read: with it the next span begins.
  gauge('nodejs_eventloop_lag_max_seconds', 'The same, at worst.', 'max', () => {
    const most = lateness(delay.max);
    delay.reset();
    return most;
  });
  gauge(
    'nodejs_eventloop_utilization_ratio',
    'The share of the time since the last look in which the event loop was busy, 0 to 1; of several workers the average.',
    'average',
    () => {
      const before = busy;
      busy = performance.eventLoopUtilization();
      return performance.eventLoopUtilization(busy, before).utilization;
    },
  );
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time spent, in seconds.',
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  gauge('process_resident_memory_bytes', 'Memory that the process holds, in bytes.', 'sum', () =>
    process.memoryUsage.rss(),
  );
  gauge(
    'nodejs_heap_size_used_bytes',
    'Of the heap, what is in use, in bytes.',
    'sum',
    () => process.memoryUsage().heapUsed,
  );
  gauge('nodejs_heap_size_total_bytes', 'The whole heap, in bytes.', 'sum', () => process.memoryUsage().heapTotal);
  gauge(
    'nodejs_external_memory_bytes',
    'Buffers outside of the heap, in bytes.',
    'sum',
    () => process.memoryUsage().external,
  );
  gauge(
    'process_start_time_seconds',
    'When the process started, in seconds since 1970; of several workers the oldest.',
    'min',
    () => performance.timeOrigin / 1e3,
  );
  return () => void delay.disable();

  function gauge(name: string, help: string, aggregator: Aggregator, now: () => number): void {
    new Gauge({
      name,
      help,
      aggregator,
      registers: [registry],
      collect() {
        this.set(now());
      },
    });
  }
}

/** The monitor tells the time between two of its looks, in nanoseconds. */
function lateness(nanoseconds: number): number {
  return Math.max(0, (nanoseconds || 0) / 1e9 - RESOLUTION_MS / 1e3);
}
