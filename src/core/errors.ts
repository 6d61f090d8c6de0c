import { cut } from './text.ts';

/**
 * What a caller can run into. Each is data in the contract (a member of a `…Result` union), except two that reach the
 * caller as GraphQL errors with their code: `UnavailableError`, which is our fault, and `UnauthenticatedError`.
 */
export type ErrorCode =
  | 'NOT_FOUND'
  | 'NOT_ALLOWED'
  | 'POLL_NOT_OPEN'
  | 'ALREADY_VOTED'
  | 'INVALID_BALLOT'
  | 'INVALID_INPUT'
  | 'RATE_LIMITED'
  | 'UNAUTHENTICATED'
  | 'UNAVAILABLE';

export abstract class PollcastError extends Error {
  abstract readonly code: ErrorCode;
}

export class NotFoundError extends PollcastError {
  readonly code = 'NOT_FOUND';
}

export class NotAllowedError extends PollcastError {
  readonly code = 'NOT_ALLOWED';
}

export class PollNotOpenError extends PollcastError {
  readonly code = 'POLL_NOT_OPEN';
}

export class AlreadyVotedError extends PollcastError {
  readonly code = 'ALREADY_VOTED';
}

export class InvalidBallotError extends PollcastError {
  readonly code = 'INVALID_BALLOT';
}

export class InvalidInputError extends PollcastError {
  readonly code = 'INVALID_INPUT';
}

export class RateLimitedError extends PollcastError {
  readonly code = 'RATE_LIMITED';
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

/** What was asked came with a token that does not count (any more). Mutations answer `NotAllowedError` instead. */
export class UnauthenticatedError extends PollcastError {
  readonly code = 'UNAUTHENTICATED';
}

/** A dependency (the database, the bus) does not answer: nothing was changed, trying again later is safe. */
export class UnavailableError extends PollcastError {
  readonly code = 'UNAVAILABLE';
}

export function pollNotFound(pollId: string): NotFoundError {
  return new NotFoundError(`There is no poll "${cut(pollId, 64)}".`);
}

export const HTTP_STATUS: Record<ErrorCode, number> = {
  NOT_FOUND: 404,
  NOT_ALLOWED: 403,
  POLL_NOT_OPEN: 409,
  ALREADY_VOTED: 409,
  INVALID_BALLOT: 400,
  INVALID_INPUT: 400,
  RATE_LIMITED: 429,
  UNAUTHENTICATED: 401,
  UNAVAILABLE: 503,
};
