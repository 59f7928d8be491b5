import { type MeterReport, meterKey } from '../../gateway/live/records.js';
import { PRICE_MICROS_PER_GB_MAX } from '../ledger/money.js';

/** A report that passed every check that needs no database; amounts as bigint. */
export interface MeterClaim {
  /** Field name in the gateway's meters hash. */
  key: string;
  sessionId: string;
  allocationId: string;
  epoch: string;
  providerPrice: bigint;
  buyerPrice: bigint;
  buyerId: string;
  packageId: string | null;
  /** null: the buyer's own account. */
  subUserId: string | null;
  bytesUp: bigint;
  bytesDown: bigint;
  openedAtMs: number;
  activeAtMs: number;
  final: boolean;
  allocationEnded: boolean;
}

/** Why a report is not booked. It stays in Redis and is tried again at the next sweep. */
export type SetAsideReason =
  | 'unreadable'
  | 'key_mismatch'
  | 'unknown_session'
  | 'unknown_buyer'
  | 'unknown_sub_user'
  | 'allocation_of_another_buyer'
  | 'grew_after_final'
  | 'not_bookable';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const EPOCH = /^[0-9a-f]{32}$/;
const PRICE = /^\d{1,10}$/;
/** Clocks of gateways may be this far ahead before a time of theirs is replaced by now. */
const CLOCK_SKEW_MAX_MS = 60_000;

const isUuid = (value: unknown): value is string => typeof value === 'string' && UUID.test(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function price(value: unknown): bigint | null {
  if (typeof value !== 'string' || !PRICE.test(value)) return null;
  const micros = BigInt(value);
  return micros <= PRICE_MICROS_PER_GB_MAX ? micros : null;
}

/**
 * Checks one field of a meters hash: readable, in range, and under the key its content says. Redis is not trusted
 * here: what passes goes into SQL and becomes money.
 */
export function readReport(
  key: string,
  text: string,
  nowMs: number,
): { ok: true; claim: MeterClaim } | { ok: false; reason: SetAsideReason } {
  let value: Partial<Record<keyof MeterReport, unknown>>;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, reason: 'unreadable' };
  }
  if (typeof value !== 'object' || value === null) return { ok: false, reason: 'unreadable' };
  const {
    sessionId,
    allocationId,
    epoch,
    buyerId,
    packageId,
    subUserId,
    bytesUp,
    bytesDown,
    openedAtMs,
    activeAtMs,
  } = value;
  const providerPrice = price(value.providerPriceMicrosPerGb);
  const buyerPrice = price(value.buyerPriceMicrosPerGb);
  if (
    !isUuid(sessionId) ||
    !isUuid(allocationId) ||
    !isUuid(buyerId) ||
    !(packageId === null || isUuid(packageId)) ||
    !(subUserId === null || isUuid(subUserId)) ||
    typeof epoch !== 'string' ||
    !EPOCH.test(epoch) ||
    providerPrice === null ||
    buyerPrice === null ||
    !isCount(bytesUp) ||
    !isCount(bytesDown) ||
    !isCount(bytesUp + bytesDown) ||
    !isCount(openedAtMs) ||
    !isCount(activeAtMs) ||
    typeof value.final !== 'boolean' ||
    typeof value.allocationEnded !== 'boolean'
  )
    return { ok: false, reason: 'unreadable' };
  if (meterKey(value as MeterReport) !== key) return { ok: false, reason: 'key_mismatch' };
  const latestMs = nowMs + CLOCK_SKEW_MAX_MS;
  return {
    ok: true,
    claim: {
      key,
      sessionId,
      allocationId,
      epoch,
      providerPrice,
      buyerPrice,
      buyerId,
      packageId,
      subUserId,
      bytesUp: BigInt(bytesUp),
      bytesDown: BigInt(bytesDown),
      openedAtMs: openedAtMs > latestMs ? nowMs : openedAtMs,
      activeAtMs: activeAtMs > latestMs || activeAtMs < openedAtMs ? nowMs : activeAtMs,
      final: value.final,
      allocationEnded: value.allocationEnded,
    },
  };
}
