/** The forms of an event stream: GraphQL over SSE, plain results for `EventSource`, Apollo's multipart protocol. */
import type { GraphQLError } from 'graphql';
import type { Update } from '../../live/subscriber.ts';
import { chunk, serverSentEvent } from './encoding.ts';

export interface EventFormat {
  readonly isGraphql: boolean;
  readonly contentType: string;
  /** Wraps everything that is written: HTTP/1.1 chunks, or nothing for HTTP/1.0. */
  readonly frame: (data: Buffer) => Buffer;
  /** The first bytes. `retryMs`: when a client that loses the stream should come back. */
  readonly opening: (retryMs: number) => Buffer;
  readonly heartbeat: Buffer;
  readonly bytes: (update: Update) => Buffer;
  readonly failure: (errors: readonly GraphQLError[]) => Buffer;
  /** Sent when the viewer's token expires. */
  readonly expiry: (error: GraphQLError) => Buffer;
  /** Sent after the last update. */
  readonly complete: Buffer;
  /** Sent before the stream ends for a client that should come back. */
  readonly away: (retryMs: number) => Buffer;
  // The bytes of the last update, chunk framing included: all streams of a group get the same.
  lastUpdate: Update | null;
  lastBytes: Buffer;
}

const EVENT_STREAM = 'text/event-stream; charset=utf-8';
export const COMPLETE = serverSentEvent('complete', '');
const HEARTBEAT = Buffer.from(':\n\n');
const retry = (ms: number): Buffer => Buffer.from(`retry: ${ms}\n\n`);
/** Some browsers do not open a stream on headers alone, so a comment follows. */
const opening = (ms: number): Buffer => Buffer.from(`retry: ${ms}\n:\n\n`);
const NONE = Buffer.alloc(0);

/** GraphQL over SSE, distinct connections mode. */
export const GRAPHQL: EventFormat = {
  isGraphql: true,
  contentType: EVENT_STREAM,
  frame: chunk,
  opening,
  heartbeat: HEARTBEAT,
  bytes: ({ payload, cursor }) => serverSentEvent('next', payload, cursor),
  failure: (errors) => Buffer.concat([serverSentEvent('next', JSON.stringify({ errors })), COMPLETE]),
  expiry: (error) => GRAPHQL.failure([error]),
  complete: COMPLETE,
  away: retry,
  lastUpdate: null,
  lastBytes: NONE,
};

/** Plain results for `EventSource`. */
export const PLAIN: EventFormat = {
  isGraphql: false,
  contentType: EVENT_STREAM,
  frame: chunk,
  opening,
  heartbeat: HEARTBEAT,
  bytes: ({ payload, cursor }) => serverSentEvent('results', payload, cursor),
  failure: (errors) => serverSentEvent('failed', JSON.stringify({ errors })),
  // Not `failed`: a client with a new token resumes with its version.
  expiry: (error) => serverSentEvent('expired', JSON.stringify({ errors: [error] })),
  complete: COMPLETE,
  away: retry,
  lastUpdate: null,
  lastBytes: NONE,
};

const DELIMITER = '\r\n--graphql';
/** The delimiter follows at once: a client reads a part when it sees the next delimiter. */
const part = (json: Buffer | string): Buffer =>
  Buffer.concat([
    Buffer.from('\r\ncontent-type: application/json\r\n\r\n'),
    typeof json === 'string' ? Buffer.from(json) : json,
    Buffer.from(DELIMITER),
  ]);
const payloadPart = (payload: Buffer): Buffer =>
  part(Buffer.concat([Buffer.from('{"payload":'), payload, Buffer.from('}')]));
const END = Buffer.from('--\r\n');

/** GraphQL subscriptions over multipart HTTP (Apollo's protocol, `subscriptionSpec=1.0`). */
export const MULTIPART: EventFormat = {
  isGraphql: true,
  contentType: 'multipart/mixed; boundary="graphql"; subscriptionSpec=1.0',
  frame: chunk,
  opening: () => Buffer.from(DELIMITER),
  heartbeat: part('{}'),
  bytes: ({ payload }) => payloadPart(payload),
  failure: (errors) => Buffer.concat([payloadPart(Buffer.from(JSON.stringify({ errors }))), END]),
  expiry: (error) => MULTIPART.failure([error]),
  complete: END,
  // An error outside of the payload tells the client that the transport failed.
  away: () =>
    Buffer.concat([
      part('{"payload":null,"errors":[{"message":"The server is shutting down; subscribe again."}]}'),
      END,
    ]),
  lastUpdate: null,
  lastBytes: NONE,
};

/** HTTP/1.0, which some proxies speak, has no chunks: the body ends with the connection. */
const unchunked = (format: EventFormat): EventFormat => ({ ...format, frame: (data) => data });
export const GRAPHQL_UNCHUNKED = unchunked(GRAPHQL);
export const PLAIN_UNCHUNKED = unchunked(PLAIN);
export const MULTIPART_UNCHUNKED = unchunked(MULTIPART);
