/**
 * Runs GraphQL operations for all transports: documents, admission, execution,
 * subscriptions. All errors in its results are masked.
 */
import type { GraphQLSchema } from 'graphql';
import type { Log } from '../../ports/log.ts';
import { schema } from '../schema/schema.ts';
import { admit, admitRejected } from './admit.ts';
import { type Documents, makeDocuments } from './documents.ts';
import { type Executor, makeExecutor } from './executor.ts';
import { makePersistedQueries, type PersistedQueries } from './persisted-queries.ts';
import { makeSubscriptions, type Subscriptions } from './subscribe.ts';

export interface Engine extends Documents, Executor, Subscriptions, PersistedQueries {
  readonly schema: GraphQLSchema;
  readonly admit: typeof admit;
  readonly admitRejected: typeof admitRejected;
}

export function makeEngine(log: Log): Engine {
  const documents = makeDocuments(log);
  const executor = makeExecutor(log);
  return {
    schema,
    admit,
    admitRejected,
    ...documents,
    ...executor,
    ...makePersistedQueries(),
    ...makeSubscriptions(documents, executor),
  };
}
