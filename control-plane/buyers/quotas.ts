import type { Queryable } from '../db/pool.js';

/** Bytes of one UTC day and month; null: no limit. */
export interface ByteQuotas {
  bytesPerDayMax: number | null;
  bytesPerMonthMax: number | null;
}

/**
 * Sets the quotas of a buyer or sub-user, in the transaction that changes its limits. A buyer who never had one begins
 * with what is booked of the present day and month, a sub-user with 0; after that each is counted exactly.
 */
export async function setByteQuotas(client: Queryable, ownerId: string, quotas: ByteQuotas): Promise<void> {
  const { bytesPerDayMax, bytesPerMonthMax } = quotas;
  if (bytesPerDayMax === null && bytesPerMonthMax === null) {
    await client.query(
      'UPDATE byte_quotas SET bytes_per_day_max = NULL, bytes_per_month_max = NULL WHERE owner_id = $1',
      [ownerId],
    );
    return;
  }
  await client.query(
    `INSERT INTO byte_quotas (owner_id, bytes_per_day_max, bytes_per_month_max, day, month, day_bytes, month_bytes)
     SELECT $1, $2, $3, utc_day(), utc_month(),
            coalesce(sum(bytes_up + bytes_down) FILTER (WHERE day = utc_day()), 0),
            coalesce(sum(bytes_up + bytes_down), 0)
       FROM usage_daily_buyer WHERE buyer_id = $1 AND day >= utc_month()
     ON CONFLICT (owner_id) DO UPDATE
        SET bytes_per_day_max = excluded.bytes_per_day_max, bytes_per_month_max = excluded.bytes_per_month_max`,
    [ownerId, bytesPerDayMax, bytesPerMonthMax],
  );
}
