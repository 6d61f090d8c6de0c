/** The whole schema, in the order in which `schema.graphql` reads. */
import { type GraphQLSchema, printSchema } from 'graphql';
import { builder } from './builder.ts';
import './errors.ts';
import './polls.ts';
import './anomalies.ts';
import './audit.ts';
import './manage.ts';
import './live.ts';
import './votes.ts';

builder.queryType({ description: 'What can be asked.' });
builder.mutationType({
  description: 'What can be done. What a caller can run into is data: a union of success and errors.',
});
builder.subscriptionType({ description: 'What can be watched, over WebSocket (graphql-transport-ws) and SSE.' });

export const schema: GraphQLSchema = builder.toSchema({ sortSchema: true });

export function printedSchema(): string {
  return `${printSchema(schema)}\n`;
}
