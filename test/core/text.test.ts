/** The rules for text that people write, and for instants. */
import { describe, expect, test } from 'vitest';
import { readInstant } from '../../src/core/instant.ts';
import { newSettings } from '../../src/core/poll.ts';
import { checkText, comparable, cut, isBlank, lengthOf, plainCode } from '../../src/core/text.ts';

const check = (text: string, lines = false) => checkText(text, { most: 200, lines });
const choices = (...labels: string[]) => newSettings({ question: 'q', choices: labels }).choices.map((c) => c.label);

describe('texts', () => {
  test.each([
    ['English', 'Tabs or spaces?'],
    ['accents', 'Café, naïve, Zürich'],
    ['Persian with a non-joiner', 'می‌خواهم'],
    ['Hindi with a joiner', 'क्‍ष'],
    ['Hebrew in a closed isolate', 'a \u2067שלום\u2069 b'],
    ['an embedding that ends', 'a \u202Bשלום\u202C b'],
    ['a family emoji', '👩‍👩‍👧‍👦'],
    ['a heart with a variation selector', '❤️'],
    ['a flag of tags', '🏴󠁧󠁢󠁳󠁣󠁴󠁿'],
    ['Korean', '한국어'],
    ['Thai', 'ภาษาไทย'],
  ])('%s stays as it is', (_, text) => {
    expect(check(text)).toEqual({ text: text.normalize('NFC'), wrong: [] });
    expect(isBlank(text)).toBe(false);
  });

  test('a text is trimmed and gets normal form NFC', () => {
    expect(check(' Cafe\u0301\u00a0').text).toBe('Café');
    expect(check('a\r\nb', true)).toEqual({ text: 'a\nb', wrong: [] });
  });

  test.each([
    ['zero-width spaces', '\u200b\u200b'],
    ['a soft hyphen', '\u00ad'],
    ['Hangul fillers', '\u3164\uffa0'],
    ['a blank Braille pattern', '\u2800'],
    ['joiners and spaces', ' \u200d\u2060\ufeff '],
    ['tags without a flag', '\u{E0041}'],
  ])('%s show nothing and are refused', (_, text) => {
    expect(isBlank(text)).toBe(true);
    expect(() => newSettings({ question: text, choices: ['a', 'b'] })).toThrow('question: must not be empty');
    expect(() => choices('a', text)).toThrow('choices[1]: must not be empty');
  });

  test.each([
    ['a bell', 'a\u0007', 'holds the control character U+0007'],
    ['an escape sequence', '\u001b[31mred', 'holds the control character U+001B'],
    ['a C1 control character', 'a\u009b', 'holds the control character U+009B'],
    ['a carriage return', 'a\rb', 'holds the control character U+000D'],
    ['a bidi override', 'a\u202eb', 'holds the bidi override U+202E'],
    ['an isolate without its end', 'a\u2067b', 'holds the bidi character U+2067 without its end U+2069'],
    ['an embedding without its end', 'a\u202ab', 'holds the bidi character U+202A without its end U+202C'],
    ['a lone surrogate', 'a\ud83d', 'holds half a character (a lone surrogate)'],
  ])('%s is refused', (_, text, message) => {
    expect(check(text, true).wrong).toEqual([message]);
    expect(() => newSettings({ question: text, choices: ['a', 'b'] })).toThrow(`question: ${message}`);
    expect(() => newSettings({ question: 'q', description: text, choices: ['a', 'b'] })).toThrow(message);
  });

  test('line feeds and tabs are allowed in questions and descriptions, not in labels', () => {
    expect(newSettings({ question: 'a\n\tb', choices: ['a', 'b'] }).question).toBe('a\n\tb');
    expect(() => choices('a', 'b\nc')).toThrow('choices[1]: holds the control character U+000A');
  });

  test('lengths count characters, not UTF-16 units', () => {
    expect(choices('a', '😀'.repeat(200))[1]).toBe('😀'.repeat(200));
    expect(() => choices('a', '😀'.repeat(201))).toThrow('choices[1]: 201 characters, at most 200');
    expect(lengthOf('a😀')).toBe(2);
  });

  test('cut never leaves half a character', () => {
    expect(cut(`${'a'.repeat(39)}😀b`, 40)).toBe(`${'a'.repeat(39)}😀`);
    expect(cut('😀😀', 1)).toBe('😀');
    expect(cut('\ud83d', 4)).toBe('\ufffd');
  });
});

describe('choices that look the same are refused', () => {
  test.each([
    ['composed and decomposed', 'Café', 'Cafe\u0301'],
    ['a space at the end', 'A', 'A '],
    ['a zero-width space', 'A', 'A\u200b'],
    ['full width', 'A', 'Ａ'],
    ['two spaces', 'a b', 'a  b'],
    ['a no-break space', 'a b', 'a\u00a0b'],
  ])('%s', (_, one, other) => {
    expect(() => choices('x', one, other)).toThrow(/choices\[2\]: ".*" looks the same as choices\[1\]/);
  });

  test('case and flags count', () => {
    expect(choices('a', 'A')).toEqual(['a', 'A']);
    expect(comparable('🏴󠁧󠁢󠁥󠁮󠁧󠁿')).not.toBe(comparable('🏴󠁧󠁢󠁳󠁣󠁴󠁿'));
  });

  test('the message cuts a long label between characters', () => {
    const label = `${'a'.repeat(39)}😀😀`;
    expect(() => choices(label, label)).toThrow(`"${'a'.repeat(39)}😀" looks the same as choices[0]`);
  });
});

test.each([
  'JXXC8Q',
  'jxx-c8q',
  'JXX C8Q',
  ' jxxc8q\u200b',
  'JXX\u2212C8Q',
  'JXX\u00adC8Q',
  'ＪＸＸＣ８Ｑ',
  '\u200eJXX–C8Q\u200f',
])('the code %j is understood', (typed) => {
  expect(plainCode(typed)).toBe('JXXC8Q');
});

describe('instants', () => {
  test.each([
    ['2027-02-30T00:00:00Z', '2027-02-30 is not a date (February 2027 has 28 days)'],
    ['2028-02-30T00:00:00Z', '2028-02-30 is not a date (February 2028 has 29 days)'],
    ['2027-06-31T00:00:00Z', '2027-06-31 is not a date (June 2027 has 30 days)'],
    ['2027-00-01T00:00:00Z', '2027-00-01 is not a date (the month must be 01 to 12)'],
    ['2027-13-01T00:00:00Z', '2027-13-01 is not a date (the month must be 01 to 12)'],
    ['2027-06-00T00:00:00Z', '2027-06-00 is not a date (June 2027 has 30 days)'],
    ['2027-06-01T24:00:00Z', '2027-06-01T24:00:00Z is not a time (00:00:00 to 23:59:59)'],
    ['2027-06-01T23:59:60Z', '2027-06-01T23:59:60Z is not a time (00:00:00 to 23:59:59)'],
    ['2027-06-01T00:00:00+24:00', '2027-06-01T00:00:00+24:00 has no valid offset (-23:59 to +23:59)'],
    ['2027-06-01', 'must be an ISO 8601 instant with an offset, such as "2026-11-22T18:00:00Z"'],
    ['1969-12-31T23:59:59Z', 'must lie in the years 1970 to 9999 of UTC'],
  ])('%s is refused', (text, message) => {
    expect(readInstant(text)).toBe(message);
  });

  test.each([
    ['2028-02-29T00:00:00Z', '2028-02-29T00:00:00.000Z'],
    ['2027-06-30T23:59+02:00', '2027-06-30T21:59:00.000Z'],
    ['2027-06-30T23:59:59.123456789Z', '2027-06-30T23:59:59.123Z'],
  ])('%s is %s', (text, instant) => {
    const read = readInstant(text);
    expect(read instanceof Date ? read.toISOString() : read).toBe(instant);
  });
});
