import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = new Set();

/** A temporary folder, gone with `discard` or at the latest with this process. On disk: a TMPDIR in memory would make fsync free. */
export function scratch(name) {
  const folder = mkdtempSync(join(tmpdir(), `pollcast-bench-${name}-`));
  folders.add(folder);
  return folder;
}

export function discard(folder) {
  folders.delete(folder);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** For the end of the process, after its children were told to go. */
export function discardAll() {
  for (const folder of folders) discard(folder);
}
