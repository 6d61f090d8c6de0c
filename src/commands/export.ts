/** `pollcast export`: writes the results and the ballots of a poll to the standard output. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { exportPoll } from '../app.ts';
import type { Config } from '../config/config.ts';
import { withByteOrderMark } from '../polls/export.ts';

export interface ExportArguments {
  readonly pollId: string;
  readonly format: 'csv' | 'json';
  /** Begin a CSV file with a byte order mark. */
  readonly bom: boolean;
}

/** Null: the arguments are wrong. */
export function readExportArguments(args: readonly string[]): ExportArguments | null {
  const given = args.filter((arg) => arg !== '--no-bom');
  const bom = given.length === args.length;
  const [pollId, option, format, ...rest] = given;
  if (pollId === undefined || pollId.startsWith('-') || rest.length > 0 || args.length - given.length > 1) return null;
  if (option === undefined) return { pollId, format: 'csv', bom };
  return option === '--format' && (format === 'csv' || format === 'json') ? { pollId, format, bom } : null;
}

export async function runExport(config: Config, { pollId, format, bom }: ExportArguments): Promise<void> {
  await exportPoll(config, pollId, format, async (pieces) => {
    try {
      await pipeline(Readable.from(format === 'csv' && bom ? withByteOrderMark(pieces) : pieces), process.stdout);
    } catch (error) {
      // The reader has closed the pipe, as in `pollcast export … | head`.
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
    }
  });
}
