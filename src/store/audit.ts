/** Who did what to a poll, and who was refused. */
import { and, desc, eq, gt, lt, ne, sql } from 'drizzle-orm';
import type { AuditNote, AuditRecord } from '../ports/store.ts';
import type { Tx } from './database/open.ts';
import { outcomeOf } from './rows.ts';
import { audit } from './tables.ts';

export async function keep(tx: Tx, pollId: string, notes: readonly AuditNote[]): Promise<void> {
  if (notes.length === 0) return;
  await tx.insert(audit).values(notes.map((note) => ({ ...note, pollId, at: new Date(note.at) })));
}

/** The poll's row must be locked: what is counted here stays true until the end of the transaction. */
export async function keepRefusals(
  tx: Tx,
  pollId: string,
  notes: readonly AuditNote[],
  more: number,
  limit: { readonly since: number; readonly most: number },
): Promise<void> {
  const refused = and(eq(audit.pollId, pollId), ne(audit.outcome, 'ACCEPTED'), gt(audit.at, new Date(limit.since)));
  const kept = (await tx.select({ id: audit.id }).from(audit).where(refused).limit(limit.most)).length;
  const room = Math.max(0, limit.most - kept);
  await keep(tx, pollId, notes.slice(0, room));
  const counted = Math.max(0, notes.length - room) + more;
  if (counted === 0) return;
  const last = tx
    .select({ id: sql`max(${audit.id})` })
    .from(audit)
    .where(refused);
  await tx
    .update(audit)
    .set({ more: sql`${audit.more} + ${counted}` })
    .where(eq(audit.id, sql`(${last})`));
}

export async function list(db: Tx, pollId: string, first: number, before: number | null): Promise<AuditRecord[]> {
  const rows = await db
    .select()
    .from(audit)
    .where(and(eq(audit.pollId, pollId), before === null ? undefined : lt(audit.id, before)))
    .orderBy(desc(audit.id))
    .limit(first);
  return rows.map(({ id, at, actor, action, outcome, detail, more }) => ({
    id,
    at: at.getTime(),
    actor,
    action,
    outcome: outcomeOf(outcome),
    detail,
    more,
  }));
}
