import { releaseClaim } from '../../gateway/live/claims.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { deletePackageRoute } from '../../gateway/live/store.js';
import { isUniqueViolation, type Queryable } from '../db/pool.js';
import type { LiveState } from '../live-state/live-state.js';
import { offerPackages } from './offer.js';

export type PackageStatus = 'available' | 'allocated' | 'in_progress' | 'completed' | 'failed' | 'revoked';
export type ReportedStatus = 'accepted' | 'in_progress' | 'completed' | 'failed';

/**
 * What a buyer may report, and from where. `accepted` changes nothing: it says that the credentials arrived.
 *
 * | report      | allocated   | in_progress | completed | failed | revoked |
 * |-------------|-------------|-------------|-----------|--------|---------|
 * | accepted    | (stays)     | (stays)     | 409       | 409    | 409     |
 * | in_progress | in_progress | (stays)     | 409       | 409    | 409     |
 * | completed   | 409         | completed   | (stays)   | 409    | 409     |
 * | failed      | failed      | failed      | 409       | (stays)| 409     |
 */
export const reportedMoves: Record<ReportedStatus, Partial<Record<PackageStatus, PackageStatus>>> = {
  accepted: { allocated: 'allocated', in_progress: 'in_progress' },
  in_progress: { allocated: 'in_progress', in_progress: 'in_progress' },
  completed: { in_progress: 'completed', completed: 'completed' },
  failed: { allocated: 'failed', in_progress: 'failed', failed: 'failed' },
};

/** An allocation that ended; its claim and route are to be taken away after the commit. */
export interface EndedAllocation {
  allocationId: string;
  packageId: string;
  userId: string;
  exitIp: string;
}

/**
 * A buyer's report about a pulled package. Repeating it is harmless. `unknown`: not a package of this buyer;
 * `illegal_move`: not from `from`. What the buyer counted is kept as advice; the meter alone decides money.
 */
export async function reportStatus(
  client: Queryable,
  report: {
    packageId: string;
    buyerId: string;
    status: ReportedStatus;
    bytesSent: number | null;
    offerBytes: number;
  },
): Promise<
  | { ok: true; status: PackageStatus; ended: EndedAllocation | null }
  | { ok: false; code: 'unknown' }
  | { ok: false; code: 'illegal_move'; from: PackageStatus }
> {
  const { rows } = await client.query<{ id: string; status: PackageStatus; session_id: string | null }>(
    `SELECT id, status, session_id FROM allocations WHERE package_id = $1 AND buyer_id = $2
      ORDER BY assigned_at DESC, id LIMIT 1 FOR NO KEY UPDATE`,
    [report.packageId, report.buyerId],
  );
  const [allocation] = rows;
  if (allocation === undefined) return { ok: false, code: 'unknown' };
  const next = reportedMoves[report.status][allocation.status];
  if (next === undefined) return { ok: false, code: 'illegal_move', from: allocation.status };
  const ends = next !== allocation.status && (next === 'completed' || next === 'failed');
  await client.query(
    `UPDATE allocations SET status = $2, reported_bytes = coalesce($3, reported_bytes),
                            ended_at = CASE WHEN $4 THEN now() ELSE ended_at END WHERE id = $1`,
    [allocation.id, next, report.bytesSent, ends],
  );
  if (next === allocation.status) return { ok: true, status: next, ended: null };
  const moved = await client.query<{ user_id: string; exit_ip: string }>(
    `UPDATE packages SET status = $2, updated_at = now() WHERE id = $1 AND status IN ('allocated', 'in_progress')
     RETURNING user_id, host(exit_ip) AS exit_ip`,
    [report.packageId, next],
  );
  if (!ends) return { ok: true, status: next, ended: null };
  if (allocation.session_id !== null) await offerAgain(client, [allocation.session_id], report.offerBytes);
  const [pack] = moved.rows;
  return {
    ok: true,
    status: next,
    ended: pack
      ? {
          allocationId: allocation.id,
          packageId: report.packageId,
          userId: pack.user_id,
          exitIp: pack.exit_ip,
        }
      : null,
  };
}

/** Offers these sessions again, as far as they are active. */
async function offerAgain(
  client: Queryable,
  sessionIds: readonly string[],
  offerBytes: number,
): Promise<void> {
  const { rows } = await client.query<{
    id: string;
    user_id: string;
    exit_ip: string;
    country: string;
    city: string | null;
    asn: bigint | null;
  }>(
    `SELECT id, user_id, host(exit_ip) AS exit_ip, country, city, asn FROM traffic_sessions
      WHERE id = ANY ($1::uuid[]) AND status = 'active' ORDER BY id`,
    [sessionIds],
  );
  await offerPackages(
    client,
    rows.map((r) => ({
      sessionId: r.id,
      userId: r.user_id,
      exitIp: r.exit_ip,
      country: r.country,
      city: r.city,
      asn: r.asn,
      sizeBytes: offerBytes,
    })),
  );
}

/**
 * Takes a package back from whoever has it. `reset`: it becomes available again instead of revoked.
 * `illegal_move`: it is completed or failed, or can not be offered again (its session has another open offer or
 * is over).
 */
export async function revokePackage(
  client: Queryable,
  packageId: string,
  reset: boolean,
): Promise<
  | { ok: true; before: PackageStatus; status: PackageStatus; ended: EndedAllocation | null }
  | { ok: false; code: 'unknown' }
  | { ok: false; code: 'illegal_move'; from: PackageStatus }
> {
  // Allocations before packages, as everywhere.
  const live = await client.query<{ id: string }>(
    `SELECT id FROM allocations WHERE package_id = $1 AND status IN ('allocated', 'in_progress')
      ORDER BY id FOR NO KEY UPDATE`,
    [packageId],
  );
  const { rows } = await client.query<{
    status: PackageStatus;
    user_id: string;
    exit_ip: string;
    session_over: boolean;
  }>(
    `SELECT p.status, p.user_id, host(p.exit_ip) AS exit_ip,
            p.origin = 'offer' AND NOT EXISTS (SELECT 1 FROM traffic_sessions s
                                                WHERE s.id = p.session_id AND s.status = 'active') AS session_over
       FROM packages p WHERE p.id = $1 FOR NO KEY UPDATE OF p`,
    [packageId],
  );
  const [pack] = rows;
  if (pack === undefined) return { ok: false, code: 'unknown' };
  const illegal = { ok: false, code: 'illegal_move', from: pack.status } as const;
  if (pack.status === 'completed' || pack.status === 'failed') return illegal;
  if (reset && pack.session_over) return illegal;
  const status = reset ? 'available' : 'revoked';
  await client.query('SAVEPOINT revoke');
  try {
    await client.query('UPDATE packages SET status = $2, updated_at = now() WHERE id = $1', [
      packageId,
      status,
    ]);
  } catch (error) {
    if (!isUniqueViolation(error, 'packages_one_offer')) throw error;
    await client.query('ROLLBACK TO SAVEPOINT revoke');
    return illegal;
  }
  await client.query(
    `UPDATE allocations SET status = 'revoked', ended_at = now() WHERE id = ANY ($1::uuid[])`,
    [live.rows.map((r) => r.id)],
  );
  const [allocation] = live.rows;
  return {
    ok: true,
    before: pack.status,
    status,
    ended: allocation
      ? { allocationId: allocation.id, packageId, userId: pack.user_id, exitIp: pack.exit_ip }
      : null,
  };
}

/** Stale allocations handled in one transaction. */
const STALE_PER_STEP = 500;

/**
 * Takes back packages that were pulled but not used within their time. `to`: what becomes of the package; an offer
 * whose session is over or has another open offer is revoked in any case. One that was used, but not for that long,
 * is completed.
 */
export async function cleanUpStale(
  client: Queryable,
  nowMs: number,
  to: 'available' | 'revoked',
): Promise<{ ended: EndedAllocation[]; more: boolean }> {
  const { rows } = await client.query<{ id: string; package_id: string | null }>(
    `SELECT id, package_id FROM allocations
      WHERE (status = 'allocated' OR (status = 'in_progress' AND via = 'pull')) AND expires_at <= $1
      ORDER BY id LIMIT ${STALE_PER_STEP} FOR NO KEY UPDATE SKIP LOCKED`,
    [new Date(nowMs)],
  );
  if (rows.length === 0) return { ended: [], more: false };
  await client.query(
    "UPDATE allocations SET status = 'revoked', ended_at = now() WHERE id = ANY ($1::uuid[])",
    [rows.map((r) => r.id)],
  );
  const packageIds = rows.flatMap((r) => (r.package_id === null ? [] : [r.package_id]));
  await client.query('SELECT 1 FROM packages WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE', [
    packageIds,
  ]);
  const { rows: packages } = await client.query<{ id: string; user_id: string; exit_ip: string }>(
    `UPDATE packages p
        SET status = CASE WHEN p.status = 'in_progress' THEN 'completed' WHEN $2 = 'available' AND (p.origin = 'ingest' OR (
                            EXISTS (SELECT 1 FROM traffic_sessions s WHERE s.id = p.session_id AND s.status = 'active')
                            AND NOT EXISTS (SELECT 1 FROM packages o WHERE o.session_id = p.session_id
                                             AND o.status = 'available' AND o.origin = 'offer')))
                          THEN 'available' ELSE 'revoked' END,
            updated_at = now()
      WHERE p.id = ANY ($1::uuid[]) AND p.status IN ('allocated', 'in_progress')
     RETURNING p.id, p.user_id, host(p.exit_ip) AS exit_ip`,
    [packageIds, to],
  );
  const allocationOf = new Map(rows.map((r) => [r.package_id, r.id]));
  return {
    ended: packages.map((p) => ({
      allocationId: allocationOf.get(p.id) as string,
      packageId: p.id,
      userId: p.user_id,
      exitIp: p.exit_ip,
    })),
    more: rows.length === STALE_PER_STEP,
  };
}

/**
 * After the commit: gateways stop serving the allocation, then its route and claim go, so that the exit can be
 * taken again. What fails because Redis is away is made up for by the expiry of route and claim.
 */
export async function forgetAllocation(
  redis: LiveRedis,
  live: Pick<LiveState, 'command'>,
  ended: EndedAllocation,
): Promise<void> {
  await live.command({ kind: 'end_allocation', allocationId: ended.allocationId });
  await Promise.allSettled([
    deletePackageRoute(redis, ended.packageId),
    releaseClaim(redis, { providerId: ended.userId, exitIp: ended.exitIp, allocationId: ended.allocationId }),
  ]);
}
