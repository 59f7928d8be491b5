import type pg from 'pg';
import { takeClaim } from '../../gateway/live/claims.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { writePackageRoute } from '../../gateway/live/store.js';
import type { Clock } from '../../gateway/runtime/clock.js';

/** Rows written at a time in a rebuild. */
const ROUTES_PER_STEP = 500;

/**
 * Writes routes and claims of pulled packages again, until they expire: of all of them, when Redis came back empty,
 * or of these allocations.
 */
export async function republishRoutes(
  pool: pg.Pool,
  redis: LiveRedis,
  clock: Clock,
  allocationIds: readonly string[] | null = null,
): Promise<void> {
  let after = '00000000-0000-0000-0000-000000000000';
  for (;;) {
    const { rows } = await pool.query<{
      id: string;
      package_id: string;
      buyer_id: string;
      account: string;
      session_id: string | null;
      size_bytes: bigint;
      bytes_used: bigint;
      password_hash: Buffer;
      user_id: string;
      exit_ip: string;
      assigned_at: Date;
      expires_at: Date;
    }>(
      `SELECT a.id, a.package_id, a.buyer_id, b.account, a.session_id, a.size_bytes,
              a.bytes_up + a.bytes_down AS bytes_used, a.proxy_password_hash AS password_hash,
              p.user_id, host(p.exit_ip) AS exit_ip, a.assigned_at, a.expires_at
         FROM allocations a JOIN buyers b ON b.id = a.buyer_id JOIN packages p ON p.id = a.package_id
        WHERE a.id > $1 AND a.via = 'pull' AND a.status IN ('allocated', 'in_progress')
          AND a.proxy_password_hash IS NOT NULL AND a.expires_at > $2
          AND ($3::uuid[] IS NULL OR a.id = ANY ($3))
        ORDER BY a.id LIMIT ${ROUTES_PER_STEP}`,
      [after, new Date(clock.nowMs()), allocationIds],
    );
    const last = rows.at(-1);
    if (last === undefined) return;
    after = last.id;
    await Promise.all(
      rows.map(async (r) => {
        const record = {
          allocationId: r.id,
          buyerId: r.buyer_id,
          account: r.account,
          sessionId: r.session_id,
          packageId: r.package_id,
          sizeBytes: Number(r.size_bytes),
          assignedAtMs: r.assigned_at.getTime(),
        };
        const where = { providerId: r.user_id, exitIp: r.exit_ip };
        const expiresAtMs = r.expires_at.getTime();
        await takeClaim(redis, { ...where, record, ttlMs: expiresAtMs - clock.nowMs() });
        await writePackageRoute(
          redis,
          {
            ...record,
            ...where,
            passwordSha256Hex: r.password_hash.toString('hex'),
            expiresAtMs,
            bytesUsed: Number(r.bytes_used),
          },
          clock.nowMs(),
        );
      }),
    );
  }
}
