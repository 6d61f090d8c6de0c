/** The schema builder: Pothos with its errors and relay plugins, and what every resolver gets. */
import SchemaBuilder from '@pothos/core';
import ErrorsPlugin from '@pothos/plugin-errors';
import RelayPlugin from '@pothos/plugin-relay';
import { GraphQLError } from 'graphql';
import { readInstant } from '../../core/instant.ts';
import type { Context } from '../context.ts';

export const builder = new SchemaBuilder<{
  Context: Context;
  DefaultFieldNullability: false;
  DefaultEdgesNullability: { list: false; items: false };
  DefaultNodeNullability: false;
  DefaultInputFieldRequiredness: false;
  Scalars: {
    DateTime: { Input: Date; Output: Date };
    ID: { Input: string; Output: string };
  };
}>({
  plugins: [ErrorsPlugin, RelayPlugin],
  defaultFieldNullability: false,
  errors: { directResult: true, defaultTypes: [] },
  relay: {
    edgesFieldOptions: { description: 'The page, in order.', nullable: { list: false, items: false } },
    nodeQueryOptions: false,
    nodesQueryOptions: false,
    pageInfoTypeOptions: { description: 'Where a page stands in the whole list.' },
    hasNextPageFieldOptions: { description: 'Whether there is more after this page.' },
    hasPreviousPageFieldOptions: { description: 'Always false: the list is paged forwards only.' },
    startCursorFieldOptions: { description: 'Cursor of the first edge; null on an empty page.' },
    endCursorFieldOptions: { description: 'Cursor of the last edge: `after` of the next page. Null on an empty page.' },
    cursorFieldOptions: { description: 'Where this edge stands: give it as `after` to go on behind it.' },
    nodeFieldOptions: { description: 'What stands here.', nullable: false },
    pageInfoFieldOptions: { description: 'Where this page stands in the whole list.' },
  },
});

builder.scalarType('DateTime', {
  description:
    'An instant in UTC, ISO 8601 with milliseconds: `2026-11-22T18:00:00.000Z`. Input may carry any offset, and lies in the years 1970 to 9999.',
  serialize: (value) => value.toISOString(),
  parseValue(value) {
    const instant = typeof value === 'string' ? readInstant(value) : 'must be a string';
    if (typeof instant === 'string') throw new GraphQLError(`DateTime: ${instant}.`);
    return instant;
  },
});
