/** GraphQL Yoga for what is not hot: GraphiQL, GET, and whatever is unusual or malformed, said in its words. */
import type { IncomingMessage } from 'node:http';
import { type DocumentNode, GraphQLError, getOperationAST } from 'graphql';
import { createYoga, type Plugin } from 'graphql-yoga';
import { type ErrorCode, HTTP_STATUS } from '../../core/errors.ts';
import type { Context } from '../../graphql/context.ts';
import { costOf } from '../../graphql/engine/document-size.ts';
import type { Engine } from '../../graphql/engine/engine.ts';
import type { Log } from '../../ports/log.ts';
import type { Contexts } from '../request/context.ts';
import type { Response } from '../request/response.ts';
import { GRAPHIQL, pageHeaders, renderPage } from './graphiql.ts';

export interface YogaHandler {
  /** Answers any request to `/graphql`. `body` is null where it was not read, as it has none. */
  answer(request: IncomingMessage, response: Response, body: Buffer | null): Promise<void>;
}

/** `engine` does all the work: what is parsed, validated and executed here is so on every transport. */
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
      // Faults are logged with their number where they are masked.
      error() {},
    },
    graphiql: GRAPHIQL,
    renderGraphiQL: renderPage,
    plugins: [onEngine(engine)],
  });

  return {
    async answer(request, response, body) {
      const { Request, Headers } = yoga.fetchAPI;
      const headers = new Headers();
      for (const [name, value] of Object.entries(request.headers)) {
        if (typeof value === 'string') headers.set(name, value);
      }
      const content = body === null ? {} : { body: new Uint8Array(body) };
      const init = { method: request.method ?? 'GET', headers, ...content };
      const answer = await yoga.fetch(new Request(`http://localhost${request.url ?? '/'}`, init), {
        ...(await contexts.of(request, response)),
      });
      const text = Buffer.from(await answer.arrayBuffer());
      if (answer.headers.get('content-type')?.startsWith('text/html')) {
        for (const [name, value] of Object.entries(pageHeaders())) response.setHeader(name, value);
      }
      answer.headers.forEach((value, name) => {
        response.setHeader(name, value);
      });
      response.setHeader('content-length', text.length);
      response.writeHead(answer.status).end(request.method === 'HEAD' ? undefined : text);
    },
  };
}

/** What stands in the way, with what Yoga shall answer besides the error. */
async function refusalIn(
  engine: Engine,
  document: DocumentNode,
  operationName: string | null | undefined,
  context: Context,
): Promise<GraphQLError | null> {
  const operation = getOperationAST(document, operationName);
  if (operation == null) return null;
  const { services, address } = context;
  const refused = engine.refusal(operation, context);
  if (refused !== null) return withStatus(refused, statusOf(refused));
  if (operation.operation === 'mutation') return null;
  try {
    await services.rates.operation(address, costOf(document, operation));
    return null;
  } catch (error) {
    return withStatus(engine.mask(error), HTTP_STATUS.RATE_LIMITED);
  }
}

function statusOf({ extensions: { code } }: GraphQLError): number {
  return typeof code === 'string' && Object.hasOwn(HTTP_STATUS, code) ? HTTP_STATUS[code as ErrorCode] : 500;
}

function withStatus({ message, extensions }: GraphQLError, status: number): GraphQLError {
  const { retryAfterMs } = extensions;
  const headers = typeof retryAfterMs === 'number' ? { 'retry-after': String(Math.ceil(retryAfterMs / 1_000)) } : {};
  return new GraphQLError(message, { extensions: { ...extensions, http: { status, headers } } });
}

/** Yoga parses, validates and executes with the one engine of all transports. */
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
    async onExecute({ args, setExecuteFn }) {
      const refused = await refusalIn(engine, args.document, args.operationName, args.contextValue);
      setExecuteFn(refused === null ? engine.executeArgs : () => ({ errors: [refused] }));
    },
    onSubscribe() {
      throw new GraphQLError('A subscription needs "Accept: text/event-stream", or a WebSocket.', {
        extensions: { http: { status: 406 } },
      });
    },
  };
}
