import { randomInt } from 'node:crypto';

/** No vowels and none of 0 O 1 I L 5 S 2 Z: nothing to mistake and no word by accident. 4.58 bits a letter. */
export const JOIN_ALPHABET = 'BCDFGHJKMNPQRTVWXY346789';

export function pick(alphabet: string, length: number): string {
  let text = '';
  for (let index = 0; index < length; index++) text += alphabet[randomInt(alphabet.length)];
  return text;
}
