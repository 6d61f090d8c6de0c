import { readdirSync, readFileSync } from 'node:fs';

// USER_HZ is 100 on every Linux that Node runs on.
const TICKS = 100;

/**
 * CPU seconds used so far, user and system, for each name in `whom`: a pid, 'self' (the caller), 'machine' (all cores, with
 * what the host took away), or { tree: pid }, a process with its children, dead or alive (Postgres and its backends).
 */
export const cpuOf = (whom) => Object.fromEntries(Object.entries(whom).map(([name, which]) => [name, seconds(which)]));

/**
 * Shares of one core between two readings. Where the machine was read too, `others` is what nobody in the list used:
 * the noise that a sample was taken in.
 */
export function shares(before, after, took) {
  const used = Object.fromEntries(Object.keys(after).map((name) => [name, (after[name] - before[name]) / took]));
  if (used.machine === undefined) return used;
  const { machine, ...known } = used;
  return { ...known, others: Object.values(known).reduce((rest, share) => rest - share, machine) };
}

function seconds(which) {
  if (which === 'machine') return machineSeconds();
  if (typeof which === 'object') return treeSeconds(which.tree);
  const fields = stat(which);
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Fields of /proc/<pid>/stat from the state on; the name before them may hold blanks and brackets. */
function stat(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function machineSeconds() {
  // user nice system idle iowait irq softirq steal
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'latin1')
    .split('\n', 1)[0]
    .trim()
    .split(/ +/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS;
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
