import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import type { PackageStatus } from './moves.js';

export interface PackageRecord {
  id: string;
  userId: string;
  exitIp: string;
  country: string | null;
  city: string | null;
  asn: bigint | null;
  sizeBytes: bigint;
  status: PackageStatus;
  origin: 'offer' | 'ingest';
  sessionId: string | null;
  /** Who has it, or had it last. */
  buyerId: string | null;
  createdAt: Date;
  updatedAt: Date;
}

interface PackageRow {
  id: string;
  user_id: string;
  exit_ip: string;
  country: string | null;
  city: string | null;
  asn: bigint | null;
  size_bytes: bigint;
  status: PackageStatus;
  origin: 'offer' | 'ingest';
  session_id: string | null;
  buyer_id: string | null;
  created_at: Date;
  created_text: string;
  updated_at: Date;
}

const SELECT = `
  SELECT p.id, p.user_id, host(p.exit_ip) AS exit_ip, p.country, p.city, p.asn, p.size_bytes, p.status, p.origin,
         p.session_id, a.buyer_id, p.created_at, p.updated_at,
         to_char(p.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_text
    FROM packages p
    LEFT JOIN LATERAL (SELECT buyer_id FROM allocations x WHERE x.package_id = p.id
                        ORDER BY assigned_at DESC, id LIMIT 1) a ON true`;

function recordOf(r: PackageRow): PackageRecord {
  return {
    id: r.id,
    userId: r.user_id,
    exitIp: r.exit_ip,
    country: r.country,
    city: r.city,
    asn: r.asn,
    sizeBytes: r.size_bytes,
    status: r.status,
    origin: r.origin,
    sessionId: r.session_id,
    buyerId: r.buyer_id,
    createdAt: r.created_at,
    updatedAt: r.updated_at,
  };
}

export interface PackageFilter {
  status?: string | undefined;
  buyerId?: string | undefined;
  userId?: string | undefined;
  ip?: string | undefined;
}

/** Packages, newest first. */
export async function listPackages(
  db: Queryable,
  filter: PackageFilter,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: PackageRecord[]; nextCursor: string | null }> {
  const values: unknown[] = [];
  const value = (v: unknown) => `$${values.push(v)}`;
  // Only the conditions that are asked for, so that each list is planned on the index it needs.
  const conditions: string[] = [];
  if (page.cursor !== undefined) {
    const [at, id] = decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    conditions.push(`(p.created_at, p.id) < (${value(at)}::timestamptz, ${value(id)}::uuid)`);
  }
  if (filter.status !== undefined) conditions.push(`p.status = ${value(filter.status)}`);
  if (filter.userId !== undefined) conditions.push(`p.user_id = ${value(filter.userId)}`);
  if (filter.ip !== undefined) conditions.push(`p.exit_ip = ${value(filter.ip)}`);
  if (filter.buyerId !== undefined) {
    const buyer = value(filter.buyerId);
    // The latest allocation decides; the first condition finds those it can be.
    conditions.push(`p.id IN (SELECT package_id FROM allocations WHERE buyer_id = ${buyer})`);
    conditions.push(`a.buyer_id = ${buyer}`);
  }
  const { rows } = await db.query<PackageRow>(
    `${SELECT} ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}
      ORDER BY p.created_at DESC NULLS LAST, p.id DESC NULLS LAST LIMIT ${value(page.limit + 1)}`, // as in 0014
    values,
  );
  const cut = cutPage(rows, page.limit, (r) => [r.created_text, r.id]);
  return { rows: cut.rows.map(recordOf), nextCursor: cut.nextCursor };
}

/** A package with everyone who had it and what admins did to it, oldest first; null: there is none. */
export async function readPackageHistory(db: Queryable, packageId: string) {
  const { rows } = await db.query<PackageRow>(`${SELECT} WHERE p.id = $1`, [packageId]);
  const [row] = rows;
  if (row === undefined) return null;
  const allocations = await db.query<{
    id: string;
    buyer_id: string;
    via: string;
    status: string;
    bytes_up: bigint;
    bytes_down: bigint;
    reported_bytes: bigint | null;
    assigned_at: Date;
    expires_at: Date | null;
    ended_at: Date | null;
  }>(
    `SELECT id, buyer_id, via, status, bytes_up, bytes_down, reported_bytes, assigned_at, expires_at, ended_at
       FROM allocations WHERE package_id = $1 ORDER BY assigned_at, id`,
    [packageId],
  );
  const audit = await db.query<{ at: Date; action: string; actor_id: string | null }>(
    `SELECT at, action, actor_id FROM audit_log WHERE object_type = 'package' AND object_id = $1 ORDER BY at, id`,
    [packageId],
  );
  return { package: recordOf(row), allocations: allocations.rows, audit: audit.rows };
}
