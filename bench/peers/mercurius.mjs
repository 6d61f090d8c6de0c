// mercurius 16 on Fastify 5, compiled queries (jit after the first run), subscriptions over its own WebSocket route.
import Fastify from 'fastify';
import mercurius from 'mercurius';
import { typeDefs } from './contract.mjs';
import { announce } from './listen.mjs';
import { castVote, results } from './poll.mjs';

const app = Fastify();

app.register(mercurius, {
  schema: typeDefs,
  resolvers: {
    Query: { pollResults: () => results() },
    Mutation: {
      castVote: async (_, { input }, { pubsub }) => {
        const outcome = castVote(input);
        if (outcome.receipt) await pubsub.publish({ topic: input.pollId, payload: { pollResults: results() } });
        return outcome;
      },
    },
    Subscription: {
      pollResults: { subscribe: (_, { pollId }, { pubsub }) => pubsub.subscribe(pollId) },
    },
  },
  jit: 1,
  subscription: true,
});

await app.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1' });
announce(app.server.address().port);
