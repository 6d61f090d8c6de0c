/** A database belongs to one secret: with another one, its voters could vote twice. */
import { describe, expect, test } from 'vitest';
import { BACKENDS } from '../support/backends.ts';
import { startServer, TEST_SECRET } from '../support/server.ts';

describe.each(BACKENDS)('V2 the secret of a database on %s', (_, openBackend) => {
  test('an instance with another secret does not start and says what to do; the former one still does', async () => {
    await using storage = await openBackend();
    await using first = await startServer(storage.env);
    const other = 'another secret, long enough';
    if (storage.env.DATABASE_URL === undefined) await first[Symbol.asyncDispose]();
    await expect(startServer({ ...storage.env, SECRET: other })).rejects.toThrow(
      /^SECRET: is not the one that this database was first used with, so its voters could vote twice\. Set SECRET to the former value/,
    );
    await using again = await startServer({ ...storage.env, SECRET: TEST_SECRET });
    expect((await fetch(`${again.url}/readyz`)).status).toBe(200);
  });
});
