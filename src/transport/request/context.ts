/** Reads the credentials of a request and makes the context that its operation runs in. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Context, Services } from '../../graphql/context.ts';
import { type Credentials, readViewer, type Viewer, VOTER_COOKIE, VOTER_HEADER } from '../../identity/viewer.ts';
import type { ClientAddresses } from './client-address.ts';
import { isOwn } from './cors.ts';
import type { Response } from './response.ts';

const YEAR_S = 365 * 24 * 3600;

export interface Contexts {
  /** Returns a promise only if it has to verify an account token. */
  of(request: IncomingMessage, response: Response): Context | Promise<Context>;
}

export function makeContexts(services: Services, addresses: ClientAddresses): Contexts {
  return {
    of(request, response) {
      const credentials = credentialsOf(request);
      const { voterToken } = credentials;
      const context = (viewer: Viewer): Context => ({
        services,
        viewer,
        address: addresses.of(request),
        voterToken: voterToken ?? null,
        origin: response,
        keepVoterToken: isOwnPage(request) ? (token) => keepCookie(response, token, addresses.isSecure(request)) : null,
      });
      const viewer = readViewer(credentials, services.voters, services.accounts);
      return viewer instanceof Promise ? viewer.then(context) : context(viewer);
    },
  };
}

/** Shared by all requests without credentials, to save memory. */
export const NO_CREDENTIALS: Credentials = {};

/** `withCookie` is false for pages of origins that may call without credentials. */
export function credentialsOf({ headers }: IncomingMessage, withCookie = true): Credentials {
  const { authorization } = headers;
  const cookie = withCookie ? headers.cookie : undefined;
  const header = headers[VOTER_HEADER];
  const voterToken = typeof header === 'string' && header !== '' ? header : undefined;
  if (authorization === undefined && cookie === undefined && voterToken === undefined) return NO_CREDENTIALS;
  return { authorization, cookie, voterToken };
}

/**
 * Whether a page of this server sent the request. A browser keeps the httpOnly cookie only for
 * our own pages, so any other page gets its voter token in the payload. Over plain HTTP,
 * browsers send `Origin` and omit `Sec-Fetch-Site`.
 */
function isOwnPage({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  return headers.origin !== undefined && isOwn(headers.origin, headers.host);
}

function keepCookie(response: ServerResponse, token: string, secure: boolean): boolean {
  const attributes = `Path=/; Max-Age=${YEAR_S}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
  response.setHeader('set-cookie', `${VOTER_COOKIE}=${token}; ${attributes}`);
  return true;
}
