/** A GraphQL-over-HTTP request as it arrives: its body, and its parameters where they are in order. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Variables } from '../../graphql/engine/operation.ts';
import { LIMITS } from '../../limits/limits.ts';
import { errorText, JSON_HEADERS } from './reply.ts';

export interface GraphqlParams {
  readonly query: string;
  readonly operationName: string | null;
  readonly variables: Variables;
}

/** What is in order; null otherwise. */
export function readParams(body: Buffer): GraphqlParams | null {
  try {
    return checkParams(JSON.parse(body.toString()));
  } catch {
    return null;
  }
}

export function readUrl(request: IncomingMessage): GraphqlParams | null {
  const { searchParams } = new URL(request.url ?? '/', 'http://localhost');
  try {
    const variables: unknown = JSON.parse(searchParams.get('variables') || 'null');
    return checkParams({
      query: searchParams.get('query'),
      operationName: searchParams.get('operationName'),
      variables,
    });
  } catch {
    return null;
  }
}

function checkParams(value: unknown): GraphqlParams | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  for (const name of Object.keys(value)) if (!PARAMETERS.has(name)) return null;
  const { query, operationName, variables, extensions }: Record<string, unknown> = { ...value };
  if (typeof query !== 'string') return null;
  if (operationName != null && typeof operationName !== 'string') return null;
  if (!isObjectOrNothing(variables) || !isObjectOrNothing(extensions)) return null;
  return { query, operationName: operationName ?? null, variables };
}

const PARAMETERS = new Set(['query', 'operationName', 'variables', 'extensions']);

function isObjectOrNothing(value: unknown): value is Variables {
  return value == null || (typeof value === 'object' && !Array.isArray(value));
}

/**
 * Calls `done` with the whole body, unless it is too large: then that has been said. What is still under way is read and
 * dropped for a while: a connection that is closed under its sender is reset, and the answer is lost with it (RFC 9112, 9.6).
 */
export function readBody(request: IncomingMessage, response: ServerResponse, done: (body: Buffer) => void): void {
  let first: Buffer | null = null;
  let pieces: Buffer[] | null = null;
  let length = 0;
  request.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > LIMITS.bodyBytes) {
      first = pieces = null;
      if (!response.headersSent) refuse(response, `The body is larger than ${LIMITS.bodyBytes} bytes.`);
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
    else done(pieces === null ? (first ?? EMPTY) : Buffer.concat(pieces));
  });
}

/** The whole answer, at once; whoever ends it closes the connection. */
function refuse(response: ServerResponse, message: string): void {
  const text = errorText(message);
  response.setHeader('connection', 'close');
  response.writeHead(413, { ...JSON_HEADERS, 'content-length': Buffer.byteLength(text) }).write(text);
}

const EMPTY = Buffer.alloc(0);
