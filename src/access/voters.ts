/**
 * Who a voter is, without keeping it. A DEVICE voter bears a token: a random id with our signature. What is stored is a
 * voter key: an HMAC of the identity and the poll id, cut to 128 bits, so that no raw identity is kept and two polls
 * cannot be joined on it.
 */
import { createHmac, createSecretKey, randomFillSync, timingSafeEqual } from 'node:crypto';

export interface Voters {
  /** A token for a new voter. */
  issue(): { readonly token: string; readonly voter: string };
  /** The voter that a token names; null where we did not sign it. */
  read(token: string): string | null;
  /** The key to store, shaped like a UUID. */
  keyOf(pollId: string, voter: string): string;
}

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

export function makeVoters(secret: string): Voters {
  // Two uses, two keys: what signs tokens must not be what hides identities.
  const signing = createSecretKey(createHmac('sha256', secret).update('voter token').digest());
  const hiding = createSecretKey(createHmac('sha256', secret).update('voter key').digest());
  const sign = (id: string): Buffer => createHmac('sha256', signing).update(id).digest().subarray(0, 16);

  return {
    issue() {
      const id = randomId();
      return { token: `v1.${id}.${sign(id).toString('base64url')}`, voter: `device:${id}` };
    },
    read(token) {
      const [, id, mac] = ID.exec(token) ?? [];
      if (id === undefined || mac === undefined) return null;
      const given = Buffer.from(mac, 'base64url');
      const own = sign(id);
      return given.length === own.length && timingSafeEqual(given, own) ? `device:${id}` : null;
    },
    keyOf(pollId, voter) {
      const hex = createHmac('sha256', hiding).update(`${pollId}\n${voter}`).digest('hex');
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
    },
  };
}
