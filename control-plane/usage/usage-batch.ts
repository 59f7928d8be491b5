import {
  type BuyerRefusals,
  type DestinationUsage,
  REFUSED_SAMPLES_MAX,
  type UsageBatchId,
} from '../../gateway/live/usage.js';
import { Sketch } from '../../gateway/runtime/sketch.js';

/** Usage as it may be booked: checked, its times made credible. */
export interface UsageClaim extends DestinationUsage {
  /** UTC day of `lastAtMs`. */
  day: string;
}

/** Refusals as they may be booked. */
export interface RefusalClaim extends Omit<BuyerRefusals, 'targets' | 'samples'> {
  /** Beginning of the hour of `lastAtMs`. */
  hourMs: number;
  /** Null: they were not about destinations. */
  targets: Sketch | null;
  samples: string[];
}

/** A batch as it was read. */
export interface UsageBatch extends UsageBatchId {
  claims: UsageClaim[];
  refusals: RefusalClaim[];
  /** Entries that are none; they are left out. */
  unreadable: number;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** Printable ASCII: what the destination policy lets through, and `(other)`. */
const HOST = /^[\x21-\x7e]{1,255}$/;
/** A value of the username grammar, or `(other)`. */
const LABEL = /^([A-Za-z0-9_.]{1,64}|\(other\))$/;
/** A code of the proxy's errors, and what goes with it. */
const CODE = /^[A-Z_]{1,40}$/;
const SAMPLE = /^[\x21-\x7e]{1,260}$/;
const DETAIL = /^[A-Za-z0-9_. ?-]{0,64}$/;
const PORT_MAX = 65_535;
const HOUR_MS = 3_600_000;
/** Clocks of gateways may be this far ahead before a time of theirs is replaced by now. */
const CLOCK_SKEW_MAX_MS = 60_000;
/** Batches may be this late; an older time comes from a clock that is wrong. */
const AGE_MAX_MS = 30 * 86_400_000;

const isUuid = (value: unknown): value is string => typeof value === 'string' && UUID.test(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isSamples = (value: unknown): value is string[] =>
  Array.isArray(value) &&
  value.length <= REFUSED_SAMPLES_MAX &&
  value.every((one) => typeof one === 'string' && SAMPLE.test(one));
const isLabel = (value: unknown): value is string | null =>
  value === null || (typeof value === 'string' && LABEL.test(value));

/** Checks a batch: Redis is not trusted here, what passes goes into SQL. A text that is none has no claims. */
export function readUsage(id: UsageBatchId, text: string, nowMs: number): UsageBatch {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    values = null;
  }
  if (!Array.isArray(values)) return { ...id, claims: [], refusals: [], unreadable: 1 };
  const claims = values.flatMap((value) => readClaim(value, nowMs) ?? []);
  const refusals = values.flatMap((value) => readRefusals(value, nowMs) ?? []);
  return { ...id, claims, refusals, unreadable: values.length - claims.length - refusals.length };
}

function isCredible(atMs: number, nowMs: number): boolean {
  return atMs <= nowMs + CLOCK_SKEW_MAX_MS && atMs >= nowMs - AGE_MAX_MS;
}

function readRefusals(value: unknown, nowMs: number): RefusalClaim | null {
  if (typeof value !== 'object' || value === null) return null;
  const v: Partial<Record<keyof BuyerRefusals, unknown>> = value;
  const { buyerId, code, refusals, lastDetail, samples = [] } = v;
  // Gateways of before tell none.
  const targets = typeof v.targets === 'string' ? Sketch.fromText(v.targets) : null;
  if (
    !isUuid(buyerId) ||
    typeof code !== 'string' ||
    !CODE.test(code) ||
    !isCount(refusals) ||
    refusals === 0 ||
    !(lastDetail === null || (typeof lastDetail === 'string' && DETAIL.test(lastDetail))) ||
    !isCount(v.lastAtMs) ||
    (v.targets !== undefined && targets === null) ||
    !isSamples(samples)
  )
    return null;
  const lastAtMs = isCredible(v.lastAtMs, nowMs) ? v.lastAtMs : nowMs;
  const hourMs = lastAtMs - (lastAtMs % HOUR_MS);
  return { buyerId, code, refusals, lastAtMs, lastDetail, hourMs, targets, samples };
}

function readClaim(value: unknown, nowMs: number): UsageClaim | null {
  if (typeof value !== 'object' || value === null) return null;
  const v: Partial<Record<keyof DestinationUsage, unknown>> = value;
  const { sessionId, allocationId, buyerId, subUserId, host, port, tag, sessionName } = v;
  const { bytesUp, bytesDown, streams } = v;
  if (
    !isUuid(sessionId) ||
    !isUuid(allocationId) ||
    !isUuid(buyerId) ||
    !(subUserId === null || isUuid(subUserId)) ||
    typeof host !== 'string' ||
    !HOST.test(host) ||
    !isCount(port) ||
    port > PORT_MAX ||
    !isLabel(tag) ||
    !isLabel(sessionName) ||
    !isCount(bytesUp) ||
    !isCount(bytesDown) ||
    !isCount(streams) ||
    !isCount(v.firstAtMs) ||
    !isCount(v.lastAtMs)
  )
    return null;
  const credible = isCredible(v.lastAtMs, nowMs);
  const lastAtMs = credible ? v.lastAtMs : nowMs;
  const firstAtMs =
    credible && v.firstAtMs <= lastAtMs && v.firstAtMs >= lastAtMs - AGE_MAX_MS ? v.firstAtMs : lastAtMs;
  return {
    sessionId,
    allocationId,
    buyerId,
    subUserId,
    host,
    port,
    tag,
    sessionName,
    bytesUp,
    bytesDown,
    streams,
    firstAtMs,
    lastAtMs,
    day: new Date(lastAtMs).toISOString().slice(0, 10),
  };
}
