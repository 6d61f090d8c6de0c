/** Runs operations with graphql-js, and lets nothing out whose errors are not masked. */
import {
  type ExecutionArgs,
  type ExecutionResult,
  execute as executeOperation,
  type GraphQLError,
  type OperationDefinitionNode,
} from 'graphql';
import { refusalOf } from '../../identity/session.ts';
import type { Log } from '../../ports/log.ts';
import type { Context, Origin } from '../context.ts';
import { asGraphQLError, maskError } from '../schema/errors.ts';
import { schema } from '../schema/schema.ts';
import type { PreparedOperation, Variables } from './operation.ts';

export interface Executor {
  /**
   * What a viewer whose token does not count is answered: an error for all but a mutation, which says it as data. Null:
   * nothing stands in the way.
   */
  refusal(operation: OperationDefinitionNode, context: Context): GraphQLError | null;
  /** Runs a query or mutation. Never rejects. */
  execute(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
  ): ExecutionResult | Promise<ExecutionResult>;
  /** For Yoga: `execute` in graphql-js' own terms. */
  executeArgs(args: ExecutionArgs): ExecutionResult | Promise<ExecutionResult>;
  /** What the caller may see; a fault is logged under a number, with where it came from. */
  mask(error: unknown, origin?: Origin | null): GraphQLError;
  /** The same for all errors of a result. `context`: as graphql-js and Yoga hand it on. */
  maskResult(result: ExecutionResult, context: unknown): ExecutionResult;
}

export function makeExecutor(log: Log): Executor {
  return { refusal, execute, executeArgs, mask, maskResult };

  function refusal(operation: OperationDefinitionNode, context: Context): GraphQLError | null {
    const error = operation.operation === 'mutation' ? null : refusalOf(context.viewer);
    return error === null ? null : asGraphQLError(error);
  }

  function execute(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
  ): ExecutionResult | Promise<ExecutionResult> {
    const refused = refusal(prepared.operation, context);
    if (refused !== null) return { errors: [refused] };
    return executeArgs({
      schema,
      document: prepared.document,
      operationName: prepared.operationName,
      variableValues: variables,
      contextValue: context,
    });
  }

  function executeArgs(args: ExecutionArgs): ExecutionResult | Promise<ExecutionResult> {
    try {
      const result = executeOperation(args);
      if (!(result instanceof Promise)) return maskResult(result, args.contextValue);
      return result.then((answer) => maskResult(answer, args.contextValue));
    } catch (error) {
      return { errors: [mask(error, originOf(args.contextValue))] };
    }
  }

  function mask(error: unknown, origin?: Origin | null): GraphQLError {
    return maskError(error, log, origin);
  }

  function maskResult(result: ExecutionResult, context: unknown): ExecutionResult {
    if (result.errors === undefined) return result;
    return { ...result, errors: result.errors.map((error) => mask(error, originOf(context))) };
  }
}

/** Yoga's hands are between us and the context, so it is looked at here. */
function originOf(context: unknown): Origin | null {
  if (typeof context !== 'object' || context === null || !('origin' in context)) return null;
  const { origin } = context;
  return typeof origin === 'object' && origin !== null && 'logFields' in origin && typeof origin.logFields === 'object'
    ? { logFields: origin.logFields ?? {} }
    : null;
}
