import type { Queryable } from '../db/pool.js';

/** Which meters; what is left out does not matter. */
export interface MeterFilter {
  sessionId?: string | undefined;
  gatewayId?: string | undefined;
  /** Neither FINAL nor written off. */
  open?: boolean | undefined;
  /** Got bytes after it was written off. */
  late?: boolean | undefined;
}

/** A meter as it is booked. Bytes; micro-dollars. */
export interface MeterRow {
  id: bigint;
  session_id: string;
  allocation_id: string;
  buyer_id: string;
  sub_user_id: string | null;
  gateway_id: string;
  epoch: string;
  provider_price_micros_per_gb: bigint;
  buyer_price_micros_per_gb: bigint;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
  earned_micros: bigint;
  final: boolean;
  opened_at: Date;
  updated_at: Date;
  written_off_at: Date | null;
  written_off_by: string | null;
  bytes_after_write_off: bigint;
}

/** Meters, newest first, at most `limit`, with ids below `beforeId`. */
export async function readMeterRows(
  db: Queryable,
  filter: MeterFilter,
  beforeId: string | null,
  limit: number,
): Promise<MeterRow[]> {
  const conditions: string[] = [];
  const values: unknown[] = [limit];
  const where = (sql: (n: string) => string, value: unknown) => {
    values.push(value);
    conditions.push(sql(`$${values.length}`));
  };
  if (beforeId !== null) where((n) => `m.id < ${n}::bigint`, beforeId);
  if (filter.sessionId !== undefined) where((n) => `m.session_id = ${n}`, filter.sessionId);
  if (filter.gatewayId !== undefined) where((n) => `m.gateway_id = ${n}`, filter.gatewayId);
  const open = '(NOT m.final AND m.written_off_at IS NULL)';
  if (filter.open !== undefined) conditions.push(filter.open ? open : `NOT ${open}`);
  if (filter.late !== undefined) conditions.push(`m.bytes_after_write_off ${filter.late ? '>' : '='} 0`);
  const { rows } = await db.query<MeterRow>(
    `SELECT m.id, m.session_id, m.allocation_id, a.buyer_id, m.sub_user_id, m.gateway_id, m.epoch,
            m.provider_price_micros_per_gb, m.buyer_price_micros_per_gb, m.bytes_up, m.bytes_down, m.charged_micros,
            m.earned_micros, m.final, m.opened_at, m.updated_at, m.written_off_at, m.written_off_by,
            m.bytes_after_write_off
       FROM meters m JOIN allocations a ON a.id = m.allocation_id
      ${conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''}
      ORDER BY m.id DESC LIMIT $1`,
    values,
  );
  return rows;
}
