/** The GraphQL-over-HTTP audit of the package graphql-http, against this server. Every MUST passes; so does every SHOULD but those named here. */
import { serverAudits } from 'graphql-http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer, type TestServer } from '../support/server.ts';

/** SHOULDs that are not followed, each with its reason. */
const EXCUSED: Record<string, string> = {};

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

  test.each(audits.map((audit) => [`${audit.id} ${audit.name}`, audit] as const))('%s', async (name, audit) => {
    const result = await audit.fn();
    if (audit.name.startsWith('MAY') || EXCUSED[audit.id] !== undefined) return;
    expect(result.status, `${name}: ${'reason' in result ? result.reason : ''}`).toBe('ok');
  });
});
