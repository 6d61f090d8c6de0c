/** The rules for text that people write: normal form, length, and what must not be in it. Pure. */

/** Shows nothing by itself: format characters, fillers, variation selectors. */
const INVISIBLE = String.raw`\p{Default_Ignorable_Code_Point}\p{Cf}\u2800`;
/** A flag of tag characters, such as Scotland's. Its tags are invisible alone and part of the flag here. */
const TAG_FLAG = String.raw`\u{1F3F4}[\u{E0020}-\u{E007F}]+`;
const INVISIBLE_OR_FLAG = new RegExp(`(${TAG_FLAG})|[${INVISIBLE}]`, 'gu');
const BLANK = new RegExp(`^[${INVISIBLE}\\p{White_Space}\\p{Cc}]*$`, 'u');
const CONTROL = /\p{Cc}/u;
const CONTROL_BUT_LINES = /[^\P{Cc}\n\t]/u;
const DASHES = /[\p{Pd}\u2212]/gu;

export interface TextRule {
  /** Code points. */
  readonly most: number;
  /** Whether line feeds and tabs are allowed. CR LF becomes LF. */
  readonly lines: boolean;
}

/**
 * A text as it is stored: trimmed, in normal form NFC. `wrong` says what is wrong with it, without the
 * field's name; empty if nothing is.
 */
export function checkText(
  value: string,
  { most, lines }: TextRule,
): { readonly text: string; readonly wrong: string[] } {
  const wrong: string[] = [];
  if (!value.isWellFormed()) return { text: value, wrong: ['holds half a character (a lone surrogate)'] };
  const text = (lines ? value.replaceAll('\r\n', '\n') : value).normalize('NFC').trim();
  const length = lengthOf(text);
  if (length > most) wrong.push(`${length} characters, at most ${most}`);
  const control = (lines ? CONTROL_BUT_LINES : CONTROL).exec(text)?.[0];
  if (control !== undefined) wrong.push(`holds the control character ${codePoint(control)}`);
  const bidi = wrongBidi(text);
  if (bidi !== null) wrong.push(bidi);
  return { text, wrong };
}

/** Whether a text shows nothing: it is empty, or all of it is white space or invisible. */
export function isBlank(text: string): boolean {
  return BLANK.test(text);
}

/**
 * What two labels have in common if people cannot tell them apart: NFKC without invisible characters, with white
 * space folded. Case counts.
 */
export function comparable(label: string): string {
  return visible(label.normalize('NFKC'))
    .replace(/\p{White_Space}+/gu, ' ')
    .trim();
}

/** A code as a person types or pastes it, in the form in which it is compared: `jxx-c8q` gives `JXXC8Q`. */
export function plainCode(typed: string): string {
  return visible(cut(typed, 200).normalize('NFKC'))
    .replace(/\p{White_Space}/gu, '')
    .replace(DASHES, '')
    .toUpperCase();
}

/** Code points, as people and Postgres count characters. */
export function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** The first `most` code points; never half a character. For messages and log lines. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text.toWellFormed();
  let end = 0;
  let count = 0;
  for (const character of text) {
    if (count++ === most) break;
    end += character.length;
  }
  return text.slice(0, end).toWellFormed();
}

function visible(text: string): string {
  return text.replace(INVISIBLE_OR_FLAG, (_, flag: string | undefined) => flag ?? '');
}

/** An override reorders what others read; an isolate or embedding without an end reorders what follows the text. */
function wrongBidi(text: string): string | null {
  const override = /[\u202D\u202E]/u.exec(text)?.[0];
  if (override !== undefined) return `holds the bidi override ${codePoint(override)}`;
  for (const [open, close] of [
    [/[\u202A\u202B]/u, '\u202C'],
    [/[\u2066-\u2068]/u, '\u2069'],
  ] as const) {
    let depth = 0;
    let last = '';
    for (const character of text) {
      if (open.test(character)) {
        depth++;
        last = character;
      } else if (character === close && depth > 0) depth--;
    }
    if (depth > 0) return `holds the bidi character ${codePoint(last)} without its end ${codePoint(close)}`;
  }
  return null;
}

function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}
