/** Runs once before all tests: finds or installs programs, starts a shared Postgres and makes PGlite's files. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { openStore } from '../../src/store/store.ts';
import { startPostgres, testDatabases } from './postgres.ts';
import { ensurePrograms } from './programs.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** An administrator's URL; tests take databases of it with `freshDatabase()`. */
    postgresUrl: string;
    /** A data folder to copy: an empty PGlite, migrated. */
    pgliteFolder: string;
  }
}

/** If the run exits without teardown, the guardian process stops the server (programs.ts). */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  ensurePrograms();
  const server = testDatabases() ?? (await startPostgres());
  project.provide('postgresUrl', server.url);
  const pglite = mkdtempSync(join(tmpdir(), 'pollcast-empty-'));
  const store = await openStore({ databaseUrl: null, dataDir: pglite });
  await store.close();
  project.provide('pgliteFolder', pglite);
  return async () => {
    rmSync(pglite, { recursive: true, force: true });
    try {
      await server[Symbol.asyncDispose]();
    } catch (error) {
      process.exitCode = 1; // vitest only prints what a teardown throws.
      throw error;
    }
  };
}
