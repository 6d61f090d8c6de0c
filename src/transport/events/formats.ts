/** How the events of a stream read: GraphQL in distinct connections mode, or plain results for `EventSource`. */
import type { GraphQLError } from 'graphql';
import type { Update } from '../../live/subscriber.ts';
import { chunk, serverSentEvent } from './encoding.ts';

export interface EventFormat {
  readonly isGraphql: boolean;
  /** What goes around whatever is written. */
  readonly frame: (data: Buffer) => Buffer;
  readonly bytes: (update: Update) => Buffer;
  readonly failure: (errors: readonly GraphQLError[]) => Buffer;
  /** The viewer's token has expired: what comes next takes a new one. */
  readonly expiry: (error: GraphQLError) => Buffer;
  // One after the other is served the same update: its bytes, chunk framing included, are at hand without a look-up.
  lastUpdate: Update | null;
  lastBytes: Buffer;
}

export const COMPLETE = serverSentEvent('complete', '');

export const GRAPHQL: EventFormat = {
  isGraphql: true,
  frame: chunk,
  bytes: ({ payload, cursor }) => serverSentEvent('next', payload, cursor),
  failure: (errors) => Buffer.concat([serverSentEvent('next', JSON.stringify({ errors })), COMPLETE]),
  expiry: (error) => GRAPHQL.failure([error]),
  lastUpdate: null,
  lastBytes: COMPLETE,
};

export const PLAIN: EventFormat = {
  isGraphql: false,
  frame: chunk,
  bytes: ({ payload, cursor }) => serverSentEvent('results', payload, cursor),
  failure: (errors) => serverSentEvent('failed', JSON.stringify({ errors })),
  // No `failed`: a client that has a new token goes on with its version.
  expiry: (error) => serverSentEvent('expired', JSON.stringify({ errors: [error] })),
  lastUpdate: null,
  lastBytes: COMPLETE,
};

/** For HTTP/1.0, as some proxies speak it unless they are told otherwise: there are no chunks, the body ends with its connection. */
const bare = (dialect: EventFormat): EventFormat => ({ ...dialect, frame: (data) => data });
export const GRAPHQL_UNCHUNKED = bare(GRAPHQL);
export const PLAIN_UNCHUNKED = bare(PLAIN);
