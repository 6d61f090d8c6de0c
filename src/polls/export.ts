/**
 * A poll as a file: its results and its ballots, without voters. When a ballot was cast is said to the minute, and the
 * order says nothing of who cast it: pages come in the order of the voter keys, which nobody can compute without the server's
 * secret, and each page of 5 000 is shuffled. A million ballots are never in memory at once, and no transaction is
 * held open while a reader takes its time.
 *
 * The ballots are those up to the version of the results. In an open poll that allows changes, one that is changed while
 * the file is written is left out; else results and ballots are the same.
 */
import { randomInt } from 'node:crypto';
import { decodeBallot } from '../core/ballot.ts';
import { BYTE_ORDER_MARK, columnNames, csvLine } from '../core/csv.ts';
import { pollNotFound } from '../core/errors.ts';
import { choiceId, type Poll } from '../core/poll.ts';
import { countResults, type Results } from '../core/tally.ts';
import { requireManager } from '../identity/permissions.ts';
import type { Viewer } from '../identity/viewer.ts';
import type { BallotRecord, PollState, Store } from '../ports/store.ts';
import type { Audit } from './audit.ts';

export const EXPORT_FORMATS = ['csv', 'json'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export interface Exports {
  /** The file, piece by piece. Throws where there is no such poll or the viewer does not manage it; then nothing was begun. */
  open(viewer: Viewer, pollId: string, format: ExportFormat): Promise<AsyncIterable<string>>;
}

const PAGE = 5_000;
const MINUTE_MS = 60_000;

export function makeExports({ store, audit }: { readonly store: Store; readonly audit: Audit }): Exports {
  return {
    open: (viewer, pollId, format) =>
      audit.guard('exportPoll', viewer, pollId, async () => {
        const state = await loadWhole(store, pollId);
        requireManager(viewer, state.poll);
        await audit.add(pollId, audit.accepted('exportPoll', viewer, format));
        return exportPoll(store, state, format);
      }),
  };
}

export async function loadWhole(store: Store, pollId: string): Promise<PollState> {
  const state = await store.loadPoll(pollId);
  if (state?.counts === undefined) throw pollNotFound(pollId);
  return { ...state, counts: state.counts };
}

/** A CSV file with a byte order mark in front, which Excel needs to read it as UTF-8. */
export async function* withByteOrderMark(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  yield BYTE_ORDER_MARK;
  yield* pieces;
}

export function exportPoll(store: Store, state: PollState, format: ExportFormat): AsyncGenerator<string> {
  const results = countResults(state.poll, state, state.counts);
  const pages = readPages(store, state);
  return format === 'csv' ? asCsv(state.poll, results, pages) : asJson(state.poll, results, pages);
}

async function* readPages(store: Store, { poll, version }: PollState): AsyncGenerator<readonly BallotRecord[]> {
  let after: string | null = null;
  do {
    const page = await store.ballotPage(poll.id, version, after, PAGE);
    yield shuffled(page.ballots);
    after = page.last;
  } while (after !== null);
}

function shuffled(ballots: readonly BallotRecord[]): BallotRecord[] {
  const list: BallotRecord[] = [];
  for (const ballot of ballots) {
    const at = randomInt(list.length + 1);
    const other = list[at];
    list[at] = ballot;
    if (other !== undefined) list.push(other);
  }
  return list;
}

/**
 * One table with a column for each choice. The first line has the poll's id, its question and the time of its last
 * change; then come lines of results with votes, then ballots: 1 if the choice was chosen, or its rank.
 */
async function* asCsv(poll: Poll, results: Results, pages: AsyncIterable<readonly BallotRecord[]>) {
  const at = new Date(results.updatedAt).toISOString();
  if (poll.kind === 'RATING') {
    yield csvLine(['record', 'castAt', 'rating', 'votes']);
    yield csvLine(['poll', at, poll.id, poll.question]);
    for (const { value, votes } of results.rating?.histogram ?? []) yield csvLine(['result', null, value, votes]);
    for await (const page of pages) {
      yield page.map(({ content, castAt }) => csvLine(['ballot', minute(castAt), Number(content), null])).join('');
    }
    return;
  }
  const ids = poll.choices.map(({ n }) => choiceId(poll.id, n));
  yield csvLine(
    columnNames(
      ['record', 'castAt'],
      poll.choices.map(({ label }) => label),
    ),
  );
  yield csvLine(['poll', at, poll.id, poll.question, ...ids.slice(2).map(() => null)]);
  const line = (name: string, tallies: Results['tallies']): string =>
    csvLine([name, null, ...ids.map((id) => tallies.find((tally) => tally.choiceId === id)?.votes ?? null)]);
  yield line('result', results.tallies);
  for (const round of results.runoff?.rounds ?? []) yield line(`round ${round.number}`, round.tallies);
  for await (const page of pages) {
    const lines = page.map((ballot) => {
      const { choiceIds } = decodeBallot(poll, ballot.content);
      const cells = ids.map((id) => {
        const at = choiceIds.indexOf(id);
        return at === -1 ? null : poll.kind === 'RANKED' ? at + 1 : 1;
      });
      return csvLine(['ballot', minute(ballot.castAt), ...cells]);
    });
    yield lines.join('');
  }
}

async function* asJson(poll: Poll, results: Results, pages: AsyncIterable<readonly BallotRecord[]>) {
  yield `{"poll":${JSON.stringify(shown(poll))},\n"results":${JSON.stringify(final(results))},\n"ballots":[`;
  let separator = '\n';
  for await (const page of pages) {
    if (page.length === 0) continue;
    const lines = page.map(({ content, castAt }) =>
      JSON.stringify({ ...decodeBallot(poll, content), castAt: minute(castAt) }),
    );
    yield separator + lines.join(',\n');
    separator = ',\n';
  }
  yield '\n]}\n';
}

function minute(castAt: number): string {
  return new Date(Math.floor(castAt / MINUTE_MS) * MINUTE_MS).toISOString();
}

/** As the contract shows a poll. */
function shown(poll: Poll): object {
  const { organizerKeyHash: _, owner: __, revision: ___, choices, ...rest } = poll;
  return { ...rest, choices: choices.map(({ n, label }, position) => ({ id: choiceId(poll.id, n), label, position })) };
}

/** As `GET /polls/{id}/results` answers. */
function final({ pollId, version, status, visibility: _, updatedAt, ...rest }: Results): object {
  return { pollId, version, status, isFinal: status === 'CLOSED', ...rest, updatedAt: new Date(updatedAt) };
}
