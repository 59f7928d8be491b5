import type { ProviderPrice } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';

export interface DailyPrice {
  /** UTC day, YYYY-MM-DD. */
  day: string;
  microsPerGb: bigint;
  /** When it was set; null for the default, which nobody set. */
  setAt: Date | null;
}

/** The provider price in force now: that of the latest day up to today, else the default. */
export async function providerPrice(
  db: Queryable,
  nowMs: number,
  defaultMicrosPerGb: bigint,
): Promise<DailyPrice> {
  const today = new Date(nowMs).toISOString().slice(0, 10);
  const { rows } = await db.query<{ day: string; micros_per_gb: bigint; set_at: Date }>(
    `SELECT day::text, micros_per_gb, set_at FROM daily_prices WHERE day <= $1::date ORDER BY day DESC LIMIT 1`,
    [today],
  );
  const [row] = rows;
  return row === undefined
    ? { day: today, microsPerGb: defaultMicrosPerGb, setAt: null }
    : { day: row.day, microsPerGb: row.micros_per_gb, setAt: row.set_at };
}

/** The price as the gateways read it. */
export async function liveProviderPrice(
  db: Queryable,
  nowMs: number,
  defaultMicrosPerGb: bigint,
): Promise<ProviderPrice> {
  const price = await providerPrice(db, nowMs, defaultMicrosPerGb);
  const fromMs = price.setAt === null ? 0 : Math.max(Date.parse(price.day), price.setAt.getTime());
  return { microsPerGb: price.microsPerGb.toString(), effectiveFromMs: fromMs };
}

/**
 * What a GB earned on each of the last days, newest first. A day without a price of its own has the last one before
 * it, or the default.
 */
export async function priceHistory(
  db: Queryable,
  nowMs: number,
  days: number,
  defaultMicrosPerGb: bigint,
): Promise<Array<{ day: string; microsPerGb: bigint }>> {
  const today = new Date(nowMs).toISOString().slice(0, 10);
  const { rows } = await db.query<{ day: string; micros_per_gb: bigint | null }>(
    `SELECT d.day::date::text AS day, p.micros_per_gb
       FROM generate_series($1::date - ($2::int - 1), $1::date, interval '1 day') AS d (day)
       LEFT JOIN LATERAL (SELECT micros_per_gb FROM daily_prices WHERE day <= d.day::date
                           ORDER BY day DESC LIMIT 1) p ON true
      ORDER BY d.day DESC`,
    [today, days],
  );
  return rows.map((r) => ({ day: r.day, microsPerGb: r.micros_per_gb ?? defaultMicrosPerGb }));
}

/**
 * Sets a day's price, replacing one set earlier; returns that one. Bytes relayed until now keep the price they were
 * relayed at: the gateways start new meters.
 */
export async function setDailyPrice(
  client: Queryable,
  day: string,
  microsPerGb: bigint,
  setBy: string,
): Promise<{ beforeMicrosPerGb: bigint | null }> {
  const { rows } = await client.query<{ micros_per_gb: bigint }>(
    'SELECT micros_per_gb FROM daily_prices WHERE day = $1::date FOR UPDATE',
    [day],
  );
  await client.query(
    `INSERT INTO daily_prices (day, micros_per_gb, set_by) VALUES ($1::date, $2, $3)
     ON CONFLICT (day) DO UPDATE SET micros_per_gb = excluded.micros_per_gb, set_by = excluded.set_by, set_at = now()`,
    [day, microsPerGb.toString(), setBy],
  );
  return { beforeMicrosPerGb: rows[0]?.micros_per_gb ?? null };
}
