/** DESIGN, section 4: files import downwards only, side doors are opened by app.ts alone, and there are no circles. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from './support/server.ts';

const SRC = join(ROOT, 'src');
const FLOORS = ['main', 'workers', 'app', 'transport', 'graphql', 'access+polls', 'live', 'core'];
const SIDE_DOORS = ['store', 'bus', 'ops'];
const APART = ['client', 'web', 'demo'];

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

function imports(file: string): string[] {
  const source = readFileSync(join(SRC, file), 'utf8');
  return [...source.matchAll(/(?:from|import)\s*\(?'(\.[^']+)'/g)].map(([, path]) =>
    relative(SRC, normalize(join(SRC, dirname(file), path ?? ''))),
  );
}

const roomOf = (file: string): string => (file.includes('/') ? (file.split('/')[0] ?? '') : file.replace('.ts', ''));

/** `access` and `polls` stand on `live`; `polls` also on `access`. */
function mayImport(from: string, to: string): boolean {
  if (from === to || to === 'core') return true;
  if (APART.includes(from) || APART.includes(to)) return from === 'web' && to === 'client';
  if (SIDE_DOORS.includes(to)) return from === 'app';
  if (SIDE_DOORS.includes(from)) return false;
  if (from === 'config') return false;
  // The primary knows nothing of the server that its workers run.
  if (from === 'workers') return false;
  if (to === 'config') return from === 'main' || from === 'app';
  if (from === 'access') return false;
  if (from === 'live') return false;
  const order = ['main', 'workers', 'app', 'transport', 'graphql', 'polls', 'access', 'live'];
  return order.indexOf(from) < order.indexOf(to);
}

test('every room is known', () => {
  const known = new Set([...FLOORS.flatMap((floor) => floor.split('+')), ...SIDE_DOORS, ...APART, 'config']);
  expect(files.map(roomOf).filter((room) => !known.has(room))).toEqual([]);
  expect(files.length).toBeGreaterThan(30);
});

test('files import only from their own room or from rooms below it', () => {
  const wrong = files.flatMap((file) =>
    imports(file)
      .filter((target) => !mayImport(roomOf(file), roomOf(target)))
      .map((target) => `${file} -> ${target}`),
  );
  expect(wrong).toEqual([]);
});

test('there are no circles', () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
    else if (!done.has(file)) {
      for (const target of imports(file)) visit(target, [...path, file]);
      done.add(file);
    }
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test('core is pure: it imports nothing but itself', () => {
  const outside = files
    .filter((file) => roomOf(file) === 'core')
    .filter((file) => /(?:from|import)\s*\(?'[^.]/.test(readFileSync(join(SRC, file), 'utf8')));
  expect(outside).toEqual([]);
});

test('only main.ts reads the environment, arguments or signals, and time comes from the clock', () => {
  const wrong = files
    .filter((file) => !APART.includes(roomOf(file)) && file !== 'main.ts' && roomOf(file) !== 'ops')
    .filter((file) => {
      const source = readFileSync(join(SRC, file), 'utf8');
      return (
        /process\.(env|argv|on|exit|std)/.test(source) ||
        (/Date\.now\(|new Date\(\)/.test(source) && file !== 'store/lock.ts')
      );
    });
  expect(wrong).toEqual([]);
});
