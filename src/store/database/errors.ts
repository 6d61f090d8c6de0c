/** What an error of the database means for the statement that met it. */

/** The SQLSTATE, or the code of the driver or of the system, wherever in the chain of causes it stands. */
export function codeOf(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string') return at.code;
  }
  return '';
}

/** The pool's own: there is no connection to be had, or this one was given up. */
export class UnreachableError extends Error {
  readonly code: 'UNREACHABLE' | 'CONNECTION_LOST';

  constructor(code: UnreachableError['code']) {
    super(code === 'UNREACHABLE' ? 'The database is not to be reached.' : 'The connection to the database was lost.');
    this.code = code;
  }
}

/** A serialization failure or a deadlock: nothing was done, and doing it again is what Postgres asks for. */
export function isConflict(error: unknown): boolean {
  return /^(40001|40P01)$/.test(codeOf(error));
}

/** The connection is gone; whether the statement was carried out is not known. */
export function isConnectionLoss(error: unknown): boolean {
  return /^(08|57P0|25P0[34]|CONNECT|E(CONN|PIPE|HOST|NET|TIMEDOUT|ADDR|NOTFOUND|NOENT|AI_AGAIN))/.test(codeOf(error));
}

/**
 * The database cannot do its work now: it is gone, took too long (57014, 55P03), has no room or memory left (53), cannot
 * read its disk (58), or only reads (25006, a standby).
 */
export function isUnavailable(error: unknown): boolean {
  return isConnectionLoss(error) || /^(53|58|57014$|55P03$|25006$|UNREACHABLE$)/.test(codeOf(error));
}
