/** Reads the header `Accept`: which form of answer a client takes. */
export interface Accepted {
  /** The JSON media type of the answer, with its charset. Null if the client takes none. */
  readonly json: string | null;
  /** Whether the client names event streams. */
  readonly events: boolean;
}

const TYPES = ['application/graphql-response+json', 'application/json'] as const;
const MAX_CACHED = 100;
const cache = new Map<string, Accepted>();

/**
 * Takes the first range that fits, in the client's order, as Yoga does. A wildcard means
 * `application/json`.
 */
export function acceptedBy(header: string | undefined): Accepted {
  const text = header ?? '*/*';
  let accepted = cache.get(text);
  if (accepted === undefined) {
    accepted = read(text);
    if (cache.size < MAX_CACHED) cache.set(text, accepted);
  }
  return accepted;
}

/** The header without charsets of UTF-8. Yoga refuses quotes and the spelling `utf8`. */
export function withoutCharset(header: string): string {
  return header.replace(/;\s*charset\s*=\s*("?)utf-?8\1(?=\s*(?:[;,]|$))/gi, '');
}

function read(text: string): Accepted {
  const ranges = withoutCharset(text)
    .toLowerCase()
    .split(',')
    .map((part) => part.split(';'))
    .filter(([, ...parameters]) => !parameters.some((parameter) => parameter.trim().startsWith('charset')))
    .map(([range = '']) => range.trim());
  let json: string | null = null;
  for (const range of ranges) {
    if (range === TYPES[0]) json = TYPES[0];
    else if (range === TYPES[1] || range === 'application/*' || range === '*/*' || range === '*/json') json = TYPES[1];
    else continue;
    break;
  }
  return { json: json === null ? null : `${json}; charset=utf-8`, events: ranges.includes('text/event-stream') };
}
