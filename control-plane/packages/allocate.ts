import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { releaseClaim, takeClaim } from '../../gateway/live/claims.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { PackageRoute } from '../../gateway/live/records.js';
import { writePackageRoute } from '../../gateway/live/store.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { hashSecret, newProxyPassword } from '../buyers/secrets.js';
import { isUniqueViolation, withTransaction } from '../db/pool.js';
import { live } from '../db/redis.js';

export interface AllocateDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
}

/** Who gets the packages. */
export interface PackageTaker {
  buyerId: string;
  account: string;
}

/** A package put into a buyer's hands; the password is nowhere else. */
export interface AllocatedPackage {
  packageId: string;
  allocationId: string;
  userId: string;
  exitIp: string;
  country: string | null;
  sizeBytes: bigint;
  assignedAtMs: number;
  expiresAtMs: number;
  /** `<account>-package-<uuid without dashes>` */
  username: string;
  password: string;
}

/** What a buyer may ask for. Countries as ISO 3166 alpha-2 in capitals; null: any. */
export interface PullFilter {
  countries: readonly string[] | null;
  city: string | null;
  asn: number | null;
  bytesMin: bigint | null;
  /** Exactly this package (an admin assigns it). */
  packageId: string | null;
}

interface Candidate {
  id: string;
  user_id: string;
  exit_ip: string;
  country: string | null;
  size_bytes: bigint;
  session_id: string | null;
}

interface Taken {
  candidate: Candidate;
  route: PackageRoute;
  password: string;
}

/**
 * Puts up to `countMax` available packages into a buyer's hands, oldest first: the row, the claim on provider + IP
 * and the route for the gateways. Concurrent callers never get the same package, nor two packages of one provider
 * + IP: rows locked by another are skipped, and so is a package whose exit somebody else holds (a gateway that
 * allocated it on connect, say). Offers count only while their session is active. Fewer than asked for, or none,
 * when no more fit. `onAllocated` runs in the same transaction. Rejects with LiveStateUnavailable when Redis is away; nothing is allocated then.
 */
export async function allocatePackages(
  deps: AllocateDeps,
  taker: PackageTaker,
  filter: PullFilter,
  countMax: number,
  ttlMs: number,
  onAllocated?: (client: pg.PoolClient, packages: readonly AllocatedPackage[]) => Promise<void>,
): Promise<AllocatedPackage[]> {
  const got: AllocatedPackage[] = [];
  const skip = new Set<string>();
  while (got.length < countMax) {
    const claimed: Taken[] = [];
    const giveBack = async () => {
      for (const taken of claimed.splice(0))
        await releaseClaim(deps.redis, { ...taken.route, allocationId: taken.route.allocationId }).catch(
          () => {},
        );
    };
    let found = 0;
    try {
      const allocated = await withTransaction(deps.pool, async (client) => {
        await giveBack(); // of an attempt that lost against a concurrent one
        const candidates = await lockCandidates(client, filter, [...skip], countMax - got.length);
        found = candidates.length;
        for (const candidate of candidates) {
          const taken = await claim(deps, taker, candidate, ttlMs);
          if (taken) claimed.push(taken);
          else skip.add(candidate.id);
        }
        const rows = await writeAllocations(client, claimed);
        for (const taken of rows) await live(writePackageRoute(deps.redis, taken.route, deps.clock.nowMs()));
        if (rows.length > 0 && onAllocated)
          await onAllocated(
            client,
            rows.map((x) => describe(x, taker)),
          );
        return rows;
      });
      const kept = new Set(allocated);
      for (const taken of claimed)
        if (!kept.has(taken)) {
          skip.add(taken.candidate.id);
          await releaseClaim(deps.redis, { ...taken.route, allocationId: taken.route.allocationId }).catch(
            () => {},
          );
        }
      for (const taken of allocated) got.push(describe(taken, taker));
    } catch (error) {
      await giveBack();
      throw error;
    }
    if (found === 0) break;
  }
  return got;
}

async function lockCandidates(
  client: pg.ClientBase,
  filter: PullFilter,
  skip: string[],
  limit: number,
): Promise<Candidate[]> {
  const { rows } = await client.query<Candidate>(
    `SELECT p.id, p.user_id, host(p.exit_ip) AS exit_ip, p.country, p.size_bytes, p.session_id
       FROM packages p JOIN users u ON u.id = p.user_id
       LEFT JOIN traffic_sessions s ON s.id = p.session_id
      WHERE p.status = 'available' AND u.status = 'active' AND (p.origin = 'ingest' OR s.status = 'active')
        AND ($1::text[] IS NULL OR p.country = ANY ($1)) AND ($2::text IS NULL OR lower(p.city) = lower($2))
        AND ($3::bigint IS NULL OR p.asn = $3) AND ($4::bigint IS NULL OR p.size_bytes >= $4)
        AND ($5::uuid IS NULL OR p.id = $5) AND p.id <> ALL ($6::uuid[])
        AND NOT EXISTS (SELECT 1 FROM packages o WHERE o.user_id = p.user_id AND o.exit_ip = p.exit_ip
                                                   AND o.status IN ('allocated', 'in_progress'))
      ORDER BY p.created_at, p.id LIMIT $7 FOR NO KEY UPDATE OF p SKIP LOCKED`,
    [
      filter.countries,
      filter.city,
      filter.asn,
      filter.bytesMin?.toString() ?? null,
      filter.packageId,
      skip,
      limit,
    ],
  );
  return rows;
}

async function claim(
  { redis, clock }: AllocateDeps,
  taker: PackageTaker,
  candidate: Candidate,
  ttlMs: number,
): Promise<Taken | null> {
  const password = newProxyPassword();
  const nowMs = clock.nowMs();
  const record = {
    allocationId: randomUUID(),
    buyerId: taker.buyerId,
    account: taker.account,
    sessionId: candidate.session_id,
    packageId: candidate.id,
    sizeBytes: Number(candidate.size_bytes),
    assignedAtMs: nowMs,
  };
  const where = { providerId: candidate.user_id, exitIp: candidate.exit_ip };
  const { held } = await live(takeClaim(redis, { ...where, record, ttlMs }));
  if (!held) return null;
  const route: PackageRoute = {
    ...record,
    ...where,
    passwordSha256Hex: hashSecret(password).toString('hex'),
    expiresAtMs: nowMs + ttlMs,
  };
  return { candidate, route, password };
}

/** Writes the rows; leaves out those that break "one live package a provider + IP" (claims were lost with Redis). */
async function writeAllocations(client: pg.ClientBase, taken: readonly Taken[]): Promise<Taken[]> {
  if (taken.length === 0) return [];
  await client.query('SAVEPOINT allocate');
  try {
    await client.query(
      "UPDATE packages SET status = 'allocated', updated_at = now() WHERE id = ANY ($1::uuid[])",
      [taken.map((x) => x.candidate.id)],
    );
    await client.query(
      `INSERT INTO allocations (id, package_id, buyer_id, session_id, via, status, proxy_password_hash, size_bytes,
                                assigned_at, expires_at)
       SELECT id, package_id, buyer_id, session_id, 'pull', 'allocated', password_hash, size_bytes,
              to_timestamp(assigned_ms / 1000.0), to_timestamp(expires_ms / 1000.0)
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[])
              AS a (id, package_id, buyer_id, session_id, password_hash, size_bytes, assigned_ms, expires_ms)`,
      [
        taken.map((x) => x.route.allocationId),
        taken.map((x) => x.route.packageId),
        taken.map((x) => x.route.buyerId),
        taken.map((x) => x.route.sessionId),
        taken.map((x) => Buffer.from(x.route.passwordSha256Hex, 'hex')),
        taken.map((x) => x.route.sizeBytes),
        taken.map((x) => x.route.assignedAtMs),
        taken.map((x) => x.route.expiresAtMs),
      ],
    );
    await client.query('RELEASE SAVEPOINT allocate');
    return [...taken];
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT allocate');
    if (!isUniqueViolation(error, 'packages_one_live')) throw error;
    if (taken.length === 1) return [];
    const written: Taken[] = [];
    for (const one of taken) written.push(...(await writeAllocations(client, [one])));
    return written;
  }
}

function describe({ candidate, route, password }: Taken, taker: PackageTaker): AllocatedPackage {
  return {
    packageId: candidate.id,
    allocationId: route.allocationId,
    userId: candidate.user_id,
    exitIp: candidate.exit_ip,
    country: candidate.country,
    sizeBytes: candidate.size_bytes,
    assignedAtMs: route.assignedAtMs,
    expiresAtMs: route.expiresAtMs,
    username: `${taker.account}-package-${candidate.id.replaceAll('-', '')}`,
    password,
  };
}
