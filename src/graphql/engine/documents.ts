/**
 * Parses, checks and validates each document once, and caches the result for all
 * transports.
 */
import {
  type DocumentNode,
  GraphQLError,
  getOperationAST,
  parse as parseDocument,
  validate as validateDocument,
} from 'graphql';
import { LRUCache } from 'lru-cache';
import { LIMITS } from '../../limits/limits.ts';
import type { Log } from '../../ports/log.ts';
import { maskError } from '../schema/errors.ts';
import { schema } from '../schema/schema.ts';
import { checkRoots, checkSize } from './document-size.ts';
import { analyse, type PreparedOperation } from './operation.ts';

export interface Documents {
  /**
   * Throws a `GraphQLError` at the first syntax error, or if there are too many tokens.
   */
  parse(query: string): DocumentNode;
  /** Returns an empty list if the document is valid and within the limits. */
  validate(document: DocumentNode): readonly GraphQLError[];
  /** Returns the operation that is ready to run, or the errors of the document. */
  prepare(query: string, operationName: string | null | undefined): PreparedOperation | readonly GraphQLError[];
}

export function makeDocuments(log: Log): Documents {
  const documents = new LRUCache<string, DocumentNode | GraphQLError>({
    // In bytes: a parsed document takes 80 to 100 bytes for each character.
    maxSize: 20_000_000,
    sizeCalculation: (_, query) => query.length * 100 + 1_000,
  });
  const verdicts = new WeakMap<DocumentNode, readonly GraphQLError[]>();
  const operations = new WeakMap<DocumentNode, Map<string | undefined, PreparedOperation>>();
  let count = 0;

  return { parse, validate, prepare };

  function parse(query: string): DocumentNode {
    let document = documents.get(query);
    if (document === undefined) {
      try {
        document = parseDocument(query, { maxTokens: LIMITS.documentTokens });
      } catch (error) {
        if (!(error instanceof GraphQLError)) throw error;
        document = error;
      }
      documents.set(query, document);
    }
    if (document instanceof GraphQLError) throw document;
    return document;
  }

  function validate(document: DocumentNode): readonly GraphQLError[] {
    let errors = verdicts.get(document);
    if (errors === undefined) {
      errors = checkSize(document);
      if (errors.length === 0) errors = checkRoots(document);
      if (errors.length === 0) errors = validateDocument(schema, document, undefined, { maxErrors: 20 });
      verdicts.set(document, errors);
    }
    return errors;
  }

  function prepare(
    query: string,
    operationName: string | null | undefined,
  ): PreparedOperation | readonly GraphQLError[] {
    let document: DocumentNode;
    try {
      document = parse(query);
    } catch (error) {
      return [maskError(error, log)];
    }
    const name = operationName ?? undefined;
    const known = operations.get(document)?.get(name);
    if (known !== undefined) return known;
    const errors = validate(document);
    if (errors.length > 0) return errors;
    const operation = getOperationAST(document, name);
    if (operation == null) {
      return [new GraphQLError('Could not determine what operation to execute.')];
    }
    const prepared = analyse(document, operation, name, ++count);
    let byName = operations.get(document);
    if (byName === undefined) operations.set(document, (byName = new Map()));
    byName.set(name, prepared);
    return prepared;
  }
}
