/** What looks unlike people voting, for those who manage a poll. */

import type { Anomaly } from '../../polls/votes/anomalies.ts';
import { ANOMALY_KINDS } from '../../ports/metrics.ts';
import { builder } from './builder.ts';
import { PollType } from './polls.ts';
import { words } from './results.ts';

const AnomalyKindType = builder.enumType('AnomalyKind', {
  description: 'What looks unlike people voting. None of it is refused for that.',
  values: words(ANOMALY_KINDS, {
    VOTE_BURST:
      'More than 100 votes of new voters from one network within 10 s. A full hall behind one address does that too.',
    CODE_BURST: 'More than 20 codes that are not valid within a minute, from wherever.',
    EARLY_VOTES:
      'Votes within 200 ms of the moment in which a DRAFT was opened, by hand or by time: faster than people choose.',
  }),
});

const AnomalyType = builder.objectRef<Anomaly>('Anomaly').implement({
  description: 'Something about the votes of a poll that is worth a look.',
  fields: (t) => ({
    kind: t.field({ type: AnomalyKindType, description: 'What it is.', resolve: ({ kind }) => kind }),
    count: t.exposeInt('count', { description: 'How many votes, or codes, were part of it, all bursts together.' }),
    firstAt: t.field({
      type: 'DateTime',
      description: 'When the first of them arrived.',
      resolve: ({ firstAt }) => new Date(firstAt),
    }),
    lastAt: t.field({
      type: 'DateTime',
      description: 'When the last of them arrived.',
      resolve: ({ lastAt }) => new Date(lastAt),
    }),
  }),
});

builder.objectField(PollType, 'anomalies', (t) =>
  t.field({
    type: [AnomalyType],
    nullable: true,
    description:
      'What looks unlike people voting, one entry a kind; empty where nothing does. As the process that answers has seen it since its start: another instance, or one started anew, may have seen something else. For its organizers: to others it is null, with an error NOT_ALLOWED.',
    resolve: ({ poll }, _, ctx) => ctx.services.anomalies.list(ctx.viewer, poll),
  }),
);
