/**
 * What goes over a poll's channel, as JSON. The first fields are always `format` and `from`, so that an instance knows its
 * own messages by their first bytes. Whatever comes in is parsed strictly: other versions of this program, and other
 * programs, may write there too.
 */
import type { PollNews } from '../../ports/bus.ts';

const FORMAT = 1;
/** Counts with more keys (the orders of a big RANKED poll) are read from the database by those who want them. */
const MOST_KEYS = 2_000;
/** A tally key: a choice's number, a rating, or an order of choices. */
const KEY = /^-?\d{1,9}(,\d{1,9}){0,99}$/;

/** How many watch a poll at one instance. `seq` rises with every number that the instance reports. */
export interface AudienceNews {
  readonly kind: 'audience';
  readonly pollId: string;
  readonly from: string;
  readonly seq: number;
  readonly watching: number;
}

export type Parsed =
  | { readonly news: PollNews | AudienceNews; readonly sentAt: number }
  /** Why it is not understood. */
  | { readonly malformed: string };

/** How a message of this sender begins. */
export const ownBeginning = (from: string): Buffer => Buffer.from(head(from));

const head = (from: string): string => `{"format":${FORMAT},"from":${JSON.stringify(from)},`;

export function encode(news: PollNews | Omit<AudienceNews, 'from'>, from: string, sentAt: number): string {
  const fields = { sentAt, ...news };
  if (news.kind !== 'counts') return head(from) + JSON.stringify(fields).slice(1);
  if (news.counts.size <= MOST_KEYS) {
    return head(from) + JSON.stringify({ ...fields, counts: [...news.counts] }).slice(1);
  }
  const { pollId, version, revision } = news;
  return encode({ kind: 'look', pollId, version, revision }, from, sentAt);
}

/** Never throws. `pollId` is the poll whose channel it came on. */
export function decode(payload: Buffer, pollId: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString());
  } catch {
    return { malformed: 'not JSON' };
  }
  if (typeof value !== 'object' || value === null) return { malformed: 'not an object' };
  const message: Partial<Record<string, unknown>> = { ...value };
  const { format, from, sentAt, kind } = message;
  if (message.pollId !== pollId) return { malformed: 'of another poll' };
  if (!isCount(format) || format < 1) return { malformed: 'no format' };
  if (format > FORMAT) {
    // A newer program is being rolled out: what it says is not ours to read, but that there is something, is.
    const { version, revision } = message;
    if (!isCount(version)) return { malformed: 'a newer format without a version' };
    return {
      news: { kind: 'look', pollId, version, revision: isCount(revision) ? revision : 0 },
      sentAt: isCount(sentAt) ? sentAt : 0,
    };
  }
  if (typeof from !== 'string' || from === '' || !isCount(sentAt)) return { malformed: 'no sender' };
  const news = kindOf(kind, message, pollId, from);
  return news === null ? { malformed: `not a whole message of kind ${String(kind).slice(0, 20)}` } : { news, sentAt };
}

function kindOf(
  kind: unknown,
  { version, revision, ballotCount, updatedAt, counts, seq, watching }: Partial<Record<string, unknown>>,
  pollId: string,
  from: string,
): PollNews | AudienceNews | null {
  if (kind === 'gone') return { kind, pollId };
  if (kind === 'audience') {
    return isCount(seq) && isCount(watching) ? { kind, pollId, from, seq, watching } : null;
  }
  if (!isCount(version) || !isCount(revision)) return null;
  if (kind === 'look') return { kind, pollId, version, revision };
  if (kind !== 'counts' || version < 1 || !isCount(ballotCount) || !isCount(updatedAt)) return null;
  const known = readCounts(counts);
  return known && { kind, pollId, version, revision, ballotCount, updatedAt, counts: known };
}

function readCounts(value: unknown): Map<string, number> | null {
  if (!Array.isArray(value) || value.length > MOST_KEYS) return null;
  const counts = new Map<string, number>();
  for (const pair of value as unknown[]) {
    if (!Array.isArray(pair) || pair.length !== 2) return null;
    const [key, votes]: unknown[] = pair;
    if (typeof key !== 'string' || !KEY.test(key) || counts.has(key) || !isCount(votes) || votes === 0) return null;
    counts.set(key, votes);
  }
  return counts;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
