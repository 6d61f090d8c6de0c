/** Serves automatic persisted queries (Apollo's protocol, version 1) to HTTP clients. */
import { createHash } from 'node:crypto';
import { GraphQLError } from 'graphql';
import { LRUCache } from 'lru-cache';

/** Bounds in documents and in characters of their texts. */
const MOST_DOCUMENTS = 1_000;
const MOST_CHARACTERS = 4_000_000;

export interface PersistedQueries {
  /**
   * Returns `query`, or the stored text with the SHA-256 `hash`. Returns an error if the
   * text is not stored, or if hash and text do not match.
   */
  find(query: string | null, hash: string): string | GraphQLError;
}

export function makePersistedQueries(): PersistedQueries {
  const documents = new LRUCache<string, string>({
    max: MOST_DOCUMENTS,
    maxSize: MOST_CHARACTERS,
    sizeCalculation: (text) => text.length + 64,
  });
  return {
    find(query, hash) {
      if (query === null) {
        return (
          documents.get(hash) ??
          new GraphQLError('PersistedQueryNotFound', { extensions: { code: 'PERSISTED_QUERY_NOT_FOUND' } })
        );
      }
      if (createHash('sha256').update(query).digest('hex') !== hash) {
        return new GraphQLError('extensions.persistedQuery.sha256Hash: is not the SHA-256 of the query.', {
          extensions: { code: 'PERSISTED_QUERY_HASH_MISMATCH' },
        });
      }
      documents.set(hash, query);
      return query;
    },
  };
}
