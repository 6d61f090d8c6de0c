import { inject } from 'vitest';
import type {} from './globalSetup.ts';
import { createDatabase, dropDatabase } from './postgres.ts';

/** A new empty database on the Postgres of this run; disposing drops it, whoever is still connected. */
export async function freshDatabase(): Promise<AsyncDisposable & { readonly url: string }> {
  const adminUrl = inject('postgresUrl');
  const url = await createDatabase(adminUrl);
  return { url, [Symbol.asyncDispose]: () => dropDatabase(adminUrl, url) };
}
