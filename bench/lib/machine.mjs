import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

const run = (command, ...args) => {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
};

/** The head of the results: on what they were measured, and with which versions. */
export function machine(postgres) {
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const packages = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
  const commit =
    run('git', '-C', new URL('..', import.meta.url).pathname, 'describe', '--always', '--dirty') ?? 'not committed';
  const disk = run('findmnt', '-no', 'FSTYPE', '-T', os.tmpdir());
  return [
    '# What the bench measured',
    '',
    'Written by `npm run bench` (`bench/run.mjs`); not edited by hand. All ratios compare servers that ran in turns on this machine:',
    'the server pinned to core 0, the load to core 1, a new process for every sample. `bench/README.md` says how each figure is measured.',
    '',
    '| | |',
    '| --- | --- |',
    `| Pollcast | ${commit} |`,
    `| Node | ${process.version} |`,
    `| packages | ${packages.join(', ')} |`,
    ...(postgres === undefined
      ? []
      : [
          `| Postgres | ${postgres.version}; fsync on, synchronous_commit on, shared_buffers 256MB, else as shipped; core: ${postgres.core}; files on ${disk} |`,
        ]),
    `| machine | ${os.cpus().length} × ${os.cpus()[0].model.trim()}, ${Math.round(os.totalmem() / 2 ** 30)} GB |`,
    `| kernel | ${os.type()} ${os.release()} |`,
    `| last written | ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC |`,
  ].join('\n');
}
