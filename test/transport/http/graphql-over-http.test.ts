/** The GraphQL-over-HTTP audit of the package graphql-http, against this server. Every MUST and every SHOULD passes. */
import { serverAudits } from 'graphql-http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer, type TestServer } from '../../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const audits = serverAudits({ url: () => server.graphql, fetchFn: fetch });

describe('GraphQL over HTTP', () => {
  test('the suite has audits of each level', () => {
    const levels = audits.map(({ name }) => /^(MUST|SHOULD|MAY)/.exec(name)?.[1]);
    for (const level of ['MUST', 'SHOULD', 'MAY'])
      expect(levels.filter((each) => each === level).length).toBeGreaterThan(3);
  });

  // A MAY is a choice, not a demand.
  const demands = audits.filter(({ name }) => !name.startsWith('MAY'));
  test.each(demands.map((audit) => [`${audit.id} ${audit.name}`, audit] as const))('%s', async (name, audit) => {
    const result = await audit.fn();
    expect(result.status, `${name}: ${'reason' in result ? result.reason : ''}`).toBe('ok');
  });
});
