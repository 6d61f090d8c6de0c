/**
 * GraphQL operations over HTTP. Valid requests take a fast path without promises: at tens of thousands of votes a
 * second each promise costs. Yoga answers malformed and unusual requests; both give the same answers.
 *
 * A1 A request is charged once. A2 It takes at most one place. A3 What is refused has run nothing.
 */
import type { IncomingMessage } from 'node:http';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { UnavailableError } from '../../core/errors.ts';
import { cut } from '../../core/text.ts';
import type { Context, Services } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { isRefusal, type PreparedOperation } from '../../graphql/engine/operation.ts';
import type { LongPollWait } from '../../graphql/engine/subscribe.ts';
import { asGraphQLError } from '../../graphql/schema/errors.ts';
import { withinSession } from '../../identity/session.ts';
import { LIMITS } from '../../limits/limits.ts';
import type { Subscriber, Update } from '../../live/subscriber.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { EventStreams } from '../events/streams.ts';
import type { LongPolls } from '../polling/long-polls.ts';
import { type Accepted, acceptedBy } from '../request/accepts.ts';
import { type GraphqlParams, readBody, readParams, readUrl } from '../request/body.ts';
import type { ClientAddresses } from '../request/client-address.ts';
import type { Contexts } from '../request/context.ts';
import { send, sendError, sendFault } from '../request/reply.ts';
import type { Response } from '../request/response.ts';
import { makeYoga } from './yoga.ts';

export interface GraphqlEndpoint {
  /** Answers a POST, also all that is wrong with it. */
  post(request: IncomingMessage, response: Response): void;
  /** Answers any method. Rejects if it cannot answer, as when the rate limit is reached. */
  handle(request: IncomingMessage, response: Response): Promise<void>;
}

/** One request on its way to its answer. */
interface HttpOperation {
  readonly request: IncomingMessage;
  readonly response: Response;
  readonly accepted: Accepted;
  readonly params: GraphqlParams;
  /** Null for a GET, which may not mutate. */
  readonly body: Buffer | null;
  /** The points of its address are paid (A1). */
  isCharged: boolean;
  /** It holds a place of its address (A2). */
  hasPlace: boolean;
}

/** What Yoga answers: the request, with the text of a persisted query put in. */
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
    if (request.method !== 'GET' && request.method !== 'HEAD') return handOver({ request, response, body: null });
    const accepted = acceptedBy(request.headers.accept);
    const params = readUrl(request);
    if (typeof params === 'string') {
      sendError(response, 400, params);
      return;
    }
    if (params === null) return handOver({ request, response, body: null });
    const operation: HttpOperation = {
      request,
      response,
      accepted,
      params,
      body: null,
      isCharged: false,
      hasPlace: false,
    };
    // A plain GET is Yoga's, which also knows a browser that wants GraphiQL.
    if (request.method === 'GET' && (accepted.events || params.hash !== null) && run(operation)) return;
    return handOver(operation);
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
          const operation = { request, response, accepted, params, body, isCharged: false, hasPlace: false };
          if (!run(operation)) handOverOrFail(operation);
          return;
        }
      }
      const params = type.startsWith('application/graphql') ? readGraphql(type, body) : null;
      handOverOrFail({ request, response, body, ...(params === null ? {} : { params }) });
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
      const send = (): void => streams.single(response, { errors: prepared });
      const charged = charge(operation, LIMITS.unusualCost);
      if (charged === null) send();
      else charged.then(send).catch((error: unknown) => sendFault(response, error, engine));
      return true;
    }
    const kind = prepared.operation.operation;
    if (kind === 'mutation' && body === null) return false;
    if (kind === 'subscription' && !accepted.events) return false;
    const context = contexts.of(operation.request, response);
    // A vote is charged where it is cast.
    const charged = kind === 'mutation' ? null : charge(operation, prepared.cost);
    if (charged === null && !(context instanceof Promise)) return runAs(operation, prepared, context);
    const go = ([known]: [Context, unknown]): void | Promise<void> => {
      if (response.destroyed || runAs(operation, prepared, known)) return;
      return handOver(operation);
    };
    Promise.all([context, charged])
      .then(go)
      .catch((error: unknown) => sendFault(response, error, engine));
    return true;
  }

  /** The same, once the viewer is known. */
  function runAs(operation: HttpOperation, prepared: PreparedOperation, context: Context): boolean {
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
      return true;
    }
    if (prepared.canWait && !holdPlace(operation, context.address)) return true;
    if (accepted.json === null && !accepted.events) return false;
    const refused = engine.refusal(prepared.operation, context) !== null;
    const wait = accepted.json === null || refused ? null : engine.waitOf(prepared, variables);
    if (wait !== null && accepted.json !== null) {
      waitFor(operation, { prepared, context, type: accepted.json, wait });
      return true;
    }
    const answer = (result: ExecutionResult): void => {
      if (accepted.json === null) streams.single(response, result);
      else if ('data' in result) send(response, 200, accepted.json, JSON.stringify(result));
      // Without data nothing was run: the variables or the viewer's token were wrong.
      else handOverOrFail(operation);
    };
    const result = engine.execute(prepared, variables, context);
    if (result instanceof Promise) result.then(answer).catch((error: unknown) => sendFault(response, error, engine));
    else answer(result);
    return true;
  }

  /** Charges the points of a request, once. Null: nothing to wait for. */
  function charge(operation: Handover, cost: number): Promise<void> | null {
    if (operation.isCharged === true) return null;
    operation.isCharged = true;
    return services.rates.operation(addresses.of(operation.request), cost);
  }

  /** Counts the request against its address's limit until the response closes. At the limit, sends 429 and returns false. */
  function holdPlace(operation: Handover, address: string): boolean {
    if (operation.hasPlace === true) return true;
    const { response } = operation;
    try {
      services.rates.connect(address);
    } catch (error) {
      sendFault(response, error, engine);
      return false;
    }
    operation.hasPlace = true;
    response.on('close', () => services.rates.disconnect(address));
    return true;
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

  function handOverOrFail(operation: Handover): void {
    handOver(operation).catch((error: unknown) => sendFault(operation.response, error, engine));
  }

  /** Lets Yoga answer, which costs more where the request was not charged before. */
  async function handOver(operation: Handover): Promise<void> {
    const { request, response } = operation;
    const prepared = preparedOf(operation);
    const isRead = prepared !== null && prepared.operation.operation !== 'mutation';
    await charge(operation, isRead ? prepared.cost : LIMITS.unusualCost);
    // Only a query with `waitMs` waits, and only one that is valid.
    if (response.destroyed || (prepared?.canWait === true && !holdPlace(operation, addresses.of(request)))) return;
    const { params } = operation;
    if (params == null || params.hash === null || params.query !== null) {
      return yoga.answer(request, response, operation.body);
    }
    const query = engine.find(null, params.hash);
    if (typeof query !== 'string') return sendRefusal(operation, [query]);
    return yoga.answer(request, response, operation.body, { ...params, query });
  }

  function preparedOf({ params }: Handover): PreparedOperation | null {
    if (params?.query == null) return null;
    const prepared = engine.prepare(params.query, params.operationName);
    return isRefusal(prepared) ? null : prepared;
  }

  /** Apollo Client falls back to the whole text at 200 with `application/json`. */
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

/** In lower case, without white space around the parts: `application/json ; charset=utf-8` is valid too. */
function plainType(given: string): string {
  return given
    .toLowerCase()
    .replace(/\s*([;=])\s*/g, '$1')
    .replace(/charset="([^"]*)"/, 'charset=$1')
    .trim();
}

/** `application/graphql` is the text of a document alone; `application/graphql+json` is like `application/json`. */
function readGraphql(type: string, body: Buffer): GraphqlParams | null {
  if (type.startsWith('application/graphql+json')) return readParams(body);
  return { query: body.toString(), hash: null, operationName: null, variables: null };
}

/** What is wrong with the media type of a body; null: nothing. A form can be posted from any page, with our cookie. */
function refusedType(type: string): string | null {
  if (!/^application\/(json|graphql|graphql\+json)(;|$)/.test(type)) return 'content-type: must be application/json.';
  const charset = /;charset=([^;]*)/.exec(type)?.[1];
  if (charset === undefined || charset === 'utf-8' || charset === 'utf8') return null;
  return `content-type: charset ${cut(charset, 40)} is not supported, only utf-8.`;
}
