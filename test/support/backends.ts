/** Every rule about votes and results is proved on both databases: the environment of a server for each. */
import { afterAll, beforeAll, expect } from 'vitest';
import type { Parts } from '../../src/app.ts';
import { freshDatabase } from './database.ts';
import { dataFolder } from './folders.ts';
import { startServer, type TestServer } from './server.ts';

export interface Backend extends AsyncDisposable {
  readonly env: Record<string, string>;
}

export const BACKENDS: readonly (readonly [name: string, open: () => Promise<Backend>])[] = [
  [
    'PGlite',
    async () => {
      const folder = dataFolder();
      return { env: { DATA_DIR: folder.path }, [Symbol.asyncDispose]: async () => folder[Symbol.dispose]() };
    },
  ],
  [
    'Postgres',
    async () => {
      const database = await freshDatabase();
      return { env: { DATABASE_URL: database.url }, [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
    },
  ],
];

/** One server for all tests of a block. At the end its tallies must equal a recount (V6). */
export function serveOn(
  open: () => Promise<Backend>,
  use: (server: TestServer, backend: Backend) => void,
  parts: Parts = {},
): void {
  let backend: Backend;
  let server: TestServer;
  beforeAll(async () => {
    backend = await open();
    server = await startServer(backend.env, parts);
    use(server, backend);
  });
  afterAll(async () => {
    expect((await server.app.store.recount()).differences).toEqual([]);
    await server[Symbol.asyncDispose]();
    await backend[Symbol.asyncDispose]();
  });
}
