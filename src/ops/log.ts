import { pino } from 'pino';
import pretty from 'pino-pretty';
import type { Log } from '../ports/log.ts';

/** What secrets look like, wherever they stand in a line: in a message, a stack, the parameters of a statement. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  // The user and the password of any URL.
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@"\\]*@/gi, '$1***@'],
  // Organizer keys, voter tokens, JSON web tokens, whatever else somebody bears.
  [/\bpck_[\w-]+/g, '***'],
  [/\bv1\.[\w-]{22}\.[\w-]{22}/g, '***'],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, '***'],
  [/\b(Bearer|Basic) +[^\s"\\]+/gi, '$1 ***'],
  [/\b(pollcast_voter=)[^\s;"\\]+/g, '$1***'],
  // Drizzle puts the parameters of a statement that failed into its message.
  [/\\nparams: (?:[^"\\]|\\.)*?(?=\\n {4}at |")/g, '\\nparams: ***'],
];

const NAMES = ['authorization', 'cookie', 'organizerKey', 'voterToken', 'codes', 'secret', 'password'];

/** `secrets` never reach a line; `worker` stands in each where several share an output. */
export interface LogOptions {
  readonly secrets?: readonly string[];
  readonly worker?: number;
}

/** JSON lines; readable ones on a terminal. What may be a secret is taken out wherever it stands. */
export function makeLog(level: string, terminal: boolean, { secrets = [], worker }: LogOptions = {}): Log {
  // As they stand in JSON; the longest first, so that none is cut in two by a shorter one.
  const known = secrets.map((secret) => JSON.stringify(secret).slice(1, -1)).sort((a, b) => b.length - a.length);
  const scrub = (line: string): string => {
    let clean = line;
    for (const secret of known) clean = clean.replaceAll(secret, '***');
    for (const [shape, instead] of SHAPES) clean = clean.replace(shape, instead);
    return clean;
  };
  return pino(
    {
      level,
      redact: NAMES.flatMap((name) => [name, `*.${name}`]),
      base: worker === undefined ? null : { worker },
      hooks: { streamWrite: scrub },
    },
    terminal ? pretty({ colorize: true, ignore: 'pid,hostname', sync: true }) : pino.destination({ fd: 1, sync: true }),
  );
}
