import type { Queryable } from '../db/pool.js';

export interface AuditFilter {
  actorRole?: string | undefined;
  actorId?: string | undefined;
  action?: string | undefined;
  objectType?: string | undefined;
  objectId?: string | undefined;
  /** ISO 8601; from, and before. */
  from?: string | undefined;
  to?: string | undefined;
}

export interface AuditRow {
  id: bigint;
  /** Microseconds since the Unix epoch: what pages are cut by. */
  at_us: bigint;
  at: Date;
  actor_role: string;
  actor_id: string | null;
  action: string;
  object_type: string;
  object_id: string | null;
  before: unknown;
  after: unknown;
  ip: string | null;
  request_id: string | null;
}

/** Rows that fit all filters, latest first, after `after` (`at_us` and `id` of the page's last row). */
export async function searchAudit(
  db: Queryable,
  filter: AuditFilter,
  after: { atUs: string; id: string } | null,
  limit: number,
): Promise<AuditRow[]> {
  const values: unknown[] = [];
  const value = (v: unknown) => `$${values.push(v)}`;
  // Only the filters that are given, so that each search is planned on the index it needs.
  const conditions = Object.entries({
    'actor_role =': filter.actorRole,
    'actor_id =': filter.actorId,
    'action =': filter.action,
    'object_type =': filter.objectType,
    'object_id =': filter.objectId,
    'at >=': filter.from,
    'at <': filter.to,
  }).flatMap(([condition, given]) => (given === undefined ? [] : [`${condition} ${value(given)}`]));
  if (after !== null)
    conditions.push(
      `(at, id) < ('epoch'::timestamptz + ${value(after.atUs)}::bigint * interval '1 microsecond', ${value(after.id)}::bigint)`,
    );
  const { rows } = await db.query<AuditRow>(
    `SELECT id, (extract(epoch FROM at) * 1000000)::bigint AS at_us, at, actor_role, actor_id, action, object_type,
            object_id, before, after, host(ip) AS ip, request_id
       FROM audit_log ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
      ORDER BY at DESC, id DESC LIMIT ${value(limit)}`,
    values,
  );
  return rows;
}
