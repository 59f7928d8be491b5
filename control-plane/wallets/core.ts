import type { WalletRecord } from '../../gateway/live/records.js';

/** What a run asks for, and what there is. Units: micro-dollars (buyers) or bytes. */
export interface GrantQuestion {
  /** Granted to this run so far. */
  granted: bigint;
  /** What the run would like `granted` to be. */
  wantGranted: bigint;
  /** Owned and not spent (as booked), minus everything held by any run; may be negative. */
  available: bigint;
  /** The least that is worth a grant: 1 MiB, or what it costs. */
  unit: bigint;
  /** Whether another run's hold may still give something back. */
  othersHold: boolean;
}

/** The new `granted` and what the run is told; `granted - question.granted` is never above `available`. */
export interface Grant {
  granted: bigint;
  state: WalletRecord['state'];
  /** What is left to others, and to this run later. */
  beyond: bigint;
}

/** Whole units beyond this do not travel exactly through Redis scripts; nothing is granted above it. */
export const GRANTED_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * How much a run gets. All it wants while there is at least twice as much; else half of what is left, so that others
 * get something, too, down to one unit, which is given whole.
 */
export function decideGrant(question: GrantQuestion): Grant {
  const { granted, available, unit, othersHold } = question;
  const wantGranted = least(question.wantGranted, GRANTED_MAX);
  const missing = most(0n, wantGranted - granted);
  const free = most(0n, available);
  const given = free >= 2n * missing ? missing : least(missing, most(least(free, unit), free / 2n));
  const satisfied = granted + given >= wantGranted || free - given > 0n;
  return {
    granted: granted + given,
    state: satisfied ? 'open' : othersHold ? 'wait' : 'exhausted',
    beyond: least(free - given, GRANTED_MAX),
  };
}

const least = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const most = (a: bigint, b: bigint): bigint => (a > b ? a : b);
