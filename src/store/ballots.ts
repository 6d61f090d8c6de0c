/** Ballots one by one and page by page; the hot way in is `cast.ts`. */
import { and, eq, gt, lte, sql } from 'drizzle-orm';
import type { BallotRecord, PollChange } from '../ports/store.ts';
import type { Tx } from './database/open.ts';
import { ballots, polls, tallies, voterCodes } from './tables.ts';

export async function retract(tx: Tx, pollId: string, voterKey: string, nowMs: number): Promise<PollChange | null> {
  const [gone] = await tx
    .delete(ballots)
    .where(and(eq(ballots.pollId, pollId), eq(ballots.voterKey, voterKey)))
    .returning({ content: ballots.content });
  if (gone === undefined) return null;
  await tx
    .update(voterCodes)
    .set({ usedAt: null })
    .where(and(eq(voterCodes.pollId, pollId), eq(voterCodes.voterKey, voterKey)));
  for (const key of gone.content.split(' ')) {
    await tx
      .update(tallies)
      .set({ votes: sql`${tallies.votes} - 1` })
      .where(and(eq(tallies.pollId, pollId), eq(tallies.key, key)));
  }
  const [raised] = await tx
    .update(polls)
    .set({
      version: sql`${polls.version} + 1`,
      ballotCount: sql`${polls.ballotCount} - 1`,
      updatedAt: new Date(nowMs),
    })
    .where(eq(polls.id, pollId))
    .returning({ version: polls.version, ballotCount: polls.ballotCount });
  if (raised === undefined) return null;
  return { pollId, ...raised, updatedAt: nowMs, added: [], removed: [gone.content] };
}

/** In the order of the primary key, so that a page is found without a sort. */
export async function page(
  db: Tx,
  pollId: string,
  version: number,
  after: string | null,
  most: number,
): Promise<{ readonly ballots: readonly BallotRecord[]; readonly last: string | null }> {
  const rows = await db
    .select({ voterKey: ballots.voterKey, content: ballots.content, castAt: ballots.castAt })
    .from(ballots)
    .where(
      and(
        eq(ballots.pollId, pollId),
        lte(ballots.version, version),
        after === null ? undefined : gt(ballots.voterKey, after),
      ),
    )
    .orderBy(ballots.voterKey)
    .limit(most);
  return {
    ballots: rows.map(({ content, castAt }) => ({ content, castAt: castAt.getTime() })),
    last: rows.length < most ? null : (rows.at(-1)?.voterKey ?? null),
  };
}
