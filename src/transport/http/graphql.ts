/**
 * GraphQL operations over HTTP. A vote comes by here: what is in order goes a short way, free of promises up to the operation
 * itself, since at tens of thousands a second each is felt. Yoga answers all the rest, and no client can tell which did.
 */
import type { IncomingMessage } from 'node:http';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { UnavailableError } from '../../core/errors.ts';
import type { Context, Services } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import { isRefusal, type PreparedOperation, type Variables } from '../../graphql/engine/operation.ts';
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
  /** A POST, by far the most of them. Answers whatever goes wrong itself. */
  post(request: IncomingMessage, response: Response): void;
  /** Any method. Rejects where it could not be answered, as where too much was asked. */
  handle(request: IncomingMessage, response: Response): Promise<void>;
}

interface LongPoll {
  readonly prepared: PreparedOperation;
  readonly variables: Variables;
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
    const accepted = acceptedBy(request.headers.accept);
    if (request.method === 'GET' && accepted.events) {
      const params = readUrl(request);
      if (params !== null && run(request, response, params, accepted, null)) return;
    }
    return handOver(request, response, null);
  }

  function post(request: IncomingMessage, response: Response): void {
    const given = request.headers['content-type'] ?? '';
    // A media type is the same in any case; Yoga knows it in small letters alone.
    const type = given === 'application/json' ? given : given.toLowerCase();
    if (type !== given) request.headers['content-type'] = type;
    // A form can be posted from any page, with our cookie and without a preflight.
    if (type !== 'application/json' && !/^application\/(json|graphql|graphql\+json)\s*(;|$)/.test(type)) {
      request.resume();
      sendError(response, 415, 'content-type: must be application/json.');
      return;
    }
    readBody(request, response, (body) => {
      try {
        take(body);
      } catch (error) {
        // Nobody else catches what is thrown in the event of a stream: it would end the process.
        sendFault(response, error, engine);
      }
    });

    function take(body: Buffer): void {
      if (type === 'application/json' || type.startsWith('application/json;')) {
        const params = readParams(body);
        if (params !== null && run(request, response, params, acceptedBy(request.headers.accept), body)) return;
      }
      handOver(request, response, body).catch((error: unknown) => sendFault(response, error, engine));
    }
  }

  /**
   * The short way: answers what is in order. False: it is not, and Yoga says so, in its words, whatever it is; so a
   * client cannot tell the two ways apart. Nothing was run then. `body` is null for a GET, which may not mutate.
   */
  function run(
    request: IncomingMessage,
    response: Response,
    params: GraphqlParams,
    accepted: Accepted,
    body: Buffer | null,
  ): boolean {
    const prepared = engine.prepare(params.query, params.operationName);
    if (isRefusal(prepared)) {
      if (accepted.json !== null || !accepted.events) return false;
      const counted = services.rates.operation(addresses.of(request), LIMITS.unusualCost);
      const say = (): void => streams.single(response, { errors: prepared });
      if (counted === null) say();
      else counted.then(say).catch((error: unknown) => sendFault(response, error, engine));
      return true;
    }
    const { operation } = prepared.operation;
    if (operation === 'mutation' && body === null) return false;
    if (operation === 'subscription' && !accepted.events) return false;
    const context = contexts.of(request, response);
    // A vote is counted where it is cast.
    const counted = operation === 'mutation' ? null : services.rates.operation(addresses.of(request), prepared.cost);
    if (counted === null && !(context instanceof Promise)) {
      return runAs(context, prepared, request, response, params, accepted, body);
    }
    const go = ([known]: [Context, unknown]): void | Promise<void> => {
      if (response.destroyed || runAs(known, prepared, request, response, params, accepted, body)) return;
      return handOver(request, response, body);
    };
    Promise.all([context, counted])
      .then(go)
      .catch((error: unknown) => sendFault(response, error, engine));
    return true;
  }

  /** The same, once it is known who asks. */
  function runAs(
    context: Context,
    prepared: PreparedOperation,
    request: IncomingMessage,
    response: Response,
    params: GraphqlParams,
    accepted: Accepted,
    body: Buffer | null,
  ): boolean {
    if (prepared.operation.operation === 'subscription') {
      const start = (subscriber: Subscriber, after: number | null) =>
        engine.subscribe(prepared, params.variables, context, subscriber, after ?? undefined);
      try {
        streams.subscribe(request, response, {
          start,
          address: context.address,
          expiresAt: context.viewer.account?.expiresAt ?? null,
        });
      } catch (error) {
        sendFault(response, error, engine);
      }
      return true;
    }
    if (prepared.canWait && !holdPlace(response, context.address)) return true;
    if (accepted.json === null && !accepted.events) return false;
    const refused = engine.refusal(prepared.operation, context) !== null;
    const wait = accepted.json === null || refused ? null : engine.waitOf(prepared, params.variables);
    if (wait !== null && accepted.json !== null) {
      waitFor(request, response, { prepared, variables: params.variables, context, type: accepted.json, wait });
      return true;
    }
    const answer = (result: ExecutionResult): void => {
      if (accepted.json === null) streams.single(response, result);
      else if ('data' in result) send(response, 200, accepted.json, JSON.stringify(result));
      // Without data nothing was run: the variables were wrong, or the viewer's token.
      else handOver(request, response, body).catch((error: unknown) => sendFault(response, error, engine));
    };
    const result = engine.execute(prepared, params.variables, context);
    if (result instanceof Promise) result.then(answer).catch((error: unknown) => sendFault(response, error, engine));
    else answer(result);
    return true;
  }

  /** Until it is answered, or left; false: its address has no place left, and that has been said. */
  function holdPlace(response: Response, address: string): boolean {
    try {
      services.rates.connect(address);
      response.on('close', () => services.rates.disconnect(address));
      return true;
    } catch (error) {
      sendFault(response, error, engine);
      return false;
    }
  }

  /** A long poll in GraphQL: when the time has passed, the results that are there. */
  function waitFor(
    request: IncomingMessage,
    response: Response,
    { prepared, variables, context, type, wait }: LongPoll,
  ): void {
    const start = (subscriber: Subscriber, afterVersion: number | null) =>
      engine.wait(prepared, variables, context, { ...wait, afterVersion }, subscriber);
    const answer = ({ payload }: Update) => send(response, 200, type, payload);
    const refuse = async ([error]: readonly GraphQLError[]): Promise<void> => {
      // That there is no such poll is an answer like any other; both are said in the words of the query.
      const isGone = error?.extensions.code === 'NOT_FOUND';
      const standing = isGone ? null : error;
      const result = await engine.execute(
        prepared,
        variables,
        standing === undefined ? context : { ...context, pollView: standing },
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

  /** What Yoga answers takes longer, and is counted as such. */
  async function handOver(request: IncomingMessage, response: Response, body: Buffer | null): Promise<void> {
    const address = addresses.of(request);
    await services.rates.operation(address, LIMITS.unusualCost);
    // What it asks may wait too.
    if (response.destroyed || !holdPlace(response, address)) return;
    return yoga.answer(request, response, body);
  }
}
