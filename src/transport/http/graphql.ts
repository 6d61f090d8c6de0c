/**
 * Answers GraphQL operations over HTTP. Valid requests take a fast path without promises,
 * because each promise costs at tens of thousands of votes a second. Yoga answers
 * malformed and unusual requests; both give the same answers.
 */
import type { IncomingMessage } from 'node:http';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { UnavailableError } from '../../core/errors.ts';
import { cut } from '../../core/text.ts';
import type { Context, Services } from '../../graphql/context.ts';
import type { Admission } from '../../graphql/engine/admit.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { isRefusal, type PreparedOperation } from '../../graphql/engine/operation.ts';
import type { LongPollWait } from '../../graphql/engine/subscribe.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import { withinSession } from '../../identity/session.ts';
import type { Subscriber, Update } from '../../live/subscriber.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import { asksForMultipart, type EventStreams } from '../events/streams.ts';
import type { LongPolls } from '../polling/long-polls.ts';
import { type Accepted, acceptedBy } from '../request/accepts.ts';
import { type GraphqlParams, isJson, readBody, readParams, readUrl } from '../request/body.ts';
import type { ClientAddresses } from '../request/client-address.ts';
import type { Contexts } from '../request/context.ts';
import { errorText, JSON_HEADERS, send, sendError, sendFault } from '../request/reply.ts';
import type { Response } from '../request/response.ts';
import { makeYoga } from './yoga.ts';

export interface GraphqlEndpoint {
  /** Answers a POST, errors included. */
  post(request: IncomingMessage, response: Response): void;
  /** Answers any method. Rejects at a fault. */
  handle(request: IncomingMessage, response: Response): Promise<void>;
}

/** A well-formed GraphQL request. */
interface HttpOperation {
  readonly request: IncomingMessage;
  readonly response: Response;
  readonly accepted: Accepted;
  readonly params: GraphqlParams;
  /** Null for a GET, which may not mutate. */
  readonly body: Buffer | null;
  /** It has been charged and has its place, or it was refused (A1, A2). */
  isAdmitted: boolean;
}

/** A request that Yoga answers. `params` is missing if the request is malformed. */
type Handover = Pick<HttpOperation, 'request' | 'response' | 'body'> & Partial<HttpOperation>;

interface GraphqlLongPoll {
  readonly prepared: PreparedOperation;
  readonly context: Context;
  readonly type: string;
  readonly wait: LongPollWait;
}

export function makeGraphqlEndpoint(options: {
  readonly engine: Engine;
  readonly services: Services;
  readonly streams: EventStreams;
  readonly polling: LongPolls;
  readonly addresses: ClientAddresses;
  readonly contexts: Contexts;
  readonly clock: Clock;
  readonly log: Log;
}): GraphqlEndpoint {
  const { engine, services, streams, polling, addresses, contexts, clock } = options;
  const yoga = makeYoga(options);

  return { post, handle };

  async function handle(request: IncomingMessage, response: Response): Promise<void> {
    if (request.method === 'POST') {
      post(request, response);
      return;
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      handOver({ request, response, body: null });
      return;
    }
    const accepted = acceptedBy(request.headers.accept);
    const params = readUrl(request);
    if (typeof params === 'string') {
      sendError(response, 400, params);
      return;
    }
    if (params === null) {
      handOver({ request, response, body: null });
      return;
    }
    const operation: HttpOperation = {
      request,
      response,
      accepted,
      params,
      body: null,
      isAdmitted: false,
    };
    // Yoga answers a plain GET: it also serves GraphiQL to browsers.
    if (
      request.method === 'GET' &&
      (accepted.events || asksForMultipart(request) || params.hash !== null) &&
      run(operation)
    )
      return;
    handOver(operation);
  }

  function post(request: IncomingMessage, response: Response): void {
    const given = request.headers['content-type'] ?? '';
    const type = given === 'application/json' ? given : plainType(given);
    // Yoga compares media types in lower case.
    if (type !== given) request.headers['content-type'] = type;
    const refused = type === 'application/json' ? null : refusedType(type);
    if (refused !== null) {
      request.resume();
      sendError(response, 415, refused);
      return;
    }
    const encoding = request.headers['content-encoding'];
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      request.resume();
      response.setHeader('accept-encoding', 'identity');
      sendError(response, 415, `content-encoding: ${cut(encoding, 40)} is not supported; send the body as it is.`);
      return;
    }
    readBody(request, response, (body) => {
      try {
        take(body);
      } catch (error) {
        // An exception in a stream event handler would end the process, so catch it here.
        sendFault(response, error, engine);
      }
    });

    function take(body: Buffer): void {
      if (type === 'application/json' || type.startsWith('application/json;')) {
        const params = readParams(body);
        if (params !== null) {
          const accepted = acceptedBy(request.headers.accept);
          const operation = { request, response, accepted, params, body, isAdmitted: false };
          if (!run(operation)) handOver(operation);
          return;
        }
      }
      const params = type.startsWith('application/graphql') ? readGraphql(type, body) : null;
      if (params === null && !isJson(body)) {
        // Yoga's answer would contain the message of the JSON parser.
        const { json } = acceptedBy(request.headers.accept);
        send(response, 400, json ?? JSON_HEADERS['content-type'], errorText('body: must be JSON in UTF-8.'));
        return;
      }
      handOver({ request, response, body, ...(params === null ? {} : { params }) });
    }
  }

  /** Returns false, having run nothing, if Yoga must answer. */
  function run(operation: HttpOperation): boolean {
    const { response, accepted, params, body } = operation;
    const query = params.hash === null ? params.query : engine.find(params.query, params.hash);
    if (query === null) return false;
    if (typeof query !== 'string') {
      sendRefusal(operation, [query]);
      return true;
    }
    const prepared = engine.prepare(query, params.operationName);
    if (isRefusal(prepared)) {
      if (accepted.json !== null || !accepted.events) return false;
      whenAdmitted(operation, null, () => streams.single(response, { errors: prepared }));
      return true;
    }
    const kind = prepared.operation.operation;
    if (kind === 'mutation' && body === null) return false;
    if (kind === 'subscription' && !accepted.events && !asksForMultipart(operation.request)) return false;
    if (accepted.json === null && !accepted.events) return false;
    const go = (context: Context): void =>
      whenAdmitted(operation, prepared, () => runAdmitted(operation, prepared, context));
    const context = contexts.of(operation.request, response);
    if (context instanceof Promise) context.then(go).catch((error: unknown) => sendFault(response, error, engine));
    else go(context);
    return true;
  }

  /** Calls `next` once the request is charged and has its place, else answers 429. */
  function whenAdmitted(operation: Handover, prepared: PreparedOperation | null, next: () => void): void {
    if (operation.isAdmitted === true) {
      next();
      return;
    }
    operation.isAdmitted = true;
    const { request, response } = operation;
    whenOk(
      response,
      engine.admit({
        rates: services.rates,
        address: addresses.of(request),
        prepared,
        // The response may have closed while the charge was awaited.
        onPlace: (release) => {
          if (response.destroyed) release();
          else response.on('close', release);
        },
      }),
      next,
    );
  }

  function whenOk(response: Response, admission: Admission | Promise<Admission>, next: () => void): void {
    const decide = (decided: Admission): void => {
      if (response.destroyed) return;
      if (decided.ok) next();
      else sendFault(response, decided.error, engine);
    };
    if (!(admission instanceof Promise)) decide(admission);
    else admission.then(decide).catch((error: unknown) => sendFault(response, error, engine));
  }

  function runAdmitted(operation: HttpOperation, prepared: PreparedOperation, context: Context): void {
    const { request, response, accepted } = operation;
    const { variables } = operation.params;
    if (prepared.operation.operation === 'subscription') {
      const start = (subscriber: Subscriber, after: number | null) =>
        engine.subscribe(prepared, variables, context, subscriber, after ?? undefined);
      try {
        const expiresAt = context.viewer.account?.expiresAt ?? null;
        streams.subscribe(request, response, { start, address: context.address, expiresAt });
      } catch (error) {
        sendFault(response, error, engine);
      }
      return;
    }
    const refused = engine.refusal(prepared.operation, context) !== null;
    const wait = accepted.json === null || refused ? null : engine.waitOf(prepared, variables);
    if (wait !== null && accepted.json !== null) {
      waitFor(operation, { prepared, context, type: accepted.json, wait });
      return;
    }
    const answer = (result: ExecutionResult): void => {
      if (accepted.json === null) {
        const { rates } = services;
        const admission = engine.admitRejected(prepared, result, { rates, address: context.address });
        whenOk(response, admission, () => streams.single(response, result));
      } else if ('data' in result) send(response, 200, accepted.json, JSON.stringify(result));
      // Without data nothing was run: the variables or the viewer's token were wrong.
      else handOver(operation);
    };
    const result = engine.execute(prepared, variables, context);
    if (result instanceof Promise) result.then(answer).catch((error: unknown) => sendFault(response, error, engine));
    else answer(result);
  }

  /** A long poll in GraphQL. When the time has passed, it answers the current results. */
  function waitFor(operation: HttpOperation, { prepared, context, type, wait }: GraphqlLongPoll): void {
    const { request, response } = operation;
    const { variables } = operation.params;
    const start = (subscriber: Subscriber, afterVersion: number | null) =>
      engine.wait(prepared, variables, context, { ...wait, afterVersion }, subscriber);
    const answer = ({ payload }: Update) => send(response, 200, type, payload);
    const refuse = async ([error]: readonly GraphQLError[]): Promise<void> => {
      // The query itself says that the poll does not exist, or why it cannot be read.
      const isGone = error?.extensions.code === 'NOT_FOUND';
      const pollView = isGone ? null : error;
      const result = await engine.execute(
        prepared,
        variables,
        pollView === undefined ? context : { ...context, pollView },
      );
      send(response, 200, type, JSON.stringify(result));
    };
    const now = (): void =>
      polling.wait(request, response, {
        start,
        after: null,
        waitMs: 0,
        answer,
        nothing: () => void refuse([asGraphQLError(new UnavailableError('The server is shutting down; try again.'))]),
        refuse,
      });
    polling.wait(request, response, {
      start,
      after: wait.afterVersion,
      waitMs: withinSession(wait.waitMs, context.viewer, clock),
      answer,
      nothing: now,
      refuse,
    });
  }

  /** Lets Yoga answer. A request without a valid operation is charged as unusual. */
  function handOver(operation: Handover): void {
    const { request, response, body, params } = operation;
    const prepared = preparedOf(operation);
    const mayRun = prepared !== null && (body !== null || prepared.operation.operation !== 'mutation');
    whenAdmitted(operation, mayRun ? prepared : null, () => {
      const query = params == null || params.hash === null ? null : engine.find(params.query, params.hash);
      if (query !== null && typeof query !== 'string') {
        sendRefusal(operation, [query]);
        return;
      }
      const resolved = params == null || query === null || params.query !== null ? undefined : { ...params, query };
      yoga.answer(request, response, body, resolved).catch((error: unknown) => sendFault(response, error, engine));
    });
  }

  function preparedOf({ params }: Handover): PreparedOperation | null {
    if (params === undefined) return null;
    const query = params.hash === null ? params.query : engine.find(params.query, params.hash);
    if (typeof query !== 'string') return null;
    const prepared = engine.prepare(query, params.operationName);
    return isRefusal(prepared) ? null : prepared;
  }

  /**
   * Apollo Client sends the whole text only if the answer has status 200 and
   * `application/json`.
   */
  function sendRefusal({ response, accepted }: Handover, errors: readonly GraphQLError[]): void {
    const { json = null, events = false } = accepted ?? {};
    if (json === null && events) {
      streams.single(response, { errors });
      return;
    }
    const status = json?.startsWith('application/graphql-response') === true ? 400 : 200;
    send(response, status, json ?? 'application/json; charset=utf-8', JSON.stringify({ errors }));
  }
}

/** A media type in lower case, without white space around `;` and `=`. */
function plainType(given: string): string {
  return given
    .toLowerCase()
    .replace(/\s*([;=])\s*/g, '$1')
    .replace(/charset="([^"]*)"/, 'charset=$1')
    .trim();
}

/**
 * The body of `application/graphql` is a document; `application/graphql+json` is JSON.
 */
function readGraphql(type: string, body: Buffer): GraphqlParams | null {
  if (type.startsWith('application/graphql+json')) return readParams(body);
  return { query: body.toString(), hash: null, operationName: null, variables: null };
}

/**
 * The error of a media type; null if it is supported. Form types are refused, because any
 * page can post a form with our cookie.
 */
function refusedType(type: string): string | null {
  if (!/^application\/(json|graphql|graphql\+json)(;|$)/.test(type)) return 'content-type: must be application/json.';
  const charset = /;charset=([^;]*)/.exec(type)?.[1];
  if (charset === undefined || charset === 'utf-8' || charset === 'utf8') return null;
  return `content-type: charset ${cut(charset, 40)} is not supported, only utf-8.`;
}
