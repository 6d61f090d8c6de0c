/**
 * Whatever goes on: subscriptions, queries that wait, plain results. Each takes a seat in a group of the hub, for which the
 * operation is run and encoded once, however many sit there.
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
  /** Starts a subscription: the way to end it, or the errors that say why it did not start (L7). Never rejects. */
  subscribe(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
    subscriber: Subscriber,
    after?: number,
  ): Promise<Stop | readonly GraphQLError[]>;
  /** A query that asks to wait for newer results and for nothing else: what it waits for. Null: any other, or malformed. */
  waitOf(prepared: PreparedOperation, variables: Variables): LongPollWait | null;
  /** Waits with everybody who asks the same: the answer is run and encoded once. Never rejects. */
  wait(
    prepared: PreparedOperation,
    variables: Variables,
    context: Context,
    wait: LongPollWait,
    subscriber: Subscriber,
  ): Promise<Stop | readonly GraphQLError[]>;
  /** `PollResults` as plain JSON, for those who speak no GraphQL. Rejects with what the hub rejects with. */
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
  /** Null: answer with what is there. */
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
        const seat = await groupFor(source.pollId, context, prepared, (as) => ({
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
        // What is wrong with it is said where it is executed.
        return null;
      }
    },

    async wait(prepared, variables, context, wait, subscriber) {
      const refused = executor.refusal(prepared.operation, context);
      if (refused !== null) return [refused];
      try {
        const seat = await groupFor(wait.pollId, context, prepared, (as) => ({
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
      if (isRefusal(prepared)) throw new Error(`The plain query is not in order: ${prepared.join()}`);
      const seat = await groupFor(pollId, context, prepared, (as) => {
        const whole = encodeQuery(prepared, { pollId }, groupContext(prepared, context, as));
        return { groupKey: `plain ${as}`, encode: async (view) => inside(await whole(view)) };
      });
      return context.services.hub.watch({ ...seat, pollId, topic: 'results', after, everyMs: 0, presence }, subscriber);
    },
  };

  /** A query on where the poll stands, run once for all who wait for it. */
  function encodeQuery(prepared: PreparedOperation, variables: Variables, contextValue: Context) {
    return async (standing: PollView): Promise<Buffer> => {
      const result = await executor.execute(prepared, variables, { ...contextValue, pollView: standing });
      return Buffer.from(JSON.stringify(result));
    };
  }

  /** Once for a whole group. Holds the group's context, never that of one member. */
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
