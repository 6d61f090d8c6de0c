/** Who asks over HTTP: the credentials of a request become the context that its operation runs in. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Context, Services } from '../../graphql/context.ts';
import { readViewer, type Viewer, VOTER_COOKIE, VOTER_HEADER } from '../../identity/viewer.ts';
import type { ClientAddresses } from './client-address.ts';
import { isOwn } from './cors.ts';
import type { Response } from './response.ts';

const YEAR_S = 365 * 24 * 3600;

export interface Contexts {
  /** A promise only where a token of an account has to be verified. */
  of(request: IncomingMessage, response: Response): Context | Promise<Context>;
}

export function makeContexts(services: Services, addresses: ClientAddresses): Contexts {
  return {
    of(request, response) {
      const { authorization, cookie } = request.headers;
      const header = request.headers[VOTER_HEADER];
      const voterToken = typeof header === 'string' && header !== '' ? header : undefined;
      const context = (viewer: Viewer): Context => ({
        services,
        viewer,
        address: addresses.of(request),
        voterToken: voterToken ?? null,
        origin: response,
        keepVoterToken: isOwnPage(request) ? (token) => keepCookie(response, token, addresses.isSecure(request)) : null,
      });
      const viewer = readViewer({ authorization, cookie, voterToken }, services.voters, services.accounts);
      return viewer instanceof Promise ? viewer.then(context) : context(viewer);
    },
  };
}

/**
 * Whether the request comes from a page of our own: only a browser keeps an httpOnly cookie, and it drops ours on a page of
 * another origin, which gets the token in the payload. `Sec-Fetch-*` is not sent over plain http in a network, `Origin` is.
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
