/** The errors of the contract: what a caller can run into is data, what is our fault is masked, logged and numbered. */
import { randomUUID } from 'node:crypto';
import { GraphQLError } from 'graphql';
import {
  AlreadyVotedError,
  InvalidBallotError,
  InvalidInputError,
  NotAllowedError,
  NotFoundError,
  PollcastError,
  PollNotOpenError,
  RateLimitedError,
} from '../../core/errors.ts';
import type { Log } from '../../ports/log.ts';
import type { Origin } from '../context.ts';
import { builder } from './builder.ts';

const ErrorInterface = builder.interfaceRef<PollcastError>('Error').implement({
  description: 'What a caller can run into, as data.',
  fields: (t) => ({
    message: t.exposeString('message', { description: 'What is wrong, in a sentence for people.' }),
  }),
});

const KINDS = [
  [NotFoundError, 'NotFoundError', 'There is nothing under that id.'],
  [
    NotAllowedError,
    'NotAllowedError',
    'The caller may not do that: the organizer key is missing or of another poll, the account lacks the role, or its session has expired.',
  ],
  [PollNotOpenError, 'PollNotOpenError', 'The poll is a draft or closed; it takes no ballots.'],
  [AlreadyVotedError, 'AlreadyVotedError', 'Another ballot of this voter stands, and the poll allows no change.'],
  [InvalidBallotError, 'InvalidBallotError', 'The ballot breaks the rules of the poll; nothing of it was counted.'],
  [
    InvalidInputError,
    'InvalidInputError',
    'The input breaks a bound or contradicts itself; the message names every mistake.',
  ],
] as const;

for (const [type, name, description] of KINDS) {
  builder.objectType(type, {
    name,
    description,
    interfaces: [ErrorInterface],
    isTypeOf: (value) => value instanceof type,
  });
}

builder.objectType(RateLimitedError, {
  name: 'RateLimitedError',
  description: 'Too much at once; nothing was changed. Trying again later is safe.',
  interfaces: [ErrorInterface],
  isTypeOf: (value) => value instanceof RateLimitedError,
  fields: (t) => ({
    retryAfterMs: t.exposeInt('retryAfterMs', { description: 'When to try again, in milliseconds from now.' }),
  }),
});

/** A domain error as a GraphQL error, for places that have no union: its code stands in the extensions. */
export function asGraphQLError(error: PollcastError, at?: GraphQLError): GraphQLError {
  return new GraphQLError(error.message, {
    ...(at?.nodes ? { nodes: at.nodes } : {}),
    ...(at?.path ? { path: at.path } : {}),
    extensions: {
      code: error.code,
      ...(error instanceof RateLimitedError ? { retryAfterMs: error.retryAfterMs } : {}),
    },
  });
}

/** What the caller may see of an error: malformed operations as they are, domain errors with their code, faults as a number. */
export function maskError(error: unknown, log: Log, origin?: Origin | null): GraphQLError {
  const located = error instanceof GraphQLError ? error : undefined;
  const cause = located === undefined ? error : located.originalError;
  if (located !== undefined && (cause === undefined || cause instanceof GraphQLError)) return located;
  if (cause instanceof PollcastError) return asGraphQLError(cause, located);
  const id = randomUUID();
  log.error({ err: cause, id, path: located?.path?.join('.'), ...origin?.logFields }, 'an operation failed');
  return new GraphQLError(`Something went wrong here. If it happens again, report the number ${id}.`, {
    ...(located?.nodes ? { nodes: located.nodes } : {}),
    ...(located?.path ? { path: located.path } : {}),
    extensions: { code: 'INTERNAL_SERVER_ERROR', id },
  });
}
