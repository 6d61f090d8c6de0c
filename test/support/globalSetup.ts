/** Once before all tests: the programs are here, and one Postgres runs for those tests that break nothing. */
import type { TestProject } from 'vitest/node';
import { startPostgres, testDatabases } from './postgres.ts';
import { ensurePrograms } from './programs.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** An administrator's URL; tests take databases of it with `freshDatabase()`. */
    postgresUrl: string;
  }
}

/** However the run ends, nothing stays: on an exit without teardown, the server's guardian stops it (programs.ts). */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  ensurePrograms();
  const server = testDatabases() ?? (await startPostgres());
  project.provide('postgresUrl', server.url);
  return async () => {
    try {
      await server[Symbol.asyncDispose]();
    } catch (error) {
      process.exitCode = 1; // vitest only prints what a teardown throws.
      throw error;
    }
  };
}
