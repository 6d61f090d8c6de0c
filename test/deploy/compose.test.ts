/** Dockerfile and compose.yaml agree with the product and with each other; no Docker daemon is needed. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readConfig } from '../../src/config/config.ts';
import { ROOT } from '../support/server.ts';

const read = (name: string): string => readFileSync(join(ROOT, name), 'utf8');
const compose = read('compose.yaml');
const dockerfile = read('Dockerfile');

/** The settings of the instances, as compose fills them in. */
function environment(): Record<string, string> {
  const block = /^x-pollcast:[\s\S]*?\n {2}environment:\n((?: {4}.+\n)+)/m.exec(compose)?.[1] ?? '';
  const filled = block.replace(/\$\{(\w+):\?[^}]*\}/g, 'a-secret-of-the-compose-file');
  return Object.fromEntries(
    [...filled.matchAll(/^ {4}(\w+): (.+)$/gm)].map(([, name = '', value = '']) => [name, value]),
  );
}

test('the environment of compose.yaml is one that Pollcast starts with', () => {
  const env = environment();
  expect(Object.keys(env)).toEqual(['DATABASE_URL', 'REDIS_URL', 'SECRET', 'TRUSTED_PROXIES', 'DRAIN_MS']);
  const config = readConfig(env);
  const grace = Number(/stop_grace_period: (\d+)s\n {2}ulimits/.exec(compose)?.[1]) * 1_000;
  // Responses and commits get at least 15 s after the drain.
  expect(grace).toBeGreaterThanOrEqual(config.drainMs + 30_000);
  expect(compose).toContain(`subnet: ${env.TRUSTED_PROXIES}`);
});

test('nginx names the instances of compose.yaml', () => {
  const named = [...read('deploy/nginx.conf').matchAll(/^ +server (\S+):4000 /gm)].map(([, name]) => name);
  const services = [...compose.matchAll(/^ {2}(\S+): \*pollcast$/gm)].map(([, name]) => name);
  expect(named).toEqual(services);
  expect(named).toHaveLength(2);
});

test('the image copies what is there, and its context lets it through', () => {
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = '']) => names.split(' '));
  expect(copied).toContain('drizzle');
  const context = read('.dockerignore');
  for (const name of copied) {
    expect(existsSync(join(ROOT, name)), name).toBe(true);
    expect(context).toContain(`!${name}\n`);
  }
  // As `npm start` runs it.
  const flags = /node (--\S+) dist/.exec(read('package.json'))?.[1];
  expect(dockerfile).toContain(`CMD ["node", "${flags}", "dist/main.js"]`);
});
