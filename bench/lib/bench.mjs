// What a figure gets to work with: the options of this run, sessions, and the loop of repetitions.
import { startPostgres } from './postgres.mjs';
import { withSession } from './session.mjs';
import { percent } from './stats.mjs';
import { subjects } from './subjects.mjs';

/** Above this share of a core, used by none of ours, a sample is called disturbed. */
const NOISE = 0.1;

export function makeBench(options) {
  let postgres;
  const bench = {
    ...options,
    problems: [],
    postgres: () => postgres,

    /** A fresh database; the cluster is started by the first who asks. */
    async database() {
      postgres ??= await startPostgres({ core: options.pgCore });
      return postgres.database();
    },

    session: (subject, settings, use) => withSession(bench, subject, settings, use),

    /** Of these, the ones that exist here and were asked for. */
    present(names) {
      const wanted = names.filter((name) => options.only === undefined || options.only.includes(name));
      const missing = wanted.filter((name) => !subjects[name].isThere());
      for (const name of missing) bench.problem(`${name} is not there (not built?) and was left out`);
      return wanted.filter((name) => !missing.includes(name));
    },

    /**
     * `measure(name, run)` for every name, `runs` times, the names taking turns (and turns at going first), so that a
     * noisy minute hits all alike. One entry a run; null where it failed, which is reported, not hidden.
     */
    async compare(names, measure) {
      const samples = Object.fromEntries(names.map((name) => [name, []]));
      for (let run = 0; run < options.runs; run += 1) {
        const turn = run % Math.max(names.length, 1);
        for (const name of [...names.slice(turn), ...names.slice(0, turn)]) {
          try {
            const sample = await measure(name, run);
            samples[name].push(sample);
            bench.say(`  run ${run + 1}/${options.runs}  ${name.padEnd(18)} ${sample.says}`);
            const noise = sample.cpu?.others ?? 0;
            if (noise > NOISE)
              bench.problem(`run ${run + 1} of ${name} was disturbed: others used ${percent(noise)} of a core`);
          } catch (error) {
            samples[name].push(null);
            bench.problem(`run ${run + 1} of ${name} failed: ${error.message.split('\n', 1)[0]}`);
          }
        }
      }
      return samples;
    },

    say: (text) => console.log(text),
    problem(text) {
      bench.problems.push(text);
      console.log(`  ! ${text}`);
    },
    stop: () => postgres?.stop(),
  };
  return bench;
}
