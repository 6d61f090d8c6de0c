/** DESIGN, section 4: files import downwards only, side doors are opened by app.ts alone, and there are no circles. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from './support/server.ts';

const SRC = join(ROOT, 'src');
/** The rooms of docs/architecture.md, top first, each with the rooms that its line allows besides. */
const ROOMS = readRooms(readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8'));
const SIDE_DOORS = ['store', 'bus', 'ops'];

function readRooms(text: string): { readonly room: string; readonly only: readonly string[] | null }[] {
  const list = text.slice(text.indexOf('## Rooms'), text.indexOf('Side doors:'));
  return [...list.matchAll(/^- `(\w+)`: ([^\n]*(?:\n {2}[^\n]*)*)/gm)].map(([, room = '', line = '']) => {
    const only = /\[only ([\w, ]+)\]/.exec(line)?.[1];
    return { room, only: only === undefined ? null : only.split(', ') };
  });
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

function imports(file: string): string[] {
  const source = readFileSync(join(SRC, file), 'utf8');
  return [...source.matchAll(/(?:from|import)\s*\(?'(\.[^']+)'/g)].map(([, path]) =>
    relative(SRC, normalize(join(SRC, dirname(file), path ?? ''))),
  );
}

const roomOf = (file: string): string => (file.includes('/') ? (file.split('/')[0] ?? '') : file.replace('.ts', ''));

function mayImport(from: string, to: string): boolean {
  if (from === to || to === 'core') return true;
  if (SIDE_DOORS.includes(from)) return to === 'ports';
  if (from === 'config') return false;
  if (SIDE_DOORS.includes(to) || to === 'config') return ['main', 'commands', 'app'].includes(from);
  const rooms = ROOMS.map(({ room }) => room);
  const only = ROOMS[rooms.indexOf(from)]?.only ?? null;
  return only === null ? rooms.indexOf(from) < rooms.indexOf(to) : only.includes(to);
}

test('every room stands in docs/architecture.md', () => {
  const known = new Set([...ROOMS.map(({ room }) => room), ...SIDE_DOORS, 'config']);
  expect(files.map(roomOf).filter((room) => !known.has(room))).toEqual([]);
  expect(ROOMS.length).toBeGreaterThan(9);
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

test('only main.ts and commands/ read the environment, arguments or signals, and time comes from the clock', () => {
  const wrong = files
    .filter((file) => file !== 'main.ts' && !['commands', 'ops'].includes(roomOf(file)))
    .filter((file) => {
      const source = readFileSync(join(SRC, file), 'utf8');
      return (
        /process\.(env|argv|on|exit|std)/.test(source) ||
        (/Date\.now\(|new Date\(\)/.test(source) && file !== 'store/database/folder-lock.ts')
      );
    });
  expect(wrong).toEqual([]);
});
