/**
 * Who a voter is, without keeping it. A DEVICE voter bears a token: a random id with our signature. What is stored is a
 * voter key: an HMAC of the identity and the poll id, cut to 128 bits, so that no raw identity is kept and two polls
 * cannot be joined on it.
 *
 * A CODE voter is known by the code alone, in its one poll. Once seen, the code is not needed again: its bearer gets a token of
 * poll and voter key, `c1.<poll>.<key>.<signature>`, from which nobody finds the code.
 */
import { createHmac, createSecretKey, randomFillSync, timingSafeEqual } from 'node:crypto';
import { plainCode } from '../core/text.ts';

export interface VoterKeys {
  /** A token for a new voter. */
  issue(): { readonly token: string; readonly voter: string };
  /** The bearer of a code in a poll, whether or not that code was issued; in any case, with or without spaces and hyphens. */
  ofCode(pollId: string, code: string): { readonly token: string; readonly voter: string };
  /** The voter that a token names; null where we did not sign it. */
  read(token: string): string | null;
  /** The key to store, shaped like a UUID. */
  keyOf(pollId: string, voter: string): string;
}

const CODED = 'coded:';
const CODE_TOKEN = /^c1\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{22})$/;
const ID = /^v1\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{22})$/;

// A call for random bytes costs more than the bytes: they are fetched for 256 ids at once, and none is used twice.
const pool = Buffer.alloc(256 * 16);
let used = pool.length;

function randomId(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += 16;
  return pool.toString('base64url', used - 16, used);
}

/** Tells two secrets apart without giving either away. */
export function secretFingerprint(secret: string): string {
  return createHmac('sha256', secret).update('pollcast secret fingerprint').digest('hex').slice(0, 32);
}

export function makeVoterKeys(secret: string): VoterKeys {
  // Two uses, two keys: what signs tokens must not be what hides identities.
  const signing = createSecretKey(createHmac('sha256', secret).update('voter token').digest());
  const hiding = createSecretKey(createHmac('sha256', secret).update('voter key').digest());
  const sign = (id: string): Buffer => createHmac('sha256', signing).update(id).digest().subarray(0, 16);
  // As text: the last character has bits to spare, and one token has one form.
  const isSigned = (id: string, mac: string): boolean => {
    const given = Buffer.from(mac);
    const own = Buffer.from(sign(id).toString('base64url'));
    return given.length === own.length && timingSafeEqual(given, own);
  };
  const hide = (pollId: string, voter: string): string =>
    shaped(createHmac('sha256', hiding).update(`${pollId}\n${voter}`).digest('hex'));

  return {
    issue() {
      const id = randomId();
      return { token: `v1.${id}.${sign(id).toString('base64url')}`, voter: `device:${id}` };
    },
    ofCode(pollId, code) {
      const key = hide(pollId, `code:${plainCode(code)}`);
      const id = `c1.${pollId}.${Buffer.from(key.replaceAll('-', ''), 'hex').toString('base64url')}`;
      return { token: `${id}.${sign(id).toString('base64url')}`, voter: `${CODED}${pollId}:${key}` };
    },
    read(token) {
      const [, id, mac] = ID.exec(token) ?? [];
      if (id !== undefined && mac !== undefined) return isSigned(id, mac) ? `device:${id}` : null;
      const [, pollId, key, codeMac] = CODE_TOKEN.exec(token) ?? [];
      if (pollId === undefined || key === undefined || codeMac === undefined) return null;
      if (!isSigned(`c1.${pollId}.${key}`, codeMac)) return null;
      return `${CODED}${pollId}:${shaped(Buffer.from(key, 'base64url').toString('hex'))}`;
    },
    keyOf(pollId, voter) {
      const own = `${CODED}${pollId}:`;
      return voter.startsWith(own) ? voter.slice(own.length) : hide(pollId, voter);
    },
  };
}

/** Whether the voter is known by a code, of whatever poll. */
export function isCoded(voter: string): boolean {
  return voter.startsWith(CODED);
}

/** Whether the voter is known by a code of that poll. */
export function isCodedIn(pollId: string, voter: string): boolean {
  return voter.startsWith(`${CODED}${pollId}:`);
}

function shaped(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
