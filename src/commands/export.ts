/** `pollcast export`: writes the results and the ballots of a poll to the standard output. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { exportPoll } from '../app.ts';
import type { Config } from '../config/config.ts';

export interface ExportArguments {
  readonly pollId: string;
  readonly format: 'csv' | 'json';
}

/** Null: the arguments are wrong. */
export function readExportArguments([pollId, option, format, ...rest]: readonly string[]): ExportArguments | null {
  if (pollId === undefined || pollId.startsWith('-') || rest.length > 0) return null;
  if (option === undefined) return { pollId, format: 'csv' };
  return option === '--format' && (format === 'csv' || format === 'json') ? { pollId, format } : null;
}

export async function runExport(config: Config, { pollId, format }: ExportArguments): Promise<void> {
  await exportPoll(config, pollId, format, async (pieces) => {
    try {
      await pipeline(Readable.from(pieces), process.stdout);
    } catch (error) {
      // The reader has closed the pipe, as in `pollcast export … | head`.
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
    }
  });
}
