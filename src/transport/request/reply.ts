/** Whole answers that are short: a text, JSON, errors with their status. */
import type { ServerResponse } from 'node:http';
import type { GraphQLError } from 'graphql';
import { HTTP_STATUS, PollcastError } from '../../core/errors.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import type { Response } from './response.ts';

export function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
}

export const JSON_HEADERS = {
  'content-type': 'application/json; charset=utf-8',
  'x-content-type-options': 'nosniff',
} as const;

export const errorText = (message: string): string => JSON.stringify({ errors: [{ message }] });

/** Not for what is answered by the thousand: each header is felt there. */
export function sendJson(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { ...JSON_HEADERS, 'content-length': Buffer.byteLength(text) }).end(text);
}

/** Errors with a status; one that says when to try again says it to proxies and plain clients too. */
export function sendErrors(
  response: ServerResponse,
  status: number,
  errors: readonly Pick<GraphQLError, 'message' | 'extensions'>[],
): void {
  const retryAfterMs = errors[0]?.extensions.retryAfterMs;
  if (typeof retryAfterMs === 'number') response.setHeader('retry-after', Math.ceil(retryAfterMs / 1_000));
  sendJson(response, status, JSON.stringify({ errors }));
}

export function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, errorText(message));
}

/** What was thrown on the way to an answer, masked. Where part of the answer is out, nothing can be said any more. */
export function sendFault(response: Response, error: unknown, engine: Pick<Engine, 'mask'>): void {
  const { message, extensions } = engine.mask(error, response);
  const status = error instanceof PollcastError ? HTTP_STATUS[error.code] : 500;
  if (response.headersSent) response.destroy();
  else sendErrors(response, status, [{ message, extensions }]);
}
