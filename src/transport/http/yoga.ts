/** Answers GraphiQL, GET, and unusual or malformed GraphQL requests with GraphQL Yoga. */
import type { IncomingMessage } from 'node:http';
import { type ExecutionArgs, type ExecutionResult, GraphQLError, getOperationAST } from 'graphql';
import { createYoga, type Plugin } from 'graphql-yoga';
import { type ErrorCode, HTTP_STATUS } from '../../core/errors.ts';
import type { Context } from '../../graphql/context.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import type { Log } from '../../ports/log.ts';
import { withoutCharset } from '../request/accepts.ts';
import { type GraphqlParams, withoutBom } from '../request/body.ts';
import type { Contexts } from '../request/context.ts';
import type { Response } from '../request/response.ts';
import { GRAPHIQL, pageHeaders, renderPage } from './graphiql.ts';

export interface YogaHandler {
  /** Answers any request to `/graphql`. `body` is null if the request has none. */
  answer(request: IncomingMessage, response: Response, body: Buffer | null, params?: GraphqlParams): Promise<void>;
}

/** Yoga parses, validates and executes with `engine`, as every transport does. */
export function makeYoga({
  engine,
  contexts,
  log,
}: {
  readonly engine: Engine;
  readonly contexts: Contexts;
  readonly log: Log;
}): YogaHandler {
  const yoga = createYoga<Context>({
    schema: engine.schema,
    graphqlEndpoint: '/graphql',
    landingPage: false,
    multipart: false,
    cors: false,
    parserAndValidationCache: false,
    maxRequestBodySize: false,
    maskedErrors: { maskError: (error) => engine.mask(error) },
    logging: {
      debug() {},
      info() {},
      warn: (...args) => log.warn({ args }, 'yoga'),
      // `engine.mask` logs faults with their number.
      error() {},
    },
    graphiql: GRAPHIQL,
    renderGraphiQL: renderPage,
    plugins: [onEngine(engine)],
  });

  return {
    async answer(request, response, body, params) {
      const { Request, Headers } = yoga.fetchAPI;
      const headers = new Headers();
      for (const [name, value] of Object.entries(request.headers)) {
        if (typeof value === 'string') headers.set(name, name === 'accept' ? withoutCharset(value) : value);
      }
      const bytes = body !== null && params !== undefined ? Buffer.from(bodyOf(params)) : body && withoutBom(body);
      const content = bytes === null ? {} : { body: new Uint8Array(bytes) };
      const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
      const init = { method, headers, ...content };
      const path = body === null && params !== undefined ? urlOf(params) : (request.url ?? '/');
      const answer = await yoga.fetch(new Request(`http://localhost${path}`, init), {
        ...(await contexts.of(request, response)),
      });
      const text = Buffer.from(await answer.arrayBuffer());
      if (answer.headers.get('content-type')?.startsWith('text/html')) {
        for (const [name, value] of Object.entries(pageHeaders())) response.setHeader(name, value);
      }
      answer.headers.forEach((value, name) => {
        // Yoga announces chunks for multipart/mixed, but the whole answer has a length.
        if (!HOP_BY_HOP.has(name.toLowerCase())) response.setHeader(name, value);
      });
      response.setHeader('content-length', text.length);
      response.writeHead(answer.status).end(request.method === 'HEAD' ? undefined : text);
    },
  };
}

const HOP_BY_HOP = new Set(['connection', 'transfer-encoding']);

/** The body of a persisted query, with its text. */
function bodyOf({ query, operationName, variables }: GraphqlParams): string {
  return JSON.stringify({ query, operationName, variables });
}

function urlOf({ query, operationName, variables }: GraphqlParams): string {
  const search = new URLSearchParams({ query: query ?? '', variables: JSON.stringify(variables ?? null) });
  if (operationName !== null) search.set('operationName', operationName);
  return `/graphql?${search}`;
}

/** The error of a viewer whose token is refused, with its HTTP status. */
function refusalIn(
  engine: Engine,
  {
    document,
    operationName,
    contextValue,
  }: Pick<ExecutionArgs, 'document' | 'operationName'> & { contextValue: Context },
): GraphQLError | null {
  const operation = getOperationAST(document, operationName);
  const refused = operation == null ? null : engine.refusal(operation, contextValue);
  return refused === null ? null : withStatus(refused, statusOf(refused));
}

/** Executes an operation, and charges a mutation whose variables are wrong. */
async function executeIn(
  engine: Engine,
  args: ExecutionArgs,
  { services, address }: Context,
): Promise<ExecutionResult> {
  const result = await engine.executeArgs(args);
  const operation = getOperationAST(args.document, args.operationName);
  if (operation == null) return result;
  const admission = await engine.admitRejected({ operation }, result, { rates: services.rates, address });
  if (admission.ok) return result;
  return { errors: [withStatus(engine.mask(admission.error), HTTP_STATUS.RATE_LIMITED)] };
}

function statusOf({ extensions: { code } }: GraphQLError): number {
  return typeof code === 'string' && Object.hasOwn(HTTP_STATUS, code) ? HTTP_STATUS[code as ErrorCode] : 500;
}

function withStatus({ message, extensions }: GraphQLError, status: number): GraphQLError {
  const { retryAfterMs } = extensions;
  const headers = typeof retryAfterMs === 'number' ? { 'retry-after': String(Math.ceil(retryAfterMs / 1_000)) } : {};
  return new GraphQLError(message, { extensions: { ...extensions, http: { status, headers } } });
}

function onEngine(engine: Engine): Plugin<Context> {
  return {
    onParse({ setParseFn }) {
      setParseFn((source: string | { readonly body: string }) =>
        engine.parse(typeof source === 'string' ? source : source.body),
      );
    },
    onValidate({ setValidationFn }) {
      setValidationFn((_, document) => engine.validate(document));
    },
    onExecute({ args, setExecuteFn }) {
      const refused = refusalIn(engine, args);
      setExecuteFn((given: ExecutionArgs) =>
        refused === null ? executeIn(engine, given, args.contextValue) : { errors: [refused] },
      );
    },
    onSubscribe() {
      throw new GraphQLError('A subscription needs "Accept: text/event-stream", or a WebSocket.', {
        extensions: { http: { status: 406 } },
      });
    },
  };
}
