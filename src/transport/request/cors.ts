/** Which pages of other origins may call from a browser, over HTTP (CORS) and WebSocket alike. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendError } from './reply.ts';

/**
 * `none`: no page asks. `own`: one of our own. `listed`: one of CORS_ORIGINS, with its credentials. `any`: every page may
 * ask, without. `foreign`: this one may not.
 */
export type PageOrigin = 'none' | 'own' | 'listed' | 'any' | 'foreign';

export interface Cors {
  asking(request: IncomingMessage): PageOrigin;
  /** Says in the answer's head who may read it. True: it was a preflight, and is answered. */
  answer(request: IncomingMessage, response: ServerResponse): boolean;
}

const METHODS = 'GET, HEAD, POST';
/** Two hours: Chromium keeps it no longer. */
const MAX_AGE_S = '7200';

export function makeCors(allowed: readonly string[] | '*'): Cors {
  const list = new Set(allowed === '*' ? [] : allowed);

  function asking({ headers }: IncomingMessage): PageOrigin {
    const { origin } = headers;
    if (origin === undefined) return 'none';
    if (isOwn(origin, headers.host)) return 'own';
    if (list.has(origin)) return 'listed';
    return allowed === '*' ? 'any' : 'foreign';
  }

  return {
    asking,
    answer(request, response) {
      const { origin } = request.headers;
      // A cache must not give one origin's answer to another, nor an answer without the header to any of them.
      if (list.size > 0) response.setHeader('vary', 'Origin');
      if (origin === undefined && allowed !== '*') return false;
      const who = asking(request);
      if (who === 'listed' && origin !== undefined) {
        response.setHeader('access-control-allow-origin', origin);
        response.setHeader('access-control-allow-credentials', 'true');
      } else if (allowed === '*') response.setHeader('access-control-allow-origin', '*');
      const method = request.headers['access-control-request-method'];
      if (request.method !== 'OPTIONS' || method === undefined) {
        if (who === 'listed' || who === 'any') response.setHeader('access-control-expose-headers', 'ETag, Retry-After');
        return false;
      }
      if (who === 'foreign') {
        sendError(response, 403, 'This origin may not call: it is not one of CORS_ORIGINS.');
        return true;
      }
      const asked = request.headers['access-control-request-headers'];
      const known = asked !== undefined && /^[\w-]+( *, *[\w-]+)*$/.test(asked);
      response
        .writeHead(204, {
          'access-control-allow-methods': METHODS,
          'access-control-max-age': MAX_AGE_S,
          ...(known ? { 'access-control-allow-headers': asked } : {}),
        })
        .end();
      return true;
    },
  };
}

/** A page that came from here. The scheme is the proxy's business, which may have taken the TLS off. */
export function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && origin.replace(/^https?:\/\//, '') === host;
}
