/** Which form of answer a client takes. */
export interface Accepted {
  /** The JSON media type to answer with, complete; null where the client takes none. */
  readonly json: string | null;
  /** Whether it takes an event stream by name. */
  readonly events: boolean;
}

const TYPES = ['application/graphql-response+json', 'application/json'] as const;
const known = new Map<string, Accepted>();

/** As Yoga chooses: the first that fits, in the client's order; `application/json` where anything will do. */
export function acceptedBy(header: string | undefined): Accepted {
  const text = header ?? '*/*';
  let accepted = known.get(text);
  if (accepted === undefined) {
    accepted = read(text);
    // Clients send a handful of them; who sends many is not remembered.
    if (known.size < 100) known.set(text, accepted);
  }
  return accepted;
}

function read(text: string): Accepted {
  const ranges = text
    .replace(/[\s"]/g, '')
    .toLowerCase()
    .split(',')
    .map((part) => part.split(';'))
    .filter(
      ([, ...params]) => (params.find((param) => param.includes('charset=')) ?? 'charset=utf-8') === 'charset=utf-8',
    )
    .map(([range]) => range ?? '');
  let json: string | null = null;
  for (const range of ranges) {
    if (range === TYPES[0]) json = TYPES[0];
    else if (range === TYPES[1] || range === 'application/*' || range === '*/*' || range === '*/json') json = TYPES[1];
    else continue;
    break;
  }
  return { json: json === null ? null : `${json}; charset=utf-8`, events: ranges.includes('text/event-stream') };
}
