import { readdirSync, readFileSync } from 'node:fs';

// USER_HZ is 100 on every Linux that Node runs on.
const TICKS = 100;

/** Fields of /proc/<pid>/stat from the state on; the name before them may hold blanks and brackets. */
function stat(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/**
 * CPU seconds used so far, user and system, for each of `pids`. 'self' is the caller. { tree: pid } is a process with its
 * children, dead or alive (Postgres: the postmaster and its backends).
 */
export const cpuOf = (pids) => pids.map(cpuSeconds);

function cpuSeconds(pid) {
  if (typeof pid === 'object') return treeSeconds(pid.tree);
  const fields = stat(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function treeSeconds(root) {
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = stat(name);
      if (Number(name) === root)
        ticks += Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14]);
      else if (Number(fields[1]) === root) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return ticks / TICKS;
}

/** Resident bytes of a process. */
export function residentBytes(pid) {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line[1]) * 1024;
}
