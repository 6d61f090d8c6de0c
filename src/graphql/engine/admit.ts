/**
 * Decides for every transport whether an operation may run. It charges the operation to
 * its address once, and takes one place for an operation that may wait.
 */
import type { ExecutionResult } from 'graphql';
import { LIMITS } from '../../limits/limits.ts';
import type { RateLimits } from '../../limits/rate-limits.ts';
import type { PreparedOperation } from './operation.ts';

export interface AdmissionRequest {
  readonly rates: RateLimits;
  readonly address: string;
  /** Null: the request names no valid operation. */
  readonly prepared: PreparedOperation | null;
  /** Called with the release of the place. Null: the transport already has a place. */
  readonly onPlace: ((release: () => void) => void) | null;
}

export type Admission = { readonly ok: true } | { readonly ok: false; readonly error: unknown };

const ADMITTED: Admission = { ok: true };

/** Never rejects. Returns no promise if no limit has to be asked: votes depend on it. */
export function admit(request: AdmissionRequest): Admission | Promise<Admission> {
  const { rates, address, prepared } = request;
  // The resolver charges a mutation by what it does.
  if (prepared?.operation.operation === 'mutation') return ADMITTED;
  const charged = rates.operation(address, prepared?.cost ?? LIMITS.unusualCost);
  if (charged === null) return takePlace(request);
  return charged.then(() => takePlace(request), refused);
}

function takePlace({ rates, address, prepared, onPlace }: AdmissionRequest): Admission {
  if (onPlace === null || prepared?.canWait !== true) return ADMITTED;
  try {
    rates.connect(address);
  } catch (error) {
    return refused(error);
  }
  onPlace(() => rates.disconnect(address));
  return ADMITTED;
}

/** Charges a mutation whose variables are wrong: no resolver ran that could charge it. */
export function admitRejected(
  { operation }: Pick<PreparedOperation, 'operation'>,
  result: ExecutionResult,
  { rates, address }: Pick<AdmissionRequest, 'rates' | 'address'>,
): Admission | Promise<Admission> {
  if (operation.operation !== 'mutation' || 'data' in result) return ADMITTED;
  const charged = rates.operation(address, LIMITS.unusualCost);
  return charged === null ? ADMITTED : charged.then(() => ADMITTED, refused);
}

function refused(error: unknown): Admission {
  return { ok: false, error };
}
