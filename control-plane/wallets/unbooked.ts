import { type MeterIdentity, runOf } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';

/** Runs (`runOf`) of those of the gateway's meters of which nothing has ever been booked. */
export async function runsWithUnbookedMeters(
  db: Queryable,
  gatewayId: string,
  meters: readonly MeterIdentity[],
): Promise<Set<string>> {
  if (meters.length === 0) return new Set();
  const { rows } = await db.query<{ epoch: string }>(
    `SELECT DISTINCT epoch FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[])
            AS w (session_id, allocation_id, epoch, provider_price, buyer_price)
      WHERE NOT EXISTS (SELECT 1 FROM meters m
                         WHERE m.gateway_id = $1 AND m.session_id = w.session_id AND m.epoch = w.epoch
                           AND m.allocation_id = w.allocation_id
                           AND m.provider_price_micros_per_gb = w.provider_price
                           AND m.buyer_price_micros_per_gb = w.buyer_price)`,
    [
      gatewayId,
      meters.map((m) => m.sessionId),
      meters.map((m) => m.allocationId),
      meters.map((m) => m.epoch),
      meters.map((m) => m.providerPriceMicrosPerGb),
      meters.map((m) => m.buyerPriceMicrosPerGb),
    ],
  );
  return new Set(rows.map((r) => runOf(r.epoch)));
}
