import { Type } from 'typebox';
import { Bytes, jsonBytes, Money, Nullable, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { BuyerReport, Comparison, Sums } from './compare.js';
import type { Flag } from './flags.js';
import { differencePercent } from './judge.js';

/** A byte count with a sign: exact at any size, as `Bytes`. */
const Difference = Type.Union([Type.Integer(), Type.String({ pattern: '^-?[0-9]+$' })]);
const Percent = Nullable(Type.Number({ description: 'of the metered bytes; null when there are none' }));

const SumsFields = { bytes_up: Bytes, bytes_down: Bytes, bytes: Bytes, charged: Money, earned: Money };

export const FlagSchema = Type.Object({
  kind: Type.Enum(['device_report', 'buyer_report', 'books']),
  allocation_id: Nullable(Uuid),
  metered_bytes: Bytes,
  difference_bytes: Difference,
  difference_percent: Percent,
  difference: Money,
  detail: Type.String(),
  first_seen_at: Timestamp,
  last_seen_at: Timestamp,
  resolved_at: Nullable(Timestamp),
});

export const ReconciliationSchema = Type.Object({
  session_id: Uuid,
  user_id: Uuid,
  device_id: Type.String(),
  status: Type.Enum(['active', 'stopping', 'completed', 'failed']),
  started_at: Timestamp,
  completed_at: Nullable(Timestamp),
  meters: Type.Object({
    ...SumsFields,
    referral: Money,
    count: Type.Integer(),
    open: Type.Integer({ description: 'neither final nor written off' }),
  }),
  session: Type.Object(SumsFields),
  ledger: Type.Object({ charged: Money, earned: Money, referral: Money }),
  device: Type.Object(
    {
      bytes_tx: Bytes,
      bytes_rx: Bytes,
      bytes: Bytes,
      difference_bytes: Difference,
      difference_percent: Percent,
    },
    { description: "the device's own count: advice" },
  ),
  buyers: Type.Array(
    Type.Object({
      allocation_id: Uuid,
      buyer_id: Uuid,
      status: Type.String(),
      bytes: Bytes,
      reported_bytes: Nullable(Bytes),
      difference_bytes: Nullable(Difference),
      difference_percent: Percent,
    }),
  ),
  flags: Type.Array(FlagSchema),
});

export const MeterSchema = Type.Object({
  id: Type.String(),
  gateway_id: Type.String(),
  epoch: Type.String(),
  allocation_id: Uuid,
  provider_price_per_gb: Money,
  buyer_price_per_gb: Money,
  bytes_up: Bytes,
  bytes_down: Bytes,
  charged: Money,
  earned: Money,
  final: Type.Boolean(),
  written_off_at: Nullable(Timestamp),
  opened_at: Timestamp,
  updated_at: Timestamp,
});

const jsonDifference = (bytes: bigint) => (bytes < 0n ? negative(jsonBytes(-bytes)) : jsonBytes(bytes));
const negative = (bytes: number | string) => (typeof bytes === 'number' ? -bytes : `-${bytes}`);

const sumsJson = (s: Sums) => ({
  bytes_up: jsonBytes(s.bytesUp),
  bytes_down: jsonBytes(s.bytesDown),
  bytes: jsonBytes(s.bytesUp + s.bytesDown),
  charged: formatMicros(s.chargedMicros),
  earned: formatMicros(s.earnedMicros),
});

function buyerJson(b: BuyerReport) {
  const difference = b.reportedBytes === null ? null : b.reportedBytes - b.bytes;
  return {
    allocation_id: b.allocationId,
    buyer_id: b.buyerId,
    status: b.status,
    bytes: jsonBytes(b.bytes),
    reported_bytes: b.reportedBytes === null ? null : jsonBytes(b.reportedBytes),
    difference_bytes: difference === null ? null : jsonDifference(difference),
    difference_percent: difference === null ? null : differencePercent(b.bytes, difference),
  };
}

const flagJson = (f: Flag) => ({
  kind: f.kind,
  allocation_id: f.allocationId,
  metered_bytes: jsonBytes(f.meteredBytes),
  difference_bytes: jsonDifference(f.differenceBytes),
  difference_percent: differencePercent(f.meteredBytes, f.differenceBytes),
  difference: formatMicros(f.differenceMicros),
  detail: f.detail,
  first_seen_at: f.firstSeenAt.toISOString(),
  last_seen_at: f.lastSeenAt.toISOString(),
  resolved_at: f.resolvedAt?.toISOString() ?? null,
});

export function reconciliationJson(c: Comparison, flags: readonly Flag[]) {
  const metered = c.meters.bytesUp + c.meters.bytesDown;
  const counted = c.device.bytesTx + c.device.bytesRx;
  return {
    session_id: c.sessionId,
    user_id: c.userId,
    device_id: c.deviceId,
    status: c.status,
    started_at: c.startedAt.toISOString(),
    completed_at: c.completedAt?.toISOString() ?? null,
    meters: {
      ...sumsJson(c.meters),
      referral: formatMicros(c.meters.referralMicros),
      count: c.meters.count,
      open: c.meters.open,
    },
    session: sumsJson(c.session),
    ledger: {
      charged: formatMicros(c.ledger.chargedMicros),
      earned: formatMicros(c.ledger.earnedMicros),
      referral: formatMicros(c.ledger.referralMicros),
    },
    device: {
      bytes_tx: jsonBytes(c.device.bytesTx),
      bytes_rx: jsonBytes(c.device.bytesRx),
      bytes: jsonBytes(counted),
      difference_bytes: jsonDifference(counted - metered),
      difference_percent: differencePercent(metered, counted - metered),
    },
    buyers: c.buyers.map(buyerJson),
    flags: flags.map(flagJson),
  };
}
