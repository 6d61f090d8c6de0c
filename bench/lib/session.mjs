import { pause } from '../load/timing.mjs';
import { residentBytes } from './proc.mjs';
import { startLoad } from './processes.mjs';
import { subjects } from './subjects.mjs';

/**
 * One server under test with its load processes. Whatever `use` does and however it ends, everything that was started
 * is stopped.
 */
export async function withSession(bench, subjectName, options, use) {
  const { store, database, profile } = bench;
  const subject = subjects[subjectName];
  const server = await subject.start({ name: subjectName, store, database, profile, ...options });
  const { port, polls } = server;
  const loads = [];
  let crowd;

  const start = (kind) => {
    const load = startLoad(kind);
    loads.push(load);
    return load;
  };

  /** Who is to be told apart when CPU is measured. `load` is the process that measures, `crowd` watches beside it. */
  const cpu = (besides = {}) => ({
    machine: 'machine',
    server: server.pid,
    load: 'self',
    driver: process.pid,
    ...besides,
    ...(bench.postgres() === undefined ? {} : { postgres: { tree: bench.postgres().pid } }),
  });

  const session = {
    server,
    polls,

    /** Opens watchers and returns the process that holds them. */
    async watch(watchers, { dialect = subject.dialect } = {}) {
      crowd = start('watch');
      await crowd.call('open', { port, dialect, polls: polls.map((poll) => poll.id), watchers });
      return crowd;
    },

    /** Votes from a process of its own; the watchers look on. */
    vote: (load) =>
      start('vote').call('vote', { port, polls, cpu: cpu(crowd === undefined ? {} : { crowd: crowd.pid }), ...load }),

    /** The watchers' own process votes: in a closed loop, or at a steady pace. */
    rounds: (load) => crowd.call('rounds', { port, polls, cpu: cpu(), ...load }),
    pace: (load) => crowd.call('pace', { port, polls, cpu: cpu(), ...load }),

    /** Resident bytes after a collection, once things have come to rest. */
    async memory() {
      await pause(2000);
      await server.gc();
      await pause(500);
      const young = await server.gc();
      const resident = residentBytes(server.pid);
      return { resident, young, rest: resident - young };
    },
  };
  try {
    return await use(session);
  } finally {
    for (const load of loads) load.stop();
    await server.stop();
  }
}
