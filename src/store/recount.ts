/** The proof of V6: all ballots counted again. */
import type { Discrepancy, Store } from '../ports/store.ts';
import type { Database } from './database/open.ts';
import { number, text } from './rows.ts';

const RECOUNT_MS = 3_600_000;
const RECOUNT = `
WITH keys AS (
  SELECT poll_id, string_to_table(content, ' ') AS what FROM ballots
), counted AS (
  SELECT poll_id, what, count(*)::int AS votes FROM keys GROUP BY poll_id, what
  UNION ALL SELECT poll_id, 'ballotCount', count(*)::int FROM ballots GROUP BY poll_id
), kept AS (
  SELECT poll_id, key AS what, votes FROM tallies WHERE votes <> 0
  UNION ALL SELECT id, 'ballotCount', ballot_count FROM polls WHERE ballot_count <> 0
)
SELECT poll_id, what, coalesce(kept.votes, 0) AS kept, coalesce(counted.votes, 0) AS recounted
FROM kept FULL JOIN counted USING (poll_id, what)
WHERE coalesce(kept.votes, 0) <> coalesce(counted.votes, 0) ORDER BY poll_id, what`;

export async function recount(database: Database): ReturnType<Store['recount']> {
  // One statement sees one moment, so it may run while votes come in.
  const rows = await database.rows(RECOUNT, [], RECOUNT_MS);
  const [totals] = await database.rows(
    'SELECT (SELECT count(*)::int FROM polls) AS polls, (SELECT count(*)::int FROM ballots) AS ballots',
    [],
    RECOUNT_MS,
  );
  const differences = rows.map(
    (row): Discrepancy => ({
      pollId: text(row.poll_id),
      what: text(row.what),
      kept: number(row.kept),
      recounted: number(row.recounted),
    }),
  );
  return { polls: number(totals?.polls), ballots: number(totals?.ballots), differences };
}
