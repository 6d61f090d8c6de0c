/** Reads the body and the parameters of a GraphQL-over-HTTP request. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Variables } from '../../graphql/engine/operation.ts';
import { LIMITS } from '../../limits/limits.ts';
import { errorText, JSON_HEADERS } from './reply.ts';
import { queryOf } from './target.ts';

export interface GraphqlParams {
  /** Null only with `hash`. */
  readonly query: string | null;
  /** SHA-256 of a persisted query, 64 hexadecimal digits. */
  readonly hash: string | null;
  readonly operationName: string | null;
  readonly variables: Variables;
}

/** The parameters of a valid body; null for any other. */
export function readParams(body: Buffer): GraphqlParams | null {
  try {
    return checkParams(JSON.parse(body.toString()));
  } catch {
    return null;
  }
}

/** A UTF-8 byte order mark is allowed before JSON and means nothing (RFC 8259, 8.1). */
export function withoutBom(body: Buffer): Buffer {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body;
}

/** The parameters of a GET. Null: there is no query. A text says what is wrong. */
export function readUrl(request: IncomingMessage): GraphqlParams | string | null {
  const searchParams = queryOf(request);
  const objects: Record<string, unknown> = {};
  for (const name of ['variables', 'extensions']) {
    try {
      objects[name] = JSON.parse(searchParams.get(name) || 'null');
    } catch {
      return `${name}: must be a JSON object.`;
    }
    if (!isObjectOrNothing(objects[name])) return `${name}: must be a JSON object.`;
  }
  return checkParams({
    query: searchParams.get('query') ?? undefined,
    operationName: searchParams.get('operationName') || null,
    ...objects,
  });
}

function checkParams(value: unknown): GraphqlParams | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  for (const name of Object.keys(value)) if (!PARAMETERS.has(name)) return null;
  const { query, operationName, variables, extensions }: Record<string, unknown> = { ...value };
  if (operationName != null && typeof operationName !== 'string') return null;
  if (!isObjectOrNothing(variables) || !isObjectOrNothing(extensions)) return null;
  const hash = extensions == null ? null : hashIn(extensions);
  if (typeof query !== 'string' && (query != null || hash === null)) return null;
  return { query: query ?? null, hash, operationName: operationName ?? null, variables };
}

function hashIn({ persistedQuery }: Readonly<Record<string, unknown>>): string | null {
  if (typeof persistedQuery !== 'object' || persistedQuery === null) return null;
  const { version, sha256Hash }: Record<string, unknown> = { ...persistedQuery };
  if (version !== 1 || typeof sha256Hash !== 'string') return null;
  return /^[0-9a-f]{64}$/i.test(sha256Hash) ? sha256Hash.toLowerCase() : null;
}

const PARAMETERS = new Set(['query', 'operationName', 'variables', 'extensions']);

function isObjectOrNothing(value: unknown): value is Variables {
  return value == null || (typeof value === 'object' && !Array.isArray(value));
}

/** Used only for bodies that `readParams` refuses: it parses the body a second time. */
export function isJson(body: Buffer): boolean {
  try {
    JSON.parse(body.toString());
    return true;
  } catch {
    return false;
  }
}

/**
 * Calls `done` with the whole body, without its byte order mark. If the body is too large,
 * answers 413, then reads and drops the rest for a while: closing the connection while the
 * client sends would reset it, and the client would lose the answer (RFC 9112, 9.6).
 */
export function readBody(request: IncomingMessage, response: ServerResponse, done: (body: Buffer) => void): void {
  let first: Buffer | null = null;
  let pieces: Buffer[] | null = null;
  let length = 0;
  request.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > LIMITS.bodyBytes) {
      first = pieces = null;
      if (!response.headersSent) refuse(response, `body: must have at most ${LIMITS.bodyBytes} bytes.`);
      if (length > LIMITS.bodyBytes + LIMITS.droppedBytes) response.end();
    } else if (first === null) {
      first = piece;
    } else {
      pieces ??= [first];
      pieces.push(piece);
    }
  });
  request.on('end', () => {
    if (length > LIMITS.bodyBytes) response.end();
    else done(withoutBom(pieces === null ? (first ?? EMPTY) : Buffer.concat(pieces)));
  });
}

/** Sends the whole answer. The caller ends the response, which closes the connection. */
function refuse(response: ServerResponse, message: string): void {
  const text = errorText(message);
  response.setHeader('connection', 'close');
  response.writeHead(413, { ...JSON_HEADERS, 'content-length': Buffer.byteLength(text) }).write(text);
}

const EMPTY = Buffer.alloc(0);
