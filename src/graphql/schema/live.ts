/** The subscriptions on a poll, and the query that polls for its results. */

import { InvalidInputError } from '../../core/errors.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { PollView, Topic } from '../../live/hub.ts';
import { builder } from './builder.ts';
import { PollType } from './polls.ts';
import { PollResults } from './results.ts';
import { shownResults, visible } from './visible.ts';

const PollAudience = builder.objectRef<{ pollId: string; watching: number }>('PollAudience').implement({
  description: 'How many watch a poll now.',
  fields: (t) => ({
    pollId: t.exposeID('pollId', { description: 'The poll.' }),
    watching: t.exposeInt('watching', { description: 'Subscribers and waiting long polls, over all transports.' }),
  }),
});

builder.queryField('pollResults', (t) =>
  t.field({
    type: PollResults,
    nullable: true,
    description: 'The results as they stand; null where there is no such poll.',
    args: {
      pollId: t.arg.id({ required: true, description: 'The poll.' }),
      afterVersion: t.arg.int({
        description: 'The version that you have: with `waitMs`, the answer waits until there is a newer one.',
      }),
      waitMs: t.arg.int({
        defaultValue: 0,
        description:
          'How long to wait at most, in milliseconds, 0 to 30 000; then the current results are answered. Takes `afterVersion`.',
      }),
    },
    resolve: async (_, { pollId, afterVersion, waitMs }, ctx) => {
      const { pollView } = ctx;
      if (pollView instanceof Error) throw pollView;
      if (pollView !== undefined) return pollView === null ? null : shownResults(pollView, ctx);
      const wait = readWait(afterVersion, waitMs);
      if (wait !== null) await ctx.services.hub.newer(pollId, wait.afterVersion, wait.waitMs);
      const view = visible(await ctx.services.hub.read(pollId), ctx);
      return view === null ? null : shownResults(view, ctx);
    },
  }),
);

/** What to wait for; null: nothing. Throws `InvalidInputError`. */
export function readWait(
  afterVersion: number | null | undefined,
  waitMs: number | null | undefined,
): { readonly afterVersion: number; readonly waitMs: number } | null {
  const ms = waitMs ?? 0;
  if (ms < 0 || ms > LIMITS.waitMs) throw new InvalidInputError(`waitMs: ${ms}, must be 0 to ${LIMITS.waitMs}.`);
  if (ms === 0) return null;
  if (afterVersion == null) throw new InvalidInputError('waitMs: takes afterVersion, the version that you have.');
  return { afterVersion, waitMs: ms };
}

/**
 * What a subscription field answers: what to watch. A transport hands it to the hub, which runs it once for a whole
 * group; it is never iterated.
 */
export class LiveSource<Event> implements AsyncIterable<Event> {
  readonly pollId: string;
  readonly topic: Topic;
  readonly after: number | null;
  readonly everyMs: number;
  /** What the field is resolved from. */
  readonly event: (view: PollView) => unknown;

  constructor(
    source: {
      readonly pollId: string;
      readonly topic: Topic;
      readonly after?: number | null;
      readonly everyMs?: number;
    },
    event: (view: PollView) => Event | Promise<Event>,
  ) {
    this.pollId = source.pollId;
    this.topic = source.topic;
    this.after = source.after ?? null;
    this.everyMs = source.everyMs ?? 0;
    this.event = event;
  }

  [Symbol.asyncIterator](): AsyncIterator<Event> {
    throw new Error('A live source is watched through the hub, not iterated.');
  }
}

const MOST_EVERY_MS = 3_600_000;

builder.subscriptionFields((t) => ({
  pollResults: t.field({
    type: PollResults,
    description:
      'The results, whole: first as they stand, then whenever they change, at most one update an interval. Ends after the final ones.',
    args: {
      pollId: t.arg.id({ required: true, description: 'The poll; an error where there is none.' }),
      afterVersion: t.arg.int({
        description:
          'The version that you have. If it is the newest, the first update is the next one; else the newest comes at once. A lower version than yours means that the server was restored from a copy.',
      }),
      everyMs: t.arg.int({
        description:
          'At most one update in that many milliseconds, 0 to 3 600 000. A change after a quiet interval and the final results come at once.',
      }),
    },
    subscribe: (_, { pollId, afterVersion, everyMs }) => {
      if (everyMs != null && (everyMs < 0 || everyMs > MOST_EVERY_MS)) {
        throw new InvalidInputError(`everyMs: ${everyMs}, must be 0 to ${MOST_EVERY_MS}.`);
      }
      const source = { pollId, topic: 'results', after: afterVersion ?? null, everyMs: everyMs ?? 0 } as const;
      return new LiveSource<PollView>(source, (view) => view);
    },
    resolve: (view: PollView, _, ctx) => shownResults(view, ctx),
  }),
  pollChanged: t.field({
    type: PollType,
    description:
      'The poll: first as it stands, then whenever its settings or its status change (not with every vote). Ends when it is closed.',
    args: { pollId: t.arg.id({ required: true, description: 'The poll; an error where there is none.' }) },
    subscribe: (_, { pollId }) => new LiveSource<PollView>({ pollId, topic: 'poll' }, (view) => view),
    resolve: (view: PollView) => view,
  }),
  pollAudience: t.field({
    type: PollAudience,
    description:
      'How many watch a poll, over all transports: first as it is, then whenever it changes, at most once a second. Who only watches this does not count.',
    args: { pollId: t.arg.id({ required: true, description: 'The poll; an error where there is none.' }) },
    subscribe: (_, { pollId }) =>
      new LiveSource<{ pollId: string; watching: number }>({ pollId, topic: 'audience', everyMs: 1_000 }, (view) => ({
        pollId,
        watching: view.watching(),
      })),
    resolve: (audience: { pollId: string; watching: number }) => audience,
  }),
}));
