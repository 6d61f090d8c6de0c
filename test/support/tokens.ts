/** Makes account tokens and an issuer whose keys a test can change, hide or break. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';

export const JWT_SECRET = 'a secret for the tokens of the tests';

export interface Claims extends JWTPayload {
  readonly role?: string;
}

/** Signed with the secret, good for an hour unless the claims say otherwise. */
export function token(claims: Claims = {}, secret = JWT_SECRET, alg = 'HS256'): Promise<string> {
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  return new SignJWT({ sub: 'ada', exp, ...claims }).setProtectedHeader({ alg }).sign(Buffer.from(secret));
}

export function bearer(text: string): { authorization: string } {
  return { authorization: `Bearer ${text}` };
}

/** A token with any header, claims and signature. */
export function forged(header: object, claims: object, signature: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(claims)}.${signature}`;
}

export interface Issuer extends AsyncDisposable {
  readonly url: string;
  /** How often the keys were fetched. */
  readonly fetches: number;
  /** Replaces all keys by a new one with this name. */
  rotate(kid: string, alg?: 'RS256' | 'ES256'): Promise<void>;
  /** Adds a key that is published without a name. */
  addNameless(): Promise<void>;
  /** Signs with the key of this name, also with a former one. */
  token(kid: string, claims?: Claims): Promise<string>;
  /** Answered instead of the keys. Null: answer the keys. */
  fail: { readonly status: number; readonly body: string } | 'hang' | null;
  readonly publicKeys: readonly JWK[];
}

export async function startIssuer(): Promise<Issuer> {
  const signers = new Map<string, { alg: string; key: CryptoKey }>();
  let published: JWK[] = [];
  let fetches = 0;
  const server = createServer((_, response) => {
    fetches++;
    if (issuer.fail === 'hang') return;
    const { status, body } = issuer.fail ?? { status: 200, body: JSON.stringify({ keys: published }) };
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const make = async (kid: string, alg: string): Promise<JWK> => {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    signers.set(kid, { alg, key: privateKey });
    return { ...(await exportJWK(publicKey)), alg, use: 'sig' };
  };
  const issuer: Issuer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`,
    get fetches() {
      return fetches;
    },
    get publicKeys() {
      return published;
    },
    fail: null,
    async rotate(kid, alg = 'RS256') {
      published = [{ ...(await make(kid, alg)), kid }];
    },
    async addNameless() {
      published = [...published, await make('nameless', 'RS256')];
    },
    token(kid, claims = {}) {
      const signer = signers.get(kid);
      if (signer === undefined) throw new Error(`There was never a key "${kid}".`);
      const exp = Math.floor(Date.now() / 1_000) + 3_600;
      const header = { alg: signer.alg, ...(kid === 'nameless' ? {} : { kid }) };
      return new SignJWT({ sub: 'ada', exp, ...claims }).setProtectedHeader(header).sign(signer.key);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return issuer;
}
