/** The metrics say what happened, exactly, and each app counts its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { makeMetrics, renderMetrics } from '../../src/ops/metrics.ts';
import { castVote, createPoll, manage, newVoter } from '../support/api.ts';
import { eventually, overEvents, overWebSocket } from '../support/peers.ts';
import { readSamples, scrape } from '../support/scrape.ts';
import { ROOT, startServer } from '../support/server.ts';
import { TRANSPORTS } from '../support/transports.ts';

const READINGS = { ballotsWaiting: 0, watchers: {}, webSockets: 0, database: { operations: 0, connections: 1 } };

describe('metrics of a server', () => {
  test('votes by outcome, their times and batches', async () => {
    await using server = await startServer();
    await using other = await startServer();
    const poll = await createPoll(server.graphql, { allowVoteChange: true });
    const strict = await createPoll(server.graphql);
    const { voterToken } = await newVoter(server.graphql);
    const cast = (pollId: string, choiceId: string | undefined) =>
      castVote(server.graphql, { pollId, choiceIds: [choiceId], voterToken });
    const before = await scrape(server.url);
    expect(before.get('pollcast_votes_total{outcome="recorded"}')).toBe(0);

    await cast(poll.id, poll.choiceIds[0]);
    await cast(poll.id, poll.choiceIds[0]);
    await cast(poll.id, poll.choiceIds[1]);
    await cast(strict.id, strict.choiceIds[0]);
    await cast(strict.id, strict.choiceIds[1]);
    await cast(strict.id, 'nonsense');
    await cast('nonsense', 'nonsense');
    await manage(server.graphql, 'closePoll', strict);
    await castVote(server.graphql, { pollId: strict.id, choiceIds: [strict.choiceIds[0]] });

    const after = await scrape(server.url);
    const votes = Object.fromEntries(
      [...after].flatMap(([name, value]) => {
        const outcome = /^pollcast_votes_total\{outcome="(\w+)"\}$/.exec(name)?.[1];
        return outcome === undefined ? [] : [[outcome, value]];
      }),
    );
    expect(votes).toEqual({
      recorded: 2,
      unchanged: 1,
      replaced: 1,
      already_voted: 1,
      invalid_ballot: 1,
      not_found: 1,
      poll_not_open: 1,
      not_allowed: 0,
      invalid_input: 0,
      rate_limited: 0,
      unavailable: 0,
      unauthenticated: 0,
      fault: 0,
    });
    expect(after.get('pollcast_vote_seconds_count')).toBe(8);
    expect(after.get('pollcast_vote_seconds_bucket{le="+Inf"}')).toBe(8);
    expect(after.get('pollcast_vote_seconds_sum')).toBeGreaterThan(0);
    // Of one after the other each had a batch of its own; two never came so far, nor did the one whose poll is known as closed.
    const batches = after.get('pollcast_batch_seconds_count') ?? 0;
    expect(after.get('pollcast_batch_ballots_sum')).toBe(batches);
    expect(batches).toBeGreaterThanOrEqual(5);
    expect(after.get('pollcast_batch_ballots_bucket{le="1"}')).toBe(batches);
    expect(after.get('pollcast_ballots_waiting')).toBe(0);
    expect(after.get('pollcast_database_operations')).toBe(0);

    expect((await scrape(other.url)).get('pollcast_vote_seconds_count')).toBe(0);
  });

  test('who watches, by transport, until they have left; updates delivered', async () => {
    await using server = await startServer();
    const poll = await createPoll(server.graphql);
    const watchers = async () => {
      const samples = await scrape(server.url);
      return ['websocket', 'graphql-sse', 'sse', 'long-poll'].map((name) =>
        samples.get(`pollcast_watchers{transport="${name}"}`),
      );
    };
    const clients = await Promise.all(
      TRANSPORTS.filter(([name]) => name !== 'short polling').map(async ([, open]) => {
        const client = await open(server.url, poll.id);
        await client.next();
        return client;
      }),
    );
    await eventually(async () => (await watchers()).join() === '1,1,1,2', 'one of each, and two that poll');
    const before = (await scrape(server.url)).get('pollcast_updates_delivered_total') ?? 0;
    // The first answer of GraphQL long polling is an ordinary query.
    expect(before).toBe(4);
    await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
    for (const client of clients) expect(await client.next()).toMatchObject({ results: { ballotCount: 1 } });
    await eventually(
      async () => (await scrape(server.url)).get('pollcast_updates_delivered_total') === before + 5,
      'five updates more',
    );
    expect((await scrape(server.url)).get('pollcast_websocket_connections')).toBe(1);
    for (const client of clients) await client[Symbol.asyncDispose]();
    await eventually(async () => (await watchers()).join() === '0,0,0,0', 'nobody is left');
    expect((await scrape(server.url)).get('pollcast_websocket_connections')).toBe(0);
  });

  test('updates that a slow reader never saw, and the reader that was cut off', async () => {
    await using server = await startServer({ LIVE_INTERVAL_MS: '1' }, { stallMs: 200 });
    const poll = await createPoll(server.graphql, {
      choices: Array.from({ length: 100 }, (_, n) => `${n} ${'z'.repeat(190)}`),
    });
    await using awake = await overWebSocket(server.graphql, { pollId: poll.id });
    await using stuck = await overEvents(server.graphql, { pollId: poll.id });
    await Promise.all([awake.next(), stuck.next()]);
    stuck.pause();
    await eventually(async () => {
      const { receipt } = await castVote(server.graphql, { pollId: poll.id, choiceIds: [poll.choiceIds[0]] });
      await awake.until(({ version }) => version >= receipt.version);
      return (await scrape(server.url)).get('pollcast_readers_cut_total') === 1;
    }, 'the stuck reader is cut off');
    expect((await scrape(server.url)).get('pollcast_updates_conflated_total')).toBeGreaterThan(0);
  });

  test('docs/metrics.md names every metric, and no other', async () => {
    await using server = await startServer();
    const page = await (await fetch(`${server.url}/metrics`)).text();
    const told = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
    const names = [...told.matchAll(/^\| (`.*?) \|/gm)]
      .flatMap(([, cell = '']) => [...cell.matchAll(/`([a-z_…0-9]+)/g)])
      .map(([, name = '']) => name.replace(/^…(.*)…$/, 'nodejs_eventloop_lag$1seconds'));
    expect(names.sort()).toEqual([...page.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name).sort());
  });

  test('what the process costs, in plausible units', async () => {
    await using server = await startServer();
    const samples = await scrape(server.url);
    const of = (name: string): number => samples.get(name) ?? Number.NaN;
    expect(of('process_resident_memory_bytes')).toBeGreaterThan(20e6);
    expect(of('nodejs_heap_size_used_bytes')).toBeGreaterThan(5e6);
    expect(of('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(of('process_start_time_seconds')).toBeGreaterThan(Date.now() / 1e3 - 24 * 3600);
    expect(of('process_start_time_seconds')).toBeLessThan(Date.now() / 1e3);
    for (const name of ['p50', 'p90', 'p99', 'max']) {
      expect(of(`nodejs_eventloop_lag_${name}_seconds`)).toBeGreaterThanOrEqual(0);
      expect(of(`nodejs_eventloop_lag_${name}_seconds`)).toBeLessThan(60);
    }
    expect(of('nodejs_eventloop_utilization_ratio')).toBeLessThanOrEqual(1);
  });
});

describe('metrics of several workers', () => {
  test('one page: counts are summed, buckets too; the latest loop, the oldest start', async () => {
    const one = makeMetrics(() => ({ ...READINGS, watchers: { sse: 3 } }));
    const two = makeMetrics(() => ({ ...READINGS, watchers: { sse: 4, websocket: 1 } }));
    for (const milliseconds of [0.5, 3, 3, 20_000]) one.vote('RECORDED', milliseconds);
    two.vote('RECORDED', 3);
    two.refused('votes');
    two.refused('votes');
    one.busMessage('received');
    // A clock that is behind.
    one.busLag(-40);
    one.busLag(30);
    const samples = readSamples(await renderMetrics([await one.snapshot(), await two.snapshot()]));
    expect(samples.get('pollcast_votes_total{outcome="recorded"}')).toBe(5);
    expect(samples.get('pollcast_vote_seconds_bucket{le="0.001"}')).toBe(1);
    expect(samples.get('pollcast_vote_seconds_bucket{le="0.005"}')).toBe(4);
    expect(samples.get('pollcast_vote_seconds_bucket{le="10"}')).toBe(4);
    expect(samples.get('pollcast_vote_seconds_bucket{le="+Inf"}')).toBe(5);
    expect(samples.get('pollcast_vote_seconds_sum')).toBeCloseTo(20.0095);
    expect(samples.get('pollcast_watchers{transport="sse"}')).toBe(7);
    expect(samples.get('pollcast_watchers{transport="websocket"}')).toBe(1);
    expect(samples.get('pollcast_refused_total{limit="votes"}')).toBe(2);
    expect(samples.get('pollcast_bus_messages_total{outcome="received"}')).toBe(1);
    expect(samples.get('pollcast_bus_lag_seconds_sum')).toBeCloseTo(0.03);
    expect(samples.get('pollcast_workers')).toBe(2);
    expect(samples.get('process_start_time_seconds')).toBeCloseTo(performance.timeOrigin / 1e3, 0);
    one.stop();
    two.stop();
  });
});
