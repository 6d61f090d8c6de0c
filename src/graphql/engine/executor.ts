/** Runs operations with graphql-js and masks the errors of every result. */
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
   * The error for a viewer whose token is invalid; null if the operation may run.
   * Mutations report it as data.
   */
  refusal(operation: OperationDefinitionNode, context: Context): GraphQLError | null;
  /** Runs a query or mutation. Never rejects. */
  execute(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
  ): ExecutionResult | Promise<ExecutionResult>;
  /** `execute` with the arguments of graphql-js, for Yoga. */
  executeArgs(args: ExecutionArgs): ExecutionResult | Promise<ExecutionResult>;
  /** The error that the caller may see. Logs a fault with its number and origin. */
  mask(error: unknown, origin?: Origin | null): GraphQLError;
  /** Masks all errors of a result. `context` comes from graphql-js or Yoga. */
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

/** Yoga passes the context on as unknown, so check it here. */
function originOf(context: unknown): Origin | null {
  if (typeof context !== 'object' || context === null || !('origin' in context)) return null;
  const { origin } = context;
  return typeof origin === 'object' && origin !== null && 'logFields' in origin && typeof origin.logFields === 'object'
    ? { logFields: origin.logFields ?? {} }
    : null;
}
