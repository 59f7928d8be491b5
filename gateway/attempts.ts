/** How far one of several workers goes with a request: a part of `pipeline.ts`. */
import type { NoAllocation } from './allocation/allocator.js';
import type { RouteWish } from './allocation/candidates.js';
import type { ProxyFailure } from './errors.js';
import type { Attempts, Authenticated } from './listeners/connect-pipeline.js';

/** As far as it can be gone: nobody else is asked. */
export const ALONE: Attempts = { goesOn: false };

/** Nobody is asked after it: what is about to come free is worth waiting for. */
export function isLast({ goesOn, isLast = !goesOn }: Attempts): boolean {
  return isLast;
}

export function wishOf({ params }: Authenticated, { stays, exact }: Attempts): RouteWish {
  if (!stays && !exact) return params;
  return { ...params, ...(stays && { stays }), ...(exact && { fallback: 'none' }) };
}

/** The failure, and whether that no device was to be had here is a reason to ask another worker. */
export function orElsewhere(failure: ProxyFailure, none: NoAllocation, devicesLeft: number): ProxyFailure {
  const { code, detail, heldBy = null } = none;
  if (heldBy === null && (code !== 'NO_PEER' || detail !== undefined)) return failure;
  if (typeof heldBy === 'string')
    return { ...failure, elsewhere: { devicesLeft, worker: null, gateway: heldBy } };
  return { ...failure, elsewhere: { devicesLeft, worker: heldBy } };
}

/** Another worker goes on with it, and will tell how it went. */
export function goesOn(outcome: { ok: true } | ProxyFailure, attempts: Attempts): boolean {
  return attempts.goesOn && !outcome.ok && outcome.elsewhere !== undefined;
}
