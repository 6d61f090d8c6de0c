/**
 * Data folders that go away. Making PGlite's files for the first time (initdb) takes 5 s of a core, so it is done once a run and
 * copied: tests of the first start take an empty `temporaryFolder`, all others a `dataFolder`.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject } from 'vitest';
import type {} from './globalSetup.ts';

export interface Folder {
  readonly path: string;
  [Symbol.dispose](): void;
}

export function temporaryFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'pollcast-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** With an embedded database in it, empty and migrated. */
export function dataFolder(): Folder {
  const folder = temporaryFolder();
  cpSync(inject('pgliteFolder'), folder.path, { recursive: true });
  return folder;
}
