/** Every rule about votes and results is proved on both databases: the environment of a server for each. */
import { freshDatabase } from './database.ts';
import { temporaryFolder } from './server.ts';

export interface Backend extends AsyncDisposable {
  readonly env: Record<string, string>;
}

export const BACKENDS: readonly (readonly [name: string, open: () => Promise<Backend>])[] = [
  [
    'PGlite',
    async () => {
      const folder = temporaryFolder();
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
