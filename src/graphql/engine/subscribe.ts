/**
 * Starts subscriptions, long polls and plain results. Each joins a group of the hub; an
 * operation runs and is encoded once for the whole group.
 */
import {
  createSourceEventStream,
  type ExecutionResult,
  type FieldNode,
  GraphQLError,
  getArgumentValues,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
} from 'graphql';
import { refusalOf } from '../../identity/session.ts';
import type { PollView, Subscription } from '../../live/hub.ts';
import type { Subscriber } from '../../live/subscriber.ts';
import type { Stop } from '../../ports/clock.ts';
import type { Context } from '../context.ts';
import { LiveSource, readWait } from '../schema/live.ts';
import { schema } from '../schema/schema.ts';
import type { Documents } from './documents.ts';
import type { Executor } from './executor.ts';
import { groupContext, groupFor, groupKey } from './group-key.ts';
import { isRefusal, type PreparedOperation, type Variables } from './operation.ts';

export interface Subscriptions {
  /** Starts a subscription. Returns its stop function, or errors (L7). Never rejects. */
  subscribe(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
    subscriber: Subscriber,
    after?: number,
  ): Promise<Stop | readonly GraphQLError[]>;
  /**
   * What a query waits for, if it selects only waiting results. Null for any other query.
   */
  waitOf(prepared: PreparedOperation, variables: Variables): LongPollWait | null;
  /** Waits in a group: equal queries share one encoded answer. Never rejects. */
  wait(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
    wait: LongPollWait,
    subscriber: Subscriber,
  ): Promise<Stop | readonly GraphQLError[]>;
  /**
   * `PollResults` as plain JSON, for clients without GraphQL. Rejects with the error of
   * the hub.
   */
  watchResults(
    pollId: string,
    context: Context,
    subscriber: Subscriber,
    after: number | null,
    presence: Subscription['presence'],
  ): Promise<Stop>;
}

export interface LongPollWait {
  readonly pollId: string;
  /** Null: answer with the current results. */
  readonly afterVersion: number | null;
  readonly waitMs: number;
}

const RESULTS_QUERY = `query Plain($pollId: ID!) { pollResults(pollId: $pollId) { pollId version status isFinal ballotCount
  tallies { ...Tally } runoff { rounds { number tallies { ...Tally } eliminated { ...Choice } exhausted } winner { ...Choice } }
  rating { mean median histogram { value votes } } updatedAt } }
  fragment Tally on ChoiceTally { choiceId label votes share }
  fragment Choice on Choice { id label position }`;

export function makeSubscriptions(documents: Pick<Documents, 'prepare'>, executor: Executor): Subscriptions {
  return {
    async subscribe(prepared, variables, context, subscriber, after) {
      const refused = executor.refusal(prepared.operation, context);
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
        if (!(source instanceof LiveSource)) return executor.maskResult(asResult(source), context).errors ?? [];
        const group = await groupFor(source.pollId, context, prepared, (as) => ({
          groupKey: groupKey(prepared, variables, context, as),
          encode: encoderFor(prepared, variables, groupContext(prepared, context, as), source),
        }));
        return await context.services.hub.watch(
          {
            ...group,
            pollId: source.pollId,
            topic: source.topic,
            // Each process numbers audience updates by itself, so nobody can resume them.
            after: source.topic === 'audience' ? null : (after ?? source.after),
            everyMs: source.everyMs,
            // Subscribers to the audience alone are not counted in it.
            presence: source.topic === 'audience' ? 'none' : 'staying',
          },
          subscriber,
        );
      } catch (error) {
        return [executor.mask(error, context.origin)];
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
        // Execution reports the error.
        return null;
      }
    },

    async wait(prepared, variables, context, wait, subscriber) {
      const refused = executor.refusal(prepared.operation, context);
      if (refused !== null) return [refused];
      try {
        const group = await groupFor(wait.pollId, context, prepared, (as) => ({
          groupKey: groupKey(prepared, variables, context, as),
          encode: encodeQuery(prepared, variables, groupContext(prepared, context, as)),
        }));
        return await context.services.hub.watch(
          {
            ...group,
            pollId: wait.pollId,
            topic: 'results',
            after: wait.afterVersion,
            everyMs: 0,
            presence: wait.afterVersion === null ? 'none' : 'returning',
          },
          subscriber,
        );
      } catch (error) {
        return [executor.mask(error, context.origin)];
      }
    },

    async watchResults(pollId, context, subscriber, after, presence) {
      const refused = refusalOf(context.viewer);
      if (refused !== null) throw refused;
      const prepared = documents.prepare(RESULTS_QUERY, null);
      if (isRefusal(prepared)) throw new Error(`The query for plain results is invalid: ${prepared.join()}`);
      const group = await groupFor(pollId, context, prepared, (as) => {
        const whole = encodeQuery(prepared, { pollId }, groupContext(prepared, context, as));
        return { groupKey: `plain ${as}`, encode: async (view) => inside(await whole(view)) };
      });
      return context.services.hub.watch(
        { ...group, pollId, topic: 'results', after, everyMs: 0, presence },
        subscriber,
      );
    },
  };

  /** Runs a query on the current state of the poll once for its group. */
  function encodeQuery(prepared: PreparedOperation, variables: Variables, contextValue: Context) {
    return async (view: PollView): Promise<Buffer> => {
      const result = await executor.execute(prepared, variables, { ...contextValue, pollView: view });
      return Buffer.from(JSON.stringify(result));
    };
  }

  /** Encodes an update once for a group, with the context of the group. */
  function encoderFor(
    prepared: PreparedOperation,
    variables: Variables,
    contextValue: Context,
    source: LiveSource<unknown>,
  ) {
    return async (view: PollView): Promise<Buffer> => {
      const result = await executor.executeArgs({
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

const BEFORE = '{"data":{"pollResults":'.length;

/** Cuts the results out of `{"data":{"pollResults":…}}`. */
function inside(answer: Buffer): Buffer {
  if (answer[BEFORE] !== 0x7b) throw new Error(`Results could not be encoded: ${answer.toString()}`);
  return answer.subarray(BEFORE, answer.length - '}}'.length);
}

function asInt(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

/** The field `pollResults`, if it is the only field of a query and has `waitMs`. */
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
