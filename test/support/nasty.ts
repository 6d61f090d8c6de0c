/** Hostile input values. None contains a word that `leaks` looks for, or its echo would count as a leak. */

/** Placeholder for JSON that JSON.stringify cannot write, such as `1e999`: the text after the colon. */
export const raw = (json: string): string => `raw:${json}`;

export function withRaw(body: string): string {
  return body.replaceAll(/"raw:([^"\\]*)"/g, '$1');
}

export const NASTY_TEXTS: readonly string[] = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  'x\udc00y',
  '\ufeff',
  '\u2028\u2029',
  '\u202egnirts',
  'مرحبا بالعالم',
  '👩‍👩‍👧‍👦🏳️‍🌈'.repeat(3),
  'Z̸̡͎̗̾a̵͔͝l̶͓̽g̷̱̈́o̴̘͠',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '__typename',
  "'; DROP TABLE polls; --",
  "' OR '1'='1",
  '$1',
  '{{7*7}}',
  '%s%n%x',
  '%00',
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  '../../../etc/passwd',
  'null',
  'undefined',
  'NaN',
  '-1',
  '1e999',
  '0x10',
  '[object Object]',
  '=1+1',
  'c1.x.y.z',
  'v1.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA',
  '\r\nset-cookie: a=b',
  'ÿ'.repeat(201),
  'q'.repeat(501),
  'long '.repeat(2_000),
  '"',
  '\\',
  '\\u0000',
];

export const NASTY_NUMBERS: readonly (number | string)[] = [
  0,
  -0,
  1,
  -1,
  0.5,
  100,
  101,
  2_147_483_647,
  2_147_483_648,
  -2_147_483_648,
  -2_147_483_649,
  Number.MAX_SAFE_INTEGER,
  Number.MAX_SAFE_INTEGER + 2,
  1e21,
  1e308,
  raw('1e999'),
  raw('-1e999'),
  raw('123456789012345678901234567890'),
  'NaN',
  '7',
];

export const NASTY_DATES: readonly (string | number)[] = [
  '0000-01-01T00:00:00Z',
  '0000-01-01T00:00:00+14:00',
  '0001-01-01T00:00:00+14:00',
  '1969-12-31T23:59:59.999Z',
  '9999-12-31T23:59:59.999Z',
  '9999-12-31T23:59:59.999-14:00',
  '2026-02-30T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-11-22T24:00:00Z',
  '2026-11-22T25:00:00Z',
  '2026-11-22T18:00:00+99:99',
  '2026-11-22',
  '2026-11-22T18:00:00',
  '+010000-01-01T00:00:00Z',
  'now',
  'infinity',
  '-infinity',
  '',
  1e20,
  0,
];

/** What no response may contain: stacks, paths, class names, words of the database. */
const LEAKS: readonly RegExp[] = [
  /\n\s+at .+[:(]/,
  /\\n\s+at /,
  /node_modules|node:internal|file:\/\/|\/tmp\/|\/home\/|\/usr\/|\/src\/|[\w-]+\.[jt]s:\d/,
  /voter_key|organizer_key_hash|on conflict|drizzle|postgres|pglite|sqlstate|unnest|relation "|column "|failed query/i,
  /invalid byte sequence|out of range for|syntax error at|invalid input syntax|stack size/i,
  /\b[A-Z]\w+(?:Error|Exception): /,
  /Cannot (?:read|set|convert)|is not a function|is not iterable|of undefined|of null \(/,
];

export function leakIn(body: string): string | null {
  for (const leak of LEAKS) {
    const found = leak.exec(body);
    if (found !== null) return body.slice(Math.max(0, found.index - 60), found.index + 120);
  }
  return null;
}
