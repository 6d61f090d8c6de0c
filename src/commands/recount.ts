/** `pollcast recount`: counts all ballots again and compares them with the kept tallies. */
import { recount } from '../app.ts';
import type { Config } from '../config/config.ts';

/** Prints each difference. Resolves to the exit code: 1 if there is any. */
export async function runRecount(config: Config): Promise<number> {
  const { polls, ballots, differences } = await recount(config);
  for (const { pollId, what, kept, recounted } of differences) {
    process.stderr.write(`poll ${pollId}, ${what}: kept ${kept}, recounted ${recounted}\n`);
  }
  process.stdout.write(`${polls} polls, ${ballots} ballots, ${differences.length} differences\n`);
  return differences.length > 0 ? 1 : 0;
}
