/** GraphQL Yoga for what is not hot: GraphiQL, GET, and whatever is unusual or malformed, said in its words. */
import { type DocumentNode, GraphQLError, getOperationAST } from 'graphql';
import { createYoga, type Plugin } from 'graphql-yoga';
import { HTTP_STATUS } from '../core/errors.ts';
import type { Log } from '../core/ports.ts';
import type { Context } from '../graphql/builder.ts';
import type { Engine } from '../graphql/engine.ts';
import { costOf } from '../graphql/limits.ts';
import { GRAPHIQL, renderPage } from './graphiql.ts';

/** `engine` does all the work: what is parsed, validated and executed here is so on every transport. */
export function makeYoga(engine: Engine, log: Log) {
  return createYoga<Context>({
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
  if (refused !== null) return withStatus(refused, HTTP_STATUS.UNAUTHENTICATED);
  if (operation.operation === 'mutation') return null;
  try {
    await services.rates.operation(address, costOf(document, operation));
    return null;
  } catch (error) {
    return withStatus(engine.mask(error), HTTP_STATUS.RATE_LIMITED);
  }
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
