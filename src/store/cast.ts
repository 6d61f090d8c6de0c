/**
 * The hot statement: a batch of ballots of any number of polls, in one transaction and one round trip.
 *
 * `FOR UPDATE` takes the polls' rows in the order of their ids (two instances cannot deadlock) and sees their newest
 * state; all that follows happens under these locks. A ballot goes in only where its poll is open at the revision that
 * it was checked against (V5), and from `closes_at` on a poll is closed, however late its timer; `ON CONFLICT` finds the
 * voter's ballot that stands (V2) and changes it only where the poll allows it (V4). One delta a tally key and one raise of the
 * version a poll, however many ballots (V6).
 *
 * It stands here twice: a batch with a ballot of a CODE poll also looks its voters up among the codes and marks those used.
 * All others are spared that. Were a ballot's `coded` wrong, its poll is not found and it stays out.
 */

import { POLL_STATUSES, type PollStatus } from '../core/poll.ts';
import type { BallotEntry, BatchResult, CastOutcome, PollChange } from '../ports/store.ts';
import type { Database } from './database/open.ts';
import { number, oneOf, text } from './rows.ts';

const cast = (coded: boolean): string => `
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::int[])
    AS i(poll_id, voter_key, receipt_id, content, revision)
), locked AS MATERIALIZED (
  SELECT id, CASE WHEN status = 'OPEN' AND closes_at <= $7::timestamptz THEN 'CLOSED' ELSE status END AS status,
    revision, allow_vote_change, version, voter_identity = 'CODE' AS coded FROM polls
  WHERE id = ANY($6::text[]) ORDER BY id FOR UPDATE
), ready AS MATERIALIZED (
  SELECT i.*, l.version + 1 AS version, ${coded ? 'NOT l.coded OR c.voter_key IS NOT NULL' : 'NOT l.coded'} AS admitted FROM input i
  JOIN locked l ON l.id = i.poll_id AND l.status = 'OPEN' AND l.revision = i.revision
  ${coded ? 'LEFT JOIN voter_codes c ON c.poll_id = i.poll_id AND c.voter_key = i.voter_key' : ''}
), put AS (
  INSERT INTO ballots AS b (poll_id, voter_key, receipt_id, content, version, cast_at)
  SELECT poll_id, voter_key, receipt_id, content, version, $7::timestamptz FROM ready WHERE admitted
  ON CONFLICT (poll_id, voter_key) DO UPDATE
    SET replaced = b.content, content = excluded.content, receipt_id = excluded.receipt_id,
        version = excluded.version, cast_at = excluded.cast_at
    WHERE b.content <> excluded.content
      AND (SELECT l.allow_vote_change FROM locked l WHERE l.id = b.poll_id)
  RETURNING poll_id, voter_key, content, replaced
), counted AS (
  INSERT INTO tallies AS t (poll_id, key, votes)
  SELECT poll_id, key, sum(votes)::int FROM (
    SELECT poll_id, string_to_table(content, ' ') AS key, 1 AS votes FROM put
    UNION ALL
    SELECT poll_id, string_to_table(replaced, ' '), -1 FROM put WHERE replaced IS NOT NULL
  ) moved GROUP BY poll_id, key HAVING sum(votes) <> 0 ORDER BY poll_id, key
  ON CONFLICT (poll_id, key) DO UPDATE SET votes = t.votes + excluded.votes
), raised AS (
  UPDATE polls p SET version = p.version + 1, ballot_count = p.ballot_count + c.added, updated_at = $7::timestamptz
  FROM (SELECT poll_id, count(*) FILTER (WHERE replaced IS NULL)::int AS added FROM put GROUP BY poll_id) c
  WHERE p.id = c.poll_id RETURNING p.id, p.version, p.ballot_count
)${coded ? USED : ''}
SELECT l.id AS poll_id, l.status, l.revision, r.version, r.ballot_count, NULL AS voter_key, NULL AS replaced
FROM locked l LEFT JOIN raised r ON r.id = l.id
UNION ALL
SELECT poll_id, 'REPLACED', NULL, NULL, NULL, voter_key::text, replaced FROM put WHERE replaced IS NOT NULL
UNION ALL
SELECT i.poll_id, CASE WHEN i.admitted THEN 'LEFT' ELSE 'NOT_ADMITTED' END, NULL, NULL, NULL, i.voter_key::text, NULL
FROM ready i LEFT JOIN put USING (poll_id, voter_key) WHERE put.poll_id IS NULL`;

const USED = `, used AS (
  UPDATE voter_codes c SET used_at = $7::timestamptz FROM put
  WHERE c.poll_id = put.poll_id AND c.voter_key = put.voter_key AND put.replaced IS NULL
)`;
const CAST = cast(false);
const CAST_CODED = cast(true);

const STANDING = `
SELECT b.poll_id, b.voter_key::text AS voter_key, b.receipt_id::text AS receipt_id, b.content, b.version,
       (extract(epoch FROM b.cast_at) * 1000)::float8 AS cast_at, p.allow_vote_change
FROM unnest($1::text[], $2::uuid[]) AS i(poll_id, voter_key)
JOIN ballots b USING (poll_id, voter_key) JOIN polls p ON p.id = b.poll_id`;

interface LockedPoll {
  readonly status: PollStatus;
  readonly revision: number;
  /** Null where nothing changed. */
  readonly raised: { readonly version: number; readonly ballotCount: number } | null;
}

export async function castBallots(
  database: Database,
  entries: readonly BallotEntry[],
  nowMs: number,
): Promise<BatchResult> {
  const pollIds = [...new Set(entries.map((entry) => entry.pollId))];
  const rows = await database.rows(entries.some(({ coded }) => coded) ? CAST_CODED : CAST, [
    entries.map((entry) => entry.pollId),
    entries.map((entry) => entry.voterKey),
    entries.map((entry) => entry.receiptId),
    entries.map((entry) => entry.content),
    entries.map((entry) => entry.revision),
    pollIds,
    new Date(nowMs).toISOString(),
  ]);

  const locked = new Map<string, LockedPoll>();
  const replaced = new Map<string, string>();
  const left = new Map<string, 'LEFT' | 'NOT_ADMITTED'>();
  for (const row of rows) {
    if (row.voter_key === null) {
      const raised =
        row.version === null ? null : { version: number(row.version), ballotCount: number(row.ballot_count) };
      locked.set(text(row.poll_id), {
        status: oneOf(POLL_STATUSES, row.status),
        revision: number(row.revision),
        raised,
      });
    } else if (row.status === 'REPLACED') {
      replaced.set(keyOf(text(row.poll_id), text(row.voter_key)), text(row.replaced));
    } else {
      const why = oneOf(['LEFT', 'NOT_ADMITTED'], row.status);
      left.set(keyOf(text(row.poll_id), text(row.voter_key)), why);
    }
  }

  const changes = new Map<string, { added: string[]; removed: string[] }>();
  const outcomes: (CastOutcome | undefined)[] = entries.map((entry) => {
    const poll = locked.get(entry.pollId);
    if (poll === undefined) return { kind: 'NOT_FOUND' };
    if (poll.status !== 'OPEN') return undefined;
    if (poll.revision !== entry.revision) return { kind: 'STALE' };
    const key = keyOf(entry.pollId, entry.voterKey);
    const why = left.get(key);
    // A flag that does not fit the revision cannot be; it is said as what can be sent again.
    if (why === 'NOT_ADMITTED') return { kind: entry.coded ? why : 'STALE' };
    if (poll.raised === null || why === 'LEFT') return undefined;
    let change = changes.get(entry.pollId);
    if (change === undefined) changes.set(entry.pollId, (change = { added: [], removed: [] }));
    change.added.push(entry.content);
    const old = replaced.get(key);
    if (old !== undefined) change.removed.push(old);
    const receipt = { id: entry.receiptId, pollId: entry.pollId, version: poll.raised.version, castAt: nowMs };
    return { kind: old === undefined ? 'RECORDED' : 'REPLACED', receipt };
  });
  await fillStanding(database, entries, outcomes, locked);

  return {
    outcomes: outcomes.map((outcome) => outcome ?? { kind: 'STALE' }),
    changes: [...changes].flatMap(([pollId, change]): PollChange[] => {
      const raised = locked.get(pollId)?.raised;
      return raised ? [{ pollId, ...raised, updatedAt: nowMs, ...change }] : [];
    }),
  };
}

/** Those that changed nothing: what ballot of theirs stands? The same one makes the vote a repetition (V3), even after closing. */
async function fillStanding(
  database: Database,
  entries: readonly BallotEntry[],
  outcomes: (CastOutcome | undefined)[],
  locked: ReadonlyMap<string, LockedPoll>,
): Promise<void> {
  const open = entries.filter((_, index) => outcomes[index] === undefined);
  if (open.length === 0) return;
  const rows = await database.rows(STANDING, [open.map((entry) => entry.pollId), open.map((entry) => entry.voterKey)]);
  const standing = new Map(rows.map((row) => [keyOf(text(row.poll_id), text(row.voter_key)), row] as const));
  for (const [index, entry] of entries.entries()) {
    if (outcomes[index] !== undefined) continue;
    const status = locked.get(entry.pollId)?.status ?? 'OPEN';
    const row = standing.get(keyOf(entry.pollId, entry.voterKey));
    if (row?.content === entry.content) {
      const receipt = {
        id: text(row.receipt_id),
        pollId: entry.pollId,
        version: number(row.version),
        castAt: number(row.cast_at),
      };
      // Our own receipt: the first try had committed and only its answer was lost.
      outcomes[index] = { kind: receipt.id === entry.receiptId ? 'RECORDED' : 'UNCHANGED', receipt };
    } else if (status !== 'OPEN') {
      outcomes[index] = { kind: 'NOT_OPEN', status };
    } else if (row !== undefined && row.allow_vote_change !== true) {
      outcomes[index] = { kind: 'ALREADY_VOTED' };
    }
    // Else it came or went between the two statements: STALE, to be sent again.
  }
}

function keyOf(pollId: string, voterKey: string): string {
  return `${pollId} ${voterKey}`;
}
