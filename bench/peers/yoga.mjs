// graphql-yoga 5 as its documentation sets it up: node:http, its pub/sub, its SSE, and graphql-ws 6 for WebSocket.
import { createServer } from 'node:http';
import { useServer } from 'graphql-ws/use/ws';
import { createPubSub, createSchema, createYoga } from 'graphql-yoga';
import { WebSocketServer } from 'ws';
import { typeDefs } from './contract.mjs';
import { listen } from './listen.mjs';
import { castVote, results } from './poll.mjs';

const pubsub = createPubSub();
const yoga = createYoga({
  schema: createSchema({
    typeDefs,
    resolvers: {
      Query: { pollResults: () => results() },
      Mutation: {
        castVote: (_, { input }) => {
          const outcome = castVote(input);
          if (outcome.receipt) pubsub.publish('results', input.pollId, results());
          return outcome;
        },
      },
      Subscription: {
        pollResults: {
          subscribe: (_, { pollId }) => pubsub.subscribe('results', pollId),
          resolve: (payload) => payload,
        },
      },
    },
  }),
});

const server = createServer(yoga);
const sockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint });

useServer(
  {
    execute: (args) => args.rootValue.execute(args),
    subscribe: (args) => args.rootValue.subscribe(args),
    onSubscribe: async (ctx, _id, params) => {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...ctx,
        req: ctx.extra.request,
        socket: ctx.extra.socket,
        params,
      });
      const args = {
        schema,
        operationName: params.operationName,
        document: parse(params.query),
        variableValues: params.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      };
      const errors = validate(args.schema, args.document);
      return errors.length ? errors : args;
    },
  },
  sockets,
);

listen(server);
