/** A poll as a file, over HTTP. */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Context } from '../../graphql/context.ts';
import { EXPORT_FORMATS, type ExportFormat, withByteOrderMark } from '../../polls/export.ts';

/** A reader that takes nothing for so long is cut off. */
const STALL_MS = 60_000;

const TYPES: Record<ExportFormat, string> = {
  csv: 'text/csv; charset=utf-8; header=present',
  json: 'application/json; charset=utf-8',
};

/** Rejects while nothing was sent; what fails later is a fault, and the file ends torn off, never as if it were whole. */
export async function sendExport(
  response: ServerResponse,
  { services, viewer }: Context,
  pollId: string,
  { format, bom }: { readonly format: ExportFormat; readonly bom: boolean },
): Promise<void> {
  const file = await services.exports.open(viewer, pollId, format);
  const pieces = format === 'csv' && bom ? withByteOrderMark(file) : file;
  response.writeHead(200, {
    'content-type': TYPES[format],
    'content-disposition': `attachment; filename="poll-${pollId}.${format}"`,
    'cache-control': 'private, no-store',
    'x-content-type-options': 'nosniff',
  });
  response.setTimeout(STALL_MS, () => response.destroy());
  try {
    await pipeline(Readable.from(pieces), response);
  } catch (error) {
    // Who hung up wants no more of it.
    if (!isCut(error)) throw error;
  }
}

export function exportFormat(text: string | undefined): ExportFormat | null {
  return EXPORT_FORMATS.find((format) => format === text) ?? null;
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
}
