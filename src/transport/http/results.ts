/** A poll's results without GraphQL, for `fetch`, `curl`, CDNs and `EventSource`. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { GraphQLError } from 'graphql';
import { type ErrorCode, HTTP_STATUS, InvalidInputError, PollcastError } from '../../core/errors.ts';
import { cut } from '../../core/text.ts';
import type { Context } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import { withinSession } from '../../identity/session.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { Subscription } from '../../live/hub.ts';
import type { ExportFormat } from '../../polls/export.ts';
import type { Clock } from '../../ports/clock.ts';
import { STREAM_HEADERS } from '../events/stream.ts';
import type { EventStreams } from '../events/streams.ts';
import type { LongPollRequest, LongPolls } from '../polling/long-polls.ts';
import { sendErrors } from '../request/reply.ts';
import { exportFormat, sendExport } from './export.ts';

/** Only the path counts. */
const ORIGIN = 'http://localhost';

export interface ResultsEndpoint {
  /** Answers `/polls/{id}/results`, `/polls/{id}/stream` and `/polls/{id}/export.csv` or `.json`; false: it is none of them. */
  handle(request: IncomingMessage, response: ServerResponse, context: Context): boolean;
}

export function makeResultsEndpoint(
  engine: Engine,
  polling: LongPolls,
  streams: EventStreams,
  clock: Clock,
): ResultsEndpoint {
  return {
    handle(request, response, context) {
      if (!URL.canParse(request.url ?? '/', ORIGIN)) return false;
      const url = new URL(request.url ?? '/', ORIGIN);
      const [, id, what, extension] =
        /^\/polls\/([^/]{1,64})\/(results|stream|export\.(csv|json))$/.exec(url.pathname) ?? [];
      if (id === undefined) return false;
      const format = exportFormat(extension);
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        response.setHeader('allow', 'GET, HEAD');
        refuse(response, [new GraphQLError('Only GET and HEAD are possible here.')], 405);
        return true;
      }
      const go = (): void => {
        if (response.destroyed) return;
        if (format !== null) file(response, id, context, { format, bom: url.searchParams.get('bom') !== '0' });
        else if (what === 'stream') stream(request, response, id, context);
        else answer(request, response, id, context, url.searchParams);
      };
      const failed = (error: unknown): void => refuse(response, [engine.mask(error, context.origin)]);
      const counted = context.services.rates.operation(context.address, LIMITS.plainCost);
      if (counted !== null) {
        counted.then(go).catch(failed);
        return true;
      }
      try {
        go();
      } catch (error) {
        failed(error);
      }
      return true;
    },
  };

  function startOf(id: string, context: Context, presence: Subscription['presence']): LongPollRequest['start'] {
    return async (subscriber, after) => {
      try {
        return await engine.watchResults(id, context, subscriber, after, presence);
      } catch (error) {
        return [error instanceof PollcastError ? asGraphQLError(error) : engine.mask(error, context.origin)];
      }
    };
  }

  function file(
    response: ServerResponse,
    id: string,
    context: Context,
    options: { readonly format: ExportFormat; readonly bom: boolean },
  ): void {
    sendExport(response, context, id, options).catch((error: unknown) => {
      const shown = error instanceof PollcastError ? asGraphQLError(error) : engine.mask(error, context.origin);
      if (response.headersSent) response.destroy();
      else refuse(response, [shown]);
    });
  }

  function stream(request: IncomingMessage, response: ServerResponse, id: string, context: Context): void {
    if (request.method === 'HEAD') {
      // Look the poll up like a short poll and send the head that a stream begins with.
      const nothing = (): void => void response.writeHead(200, STREAM_HEADERS).end();
      polling.wait(request, response, {
        start: startOf(id, context, 'none'),
        after: null,
        waitMs: 0,
        answer: nothing,
        nothing,
        refuse: (errors) => refuse(response, errors),
      });
      return;
    }
    const start = startOf(id, context, 'staying');
    const watcher = { start, address: context.address, expiresAt: context.viewer.account?.expiresAt ?? null };
    streams.plain(request, response, watcher, (errors) => refuse(response, errors));
  }

  function answer(
    request: IncomingMessage,
    response: ServerResponse,
    id: string,
    context: Context,
    params: URLSearchParams,
  ): void {
    const asked = readWhole(params, 'afterVersion', Number.MAX_SAFE_INTEGER);
    const waitMs = readWhole(params, 'waitMs', LIMITS.waitMs) ?? 0;
    if (waitMs > 0 && asked === null)
      throw new InvalidInputError('waitMs: takes afterVersion, the version that you have.');
    if (waitMs > 0) holdPlace(response, context);
    const knownTags = request.headers['if-none-match'];
    // A second in a CDN absorbs a crowd; an answer that was waited for belongs to who waited.
    const isPublic = (): boolean => {
      const poll = context.services.hub.known(id)?.poll;
      return poll?.resultsVisibility === 'ALWAYS' && poll.status !== 'DRAFT';
    };
    const cache = (): string => (waitMs > 0 ? 'no-store' : isPublic() ? 'public, max-age=1' : 'private, no-store');
    const unchanged = (etag: string | null): void => {
      response.writeHead(304, { 'cache-control': cache(), ...(etag === null ? {} : { etag }) }).end();
    };
    polling.wait(request, response, {
      start: startOf(id, context, waitMs > 0 ? 'returning' : 'none'),
      after: asked,
      waitMs: withinSession(waitMs, context.viewer, clock),
      answer: ({ cursor, payload }) => {
        const etag = entityTag(cursor, payload);
        if (matches(knownTags, etag)) {
          unchanged(etag);
          return;
        }
        response
          .writeHead(200, {
            'content-type': 'application/json; charset=utf-8',
            'content-length': payload.length,
            'cache-control': cache(),
            etag,
          })
          .end(request.method === 'HEAD' ? undefined : payload);
      },
      // Nothing was read, so it is only known of a public poll that its tallies are not hidden.
      nothing: () => unchanged(isPublic() ? `"v${asked}"` : null),
      refuse: (errors) => refuse(response, errors),
    });
  }
}

/** Results without their tallies have a tag of their own: a viewer who may see them now must not be answered 304. */
function entityTag(version: number, payload: Buffer): string {
  return payload.includes(HIDDEN) ? `"v${version}h"` : `"v${version}"`;
}

const HIDDEN = '"tallies":null';

/** Weak comparison of If-None-Match (RFC 9110, 13.1.2): a list of tags, or `*` for any. */
function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return [...header.matchAll(/"[^"]*"/g)].some(([tag]) => tag === etag);
}

/** Takes a place of the address until the response closes. Throws `RateLimitedError` if none is left. */
function holdPlace(response: ServerResponse, { services, address }: Context): void {
  services.rates.connect(address);
  response.on('close', () => services.rates.disconnect(address));
}

function readWhole(params: URLSearchParams, name: string, most: number): number | null {
  const text = params.get(name);
  if (text === null) return null;
  if (!/^\d{1,16}$/.test(text) || Number(text) > most) {
    throw new InvalidInputError(`${name}: "${cut(text, 40)}" must be a whole number from 0 to ${most}.`);
  }
  return Number(text);
}

function refuse(response: ServerResponse, errors: readonly GraphQLError[], status?: number): void {
  const code = errors[0]?.extensions.code;
  const known = typeof code === 'string' && Object.hasOwn(HTTP_STATUS, code) ? HTTP_STATUS[code as ErrorCode] : 500;
  sendErrors(response, status ?? known, errors);
}
