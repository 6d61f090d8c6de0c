/** Who did what to a poll, for those who manage it. */
import { resolveCursorConnection } from '@pothos/plugin-relay';
import { InvalidInputError } from '../../core/errors.ts';
import type { AuditRecord } from '../../ports/store.ts';
import { builder } from './builder.ts';
import { PollType } from './polls.ts';

const AuditOutcome = builder.enumType('AuditOutcome', {
  description: 'What became of an action.',
  values: { ACCEPTED: { description: 'It was done.' }, REFUSED: { description: 'Nothing was changed.' } } as const,
});

const AuditEntry = builder.objectRef<AuditRecord>('AuditEntry').implement({
  description: 'One action on a poll, done or refused. An action that changed nothing (opening an open poll) has none.',
  fields: (t) => ({
    id: t.id({ description: 'Names the entry.', resolve: ({ id }) => String(id) }),
    at: t.field({ type: 'DateTime', description: 'When.', resolve: ({ at }) => new Date(at) }),
    actor: t.exposeString('actor', {
      description:
        '`organizer key`, `unknown key` (of no poll, or of another), `anonymous`, `account:` and its subject, `schedule` (its time had come) or `operator` (the command line).',
    }),
    action: t.exposeString('action', { description: 'The mutation by name, or `exportPoll`.' }),
    outcome: t.field({
      type: AuditOutcome,
      description: 'Whether it was done.',
      resolve: ({ outcome }) => (outcome === 'ACCEPTED' ? 'ACCEPTED' : 'REFUSED'),
    }),
    reason: t.string({
      nullable: true,
      description: 'Why it was refused: a code such as `NOT_ALLOWED`. Null where it was done.',
      resolve: ({ outcome }) => (outcome === 'ACCEPTED' ? null : outcome),
    }),
    detail: t.exposeString('detail', {
      nullable: true,
      description: 'updatePoll: which settings; createPoll: the status; castVotes and issueVoterCodes: how many.',
    }),
    more: t.exposeInt('more', {
      description: 'How many refusals after this one were only counted: 100 an hour are kept of a poll.',
    }),
  }),
});

const AuditConnection = builder.connectionObject(
  { type: AuditEntry, name: 'AuditConnection', description: 'A page of audit entries, the newest first.' },
  { name: 'AuditEdge', description: 'An audit entry in a page.' },
);

builder.objectField(PollType, 'audit', (t) =>
  t.field({
    type: AuditConnection,
    nullable: true,
    description:
      'Who did what to the poll, newest first. For its organizers: to others it is null, with an error NOT_ALLOWED.',
    args: {
      first: t.arg.int({ defaultValue: 20, description: 'How many at most: 1 to 100.' }),
      after: t.arg.string({ description: '`endCursor` of the page before.' }),
    },
    resolve: ({ poll }, args, ctx) => {
      const first = args.first ?? 20;
      if (first < 1 || first > 100) throw new InvalidInputError(`first: ${first}, must be 1 to 100.`);
      return resolveCursorConnection<Promise<readonly AuditRecord[]>>(
        {
          args: { first, after: args.after ?? null },
          toCursor: ({ id }: AuditRecord) => Buffer.from(`audit ${id}`).toString('base64url'),
        },
        ({ after, limit }) =>
          ctx.services.audit.list(ctx.viewer, poll, limit, after === undefined ? null : readCursor(after)),
      );
    },
  }),
);

function readCursor(cursor: string): number {
  const id = /^audit (\d{1,15})$/.exec(Buffer.from(cursor, 'base64url').toString())?.[1];
  if (id === undefined) throw new InvalidInputError('after: not a cursor of this list.');
  return Number(id);
}
