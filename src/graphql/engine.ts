/**
 * The one engine of all transports: parses, checks and validates a document once and remembers it, executes operations,
 * and starts subscriptions on the hub. Whatever leaves it has its errors masked.
 */
import {
  createSourceEventStream,
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  execute as executeOperation,
  type FieldNode,
  GraphQLError,
  type GraphQLSchema,
  getArgumentValues,
  getOperationAST,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
  parse as parseDocument,
  validate as validateDocument,
} from 'graphql';
import { LRUCache } from 'lru-cache';
import { LIMITS } from '../access/limits.ts';
import { refusalOf } from '../access/viewer.ts';
import { PollcastError } from '../core/errors.ts';
import type { Log, Stop } from '../core/ports.ts';
import type { PollView, Watch } from '../live/hub.ts';
import type { Outlet } from '../live/mailbox.ts';
import type { Context, Origin } from './builder.ts';
import { asGraphQLError, maskError } from './errors.ts';
import { checkRoots, checkSize } from './limits.ts';
import { LiveSource, readWait } from './live.ts';
import { describe, type Prepared, type Variables } from './prepared.ts';
import { schema } from './schema.ts';
import { groupContext, groupKey, seatOf } from './seat.ts';

export interface Engine {
  readonly schema: GraphQLSchema;
  /** Throws a `GraphQLError` at the first syntax error or token too many. */
  parse(query: string): DocumentNode;
  /** Empty: valid and of ordinary size. */
  validate(document: DocumentNode): readonly GraphQLError[];
  /** Ready to run, or the errors that say why not. */
  prepare(query: string, operationName: string | null | undefined): Prepared | readonly GraphQLError[];
  /**
   * What a viewer whose token does not count is answered: an error for all but a mutation, which says it as data. Null:
   * nothing stands in the way.
   */
  refusal(operation: OperationDefinitionNode, context: Context): GraphQLError | null;
  /** Runs a query or mutation. Never rejects. */
  execute(prepared: Prepared, variables: Variables, context: Context): ExecutionResult | Promise<ExecutionResult>;
  /** For Yoga: `execute` in graphql-js' own terms. */
  executeArgs(args: ExecutionArgs): ExecutionResult | Promise<ExecutionResult>;
  /** Starts a subscription: the way to end it, or the errors that say why it did not start (L7). Never rejects. */
  subscribe(
    prepared: Prepared,
    variables: Variables,
    context: Context,
    outlet: Outlet,
    after?: number,
  ): Promise<Stop | readonly GraphQLError[]>;
  /** A query that asks to wait for newer results and for nothing else: what it waits for. Null: any other, or malformed. */
  waitOf(prepared: Prepared, variables: Variables): Wait | null;
  /** Waits with everybody who asks the same: the answer is run and encoded once. Never rejects. */
  wait(
    prepared: Prepared,
    variables: Variables,
    context: Context,
    wait: Wait,
    outlet: Outlet,
  ): Promise<Stop | readonly GraphQLError[]>;
  /** `PollResults` as plain JSON, for those who speak no GraphQL. Rejects with what the hub rejects with. */
  watchPlain(
    pollId: string,
    context: Context,
    outlet: Outlet,
    after: number | null,
    presence: Watch['presence'],
  ): Promise<Stop>;
  /** What the caller may see; a fault is logged under a number, with where it came from. */
  mask(error: unknown, origin?: Origin | null): GraphQLError;
}

export interface Wait {
  readonly pollId: string;
  /** Null: answer with what is there. */
  readonly afterVersion: number | null;
  readonly waitMs: number;
}

const PLAIN = `query Plain($pollId: ID!) { pollResults(pollId: $pollId) { pollId version status isFinal ballotCount
  tallies { ...Tally } runoff { rounds { number tallies { ...Tally } eliminated { ...Choice } exhausted } winner { ...Choice } }
  rating { mean median histogram { value votes } } updatedAt } }
  fragment Tally on ChoiceTally { choiceId label votes share }
  fragment Choice on Choice { id label position }`;

export function isRefusal(prepared: Prepared | readonly GraphQLError[]): prepared is readonly GraphQLError[] {
  return Array.isArray(prepared);
}

export function makeEngine(log: Log): Engine {
  const documents = new LRUCache<string, DocumentNode | GraphQLError>({
    // Bytes: a parsed document takes 80 to 100 for each of its characters.
    maxSize: 20_000_000,
    sizeCalculation: (_, query) => query.length * 100 + 1_000,
  });
  const verdicts = new WeakMap<DocumentNode, readonly GraphQLError[]>();
  const operations = new WeakMap<DocumentNode, Map<string | undefined, Prepared>>();
  let count = 0;

  const engine: Engine = {
    schema,

    parse(query) {
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
    },

    validate(document) {
      let errors = verdicts.get(document);
      if (errors === undefined) {
        errors = checkSize(document);
        if (errors.length === 0) errors = checkRoots(document);
        if (errors.length === 0) errors = validateDocument(schema, document, undefined, { maxErrors: 20 });
        verdicts.set(document, errors);
      }
      return errors;
    },

    prepare(query, operationName) {
      let document: DocumentNode;
      try {
        document = engine.parse(query);
      } catch (error) {
        return [engine.mask(error)];
      }
      const name = operationName ?? undefined;
      const known = operations.get(document)?.get(name);
      if (known !== undefined) return known;
      const errors = engine.validate(document);
      if (errors.length > 0) return errors;
      const operation = getOperationAST(document, name);
      if (operation == null) {
        return [new GraphQLError('Could not determine what operation to execute.')];
      }
      const prepared = describe(document, operation, name, ++count);
      let byName = operations.get(document);
      if (byName === undefined) operations.set(document, (byName = new Map()));
      byName.set(name, prepared);
      return prepared;
    },

    refusal(operation, context) {
      const error = operation.operation === 'mutation' ? null : refusalOf(context.viewer);
      return error === null ? null : asGraphQLError(error);
    },

    execute(prepared, variables, context) {
      const refused = engine.refusal(prepared.operation, context);
      if (refused !== null) return { errors: [refused] };
      return engine.executeArgs({
        schema,
        document: prepared.document,
        operationName: prepared.operationName,
        variableValues: variables,
        contextValue: context,
      });
    },

    executeArgs(args) {
      try {
        const result = executeOperation(args);
        if (!(result instanceof Promise)) return masked(result, args.contextValue);
        return result.then((answer) => masked(answer, args.contextValue));
      } catch (error) {
        return { errors: [engine.mask(error, originOf(args.contextValue))] };
      }
    },

    async subscribe(prepared, variables, context, outlet, after) {
      const refused = engine.refusal(prepared.operation, context);
      if (refused !== null) return [refused];
      try {
        const args = {
          schema,
          document: prepared.document,
          operationName: prepared.operationName,
          variableValues: variables,
          contextValue: context,
        };
        const source: unknown = await createSourceEventStream(args);
        if (!(source instanceof LiveSource)) return masked(asResult(source), context).errors ?? [];
        const seat = await seatOf(source.pollId, context, prepared, (as) => ({
          groupKey: groupKey(prepared, variables, context, as),
          encode: encoderFor(prepared, variables, groupContext(prepared, context, as), source),
        }));
        return await context.services.hub.watch(
          {
            ...seat,
            pollId: source.pollId,
            topic: source.topic,
            // How many watch is numbered by each process for itself: nobody resumes there.
            after: source.topic === 'audience' ? null : (after ?? source.after),
            everyMs: source.everyMs,
            // Who looks at the audience is not part of it.
            presence: source.topic === 'audience' ? 'none' : 'staying',
          },
          outlet,
        );
      } catch (error) {
        return [error instanceof PollcastError ? asGraphQLError(error) : engine.mask(error, context.origin)];
      }
    },

    waitOf(prepared, variables) {
      const field = waitingField(prepared.operation);
      const definition = schema.getQueryType()?.getFields().pollResults;
      if (field === null || definition === undefined) return null;
      try {
        const values = getVariableValues(schema, prepared.operation.variableDefinitions ?? [], variables ?? {});
        const { pollId, afterVersion, waitMs } = getArgumentValues(definition, field, values.coerced);
        const wait = readWait(asInt(afterVersion), asInt(waitMs));
        return wait === null || typeof pollId !== 'string' ? null : { pollId, ...wait };
      } catch {
        // What is wrong with it is said where it is executed.
        return null;
      }
    },

    async wait(prepared, variables, context, wait, outlet) {
      const refused = engine.refusal(prepared.operation, context);
      if (refused !== null) return [refused];
      try {
        const seat = await seatOf(wait.pollId, context, prepared, (as) => ({
          groupKey: groupKey(prepared, variables, context, as),
          encode: encodeQuery(prepared, variables, groupContext(prepared, context, as)),
        }));
        return await context.services.hub.watch(
          {
            ...seat,
            pollId: wait.pollId,
            topic: 'results',
            after: wait.afterVersion,
            everyMs: 0,
            presence: wait.afterVersion === null ? 'none' : 'returning',
          },
          outlet,
        );
      } catch (error) {
        return [error instanceof PollcastError ? asGraphQLError(error) : engine.mask(error, context.origin)];
      }
    },

    async watchPlain(pollId, context, outlet, after, presence) {
      const refused = refusalOf(context.viewer);
      if (refused !== null) throw refused;
      const prepared = engine.prepare(PLAIN, null);
      if (isRefusal(prepared)) throw new Error(`The plain query is not in order: ${prepared.join()}`);
      const seat = await seatOf(pollId, context, prepared, (as) => {
        const whole = encodeQuery(prepared, { pollId }, groupContext(prepared, context, as));
        return { groupKey: `plain ${as}`, encode: async (view) => inside(await whole(view)) };
      });
      return context.services.hub.watch({ ...seat, pollId, topic: 'results', after, everyMs: 0, presence }, outlet);
    },

    mask: (error, origin) => maskError(error, log, origin),
  };
  return engine;

  /** A query on where the poll stands, run once for all who wait for it. */
  function encodeQuery(prepared: Prepared, variables: Variables, contextValue: Context) {
    return async (standing: PollView): Promise<Buffer> => {
      const result = await engine.execute(prepared, variables, { ...contextValue, standing });
      return Buffer.from(JSON.stringify(result));
    };
  }

  function masked(result: ExecutionResult, context: unknown): ExecutionResult {
    if (result.errors === undefined) return result;
    return { ...result, errors: result.errors.map((error) => engine.mask(error, originOf(context))) };
  }

  /** Once for a whole group. Holds the group's context, never that of one member. */
  function encoderFor(prepared: Prepared, variables: Variables, contextValue: Context, source: LiveSource<unknown>) {
    return async (view: PollView): Promise<Buffer> => {
      const result = await engine.executeArgs({
        schema,
        document: prepared.document,
        operationName: prepared.operationName,
        variableValues: variables,
        rootValue: await source.event(view),
        contextValue,
      });
      return Buffer.from(JSON.stringify(result));
    };
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

const BEFORE = '{"data":{"pollResults":'.length;

/** The results out of `{"data":{"pollResults":…}}`. */
function inside(answer: Buffer): Buffer {
  if (answer[BEFORE] !== 0x7b) throw new Error(`Results could not be encoded: ${answer.toString()}`);
  return answer.subarray(BEFORE, answer.length - '}}'.length);
}

function asInt(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

/** `pollResults` where it is all that a query asks for, and asks to wait. */
function waitingField(operation: OperationDefinitionNode): FieldNode | null {
  const [field, ...others] = operation.selectionSet.selections;
  if (operation.operation !== 'query' || others.length > 0 || field?.kind !== Kind.FIELD) return null;
  if (field.name.value !== 'pollResults' || (field.directives?.length ?? 0) > 0) return null;
  return field.arguments?.some(({ name }) => name.value === 'waitMs') === true ? field : null;
}

function asResult(source: unknown): ExecutionResult {
  if (typeof source === 'object' && source !== null && 'errors' in source && Array.isArray(source.errors)) {
    return { errors: source.errors.filter((error) => error instanceof GraphQLError) };
  }
  throw new TypeError('A subscription field answered neither a live source nor errors.');
}
