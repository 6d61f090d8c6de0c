/** `npm run chaos [-- --seed N] [--minutes N]`: the long form. Prints its seed, what it did and what it counted. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { seed: { type: 'string' }, minutes: { type: 'string' } } });
const seed = values.seed ?? String(Math.floor(Math.random() * 1e9));
const minutes = values.minutes ?? '5';
for (const [name, value] of Object.entries({ seed, minutes })) {
  if (!/^\d{1,9}$/.test(value)) {
    process.stderr.write(`--${name}: "${value}" must be a whole number\n`);
    process.exit(2);
  }
}
const config = fileURLToPath(new URL('vitest.config.ts', import.meta.url));
const { status } = spawnSync('npx', ['vitest', 'run', '--config', config, '--disable-console-intercept'], {
  stdio: 'inherit',
  env: { ...process.env, CHAOS_SEED: seed, CHAOS_MINUTES: minutes },
});
process.exit(status ?? 1);
