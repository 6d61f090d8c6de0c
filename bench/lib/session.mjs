import { pause } from '../load/pause.mjs';
import { residentBytes } from './proc.mjs';
import { startLoad } from './processes.mjs';
import { subjects } from './subjects.mjs';

/**
 * One server under test with its load processes. Whatever `use` does and however it ends, everything that was started
 * is stopped.
 */
export async function withSession(bench, subjectName, options, use) {
  const subject = subjects[subjectName];
  const server = await subject.start({
    name: subjectName,
    store: bench.store,
    database: bench.database,
    profile: bench.profile,
    ...options,
  });
  const loads = [];
  const start = (kind) => {
    const load = startLoad(kind);
    loads.push(load);
    return load;
  };
  const session = {
    server,
    polls: server.polls,
    /** For the `cpu` of a measurement: the server, the load process that measures, and Postgres where it runs. */
    cpu: () => [server.pid, 'self', ...(bench.postgresPid() === undefined ? [] : [{ tree: bench.postgresPid() }])],

    /** Opens watchers and returns the process that holds them. */
    async watch(watchers, { dialect = subject.dialect, polls = server.polls } = {}) {
      const load = start('watch');
      await load.call('open', { port: server.port, dialect, polls: polls.map((poll) => poll.id), watchers });
      return load;
    },

    vote: (options) =>
      start('vote').call('vote', { port: server.port, polls: server.polls, cpu: session.cpu(), ...options }),

    /** Resident bytes after a collection, once things have come to rest. */
    async memory() {
      await pause(2000);
      await server.gc();
      await pause(500);
      await server.gc();
      return residentBytes(server.pid);
    },
  };
  try {
    return await use(session);
  } finally {
    for (const load of loads) load.stop();
    await server.stop();
  }
}
