import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type Claim, releaseClaim, takeClaims } from '../../gateway/live/claims.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { PackageRoute } from '../../gateway/live/records.js';
import { writePackageRoutes } from '../../gateway/live/store.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { hashSecret, newProxyPassword } from '../buyers/secrets.js';
import { isUniqueViolation, withTransaction } from '../db/pool.js';
import { LiveStateUnavailable, live } from '../db/redis.js';

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
  /** Whose it becomes. */
  request: PullRequest;
}

/** What one taker asks for. */
export interface PullRequest {
  taker: PackageTaker;
  countMax: number;
}

/**
 * Puts up to `countMax` available packages into a buyer's hands, oldest first: the row, the claim on provider + IP
 * and the route for the gateways. Concurrent callers never get the same package, nor two packages of one provider
 * + IP: rows locked by another are skipped, and so is a package whose exit somebody else holds (a gateway that
 * allocated it on connect, say). Offers count only while their session is active. Fewer than asked for, or none,
 * when no more fit. `onAllocated` runs in the same transaction. Rejects with LiveStateUnavailable when Redis is away;
 * nothing is allocated then.
 */
export async function allocatePackages(
  deps: AllocateDeps,
  taker: PackageTaker,
  filter: PullFilter,
  countMax: number,
  ttlMs: number,
  onAllocated?: OnAllocated,
): Promise<AllocatedPackage[]> {
  const [packages = []] = await allocateForAll(deps, [{ taker, countMax }], filter, ttlMs, onAllocated);
  return packages;
}

type OnAllocated = (client: pg.PoolClient, packages: readonly AllocatedPackage[]) => Promise<void>;

/**
 * The same for several who ask for the same at once, in one transaction and a few round trips for all: the first gets
 * the oldest. The answers are in the order of the requests. When it rejects, nobody has got anything.
 */
export async function allocateForAll(
  deps: AllocateDeps,
  requests: readonly PullRequest[],
  filter: PullFilter,
  ttlMs: number,
  onAllocated?: OnAllocated,
): Promise<AllocatedPackage[][]> {
  const got = new Map(requests.map((request): [PullRequest, AllocatedPackage[]] => [request, []]));
  /** One entry for each package that is still wanted. */
  const wanted = () =>
    requests.flatMap((request) =>
      Array.from({ length: request.countMax - (got.get(request)?.length ?? 0) }, () => request),
    );
  const skip = new Set<string>();
  let careful = false;
  for (let open = wanted(); open.length > 0; open = wanted()) {
    const claimed: Taken[] = [];
    const giveBack = async (taken: readonly Taken[]) => {
      for (const { route } of taken) await releaseClaim(deps.redis, route).catch(() => {});
    };
    let found = 0;
    try {
      const allocated = await withTransaction(deps.pool, async (client) => {
        await giveBack(claimed.splice(0)); // of an attempt that lost against a concurrent one
        const candidates = await lockCandidates(client, filter, [...skip], open.length);
        found = candidates.length;
        claimed.push(...(await claimAll(deps, open, candidates, ttlMs)));
        const held = new Set(claimed.map(({ candidate }) => candidate));
        for (const candidate of candidates) if (!held.has(candidate)) skip.add(candidate.id);
        const rows = await writeAllocations(client, claimed, careful);
        const routes = rows.map(({ route }) => route);
        await live(writePackageRoutes(deps.redis, routes, deps.clock.nowMs()));
        if (rows.length > 0 && onAllocated) await onAllocated(client, rows.map(describe));
        return rows;
      });
      const kept = new Set(allocated);
      const lost = claimed.filter((taken) => !kept.has(taken));
      for (const { candidate } of lost) skip.add(candidate.id);
      await giveBack(lost);
      for (const taken of allocated) got.get(taken.request)?.push(describe(taken));
    } catch (error) {
      await giveBack(claimed);
      if (!careful && isUniqueViolation(error, ONE_LIVE)) {
        careful = true;
        continue;
      }
      // What an earlier turn has committed is handed out: its passwords are known here alone.
      if ([...got.values()].some((packages) => packages.length > 0)) break;
      throw error;
    }
    if (found === 0) break;
  }
  return [...got.values()];
}

async function lockCandidates(
  client: pg.ClientBase,
  filter: PullFilter,
  skip: string[],
  limit: number,
): Promise<Candidate[]> {
  const values: unknown[] = [skip, limit];
  const value = (v: unknown) => `$${values.push(v)}`;
  // Only the conditions that are asked for: Postgres then knows what a plan is for.
  const wanted: string[] = [];
  if (filter.countries !== null) wanted.push(`p.country = ANY (${value(filter.countries)})`);
  if (filter.city !== null) wanted.push(`lower(p.city) = lower(${value(filter.city)})`);
  if (filter.asn !== null) wanted.push(`p.asn = ${value(filter.asn)}`);
  if (filter.bytesMin !== null) wanted.push(`p.size_bytes >= ${value(filter.bytesMin.toString())}`);
  if (filter.packageId !== null) wanted.push(`p.id = ${value(filter.packageId)}`);
  const { rows } = await client.query<Candidate>({
    // Planned once a connection where anything will do; with filters the plan depends on their values.
    ...(wanted.length === 0 && { name: 'pull-candidates' }),
    text: `SELECT p.id, p.user_id, host(p.exit_ip) AS exit_ip, p.country, p.size_bytes, p.session_id
             FROM packages p JOIN users u ON u.id = p.user_id
             LEFT JOIN traffic_sessions s ON s.id = p.session_id
            WHERE p.status = 'available' AND u.status = 'active' AND (p.origin = 'ingest' OR s.status = 'active')
              AND p.id <> ALL ($1::uuid[]) ${wanted.map((condition) => `AND ${condition}`).join(' ')}
              -- OFFSET 0: a lookup for each candidate, never a join with all packages in use, of which there are few
              -- when Postgres counts them and many an hour later.
              AND NOT EXISTS (SELECT 1 FROM packages o WHERE o.user_id = p.user_id AND o.exit_ip = p.exit_ip
                                                         AND o.status IN ('allocated', 'in_progress') OFFSET 0)
            ORDER BY p.created_at, p.id LIMIT $2 FOR NO KEY UPDATE OF p SKIP LOCKED`,
    values,
  });
  return rows;
}

/** Claims the candidates for those who want one, in one round trip; those whose exit is held are left out. */
async function claimAll(
  { redis, clock }: AllocateDeps,
  wanted: readonly PullRequest[],
  candidates: readonly Candidate[],
  ttlMs: number,
): Promise<Taken[]> {
  const nowMs = clock.nowMs();
  const all = candidates.map((candidate, i): Taken & { claim: Claim } => {
    const request = wanted[i] as PullRequest;
    const password = newProxyPassword();
    const record = {
      allocationId: randomUUID(),
      buyerId: request.taker.buyerId,
      account: request.taker.account,
      sessionId: candidate.session_id,
      packageId: candidate.id,
      sizeBytes: Number(candidate.size_bytes),
      assignedAtMs: nowMs,
    };
    const where = { providerId: candidate.user_id, exitIp: candidate.exit_ip };
    const route: PackageRoute = {
      ...record,
      ...where,
      passwordSha256Hex: hashSecret(password).toString('hex'),
      expiresAtMs: nowMs + ttlMs,
    };
    return { candidate, route, password, request, claim: { ...where, record, ttlMs } };
  });
  /** Also of those whose outcome is unknown: only what this allocation holds is freed. */
  const freeAll = async () => {
    for (const { route } of all) await releaseClaim(redis, route).catch(() => {});
  };
  const claims = all.map(({ claim }) => claim);
  const outcomes = await live(takeClaims(redis, claims)).catch(async (error: unknown) => {
    await freeAll();
    throw error;
  });
  if (outcomes.includes(null)) {
    await freeAll();
    throw new LiveStateUnavailable('Redis refused a claim');
  }
  return all.filter((_, i) => outcomes[i]?.held === true);
}

/** At most one package of a provider + IP is in use. */
const ONE_LIVE = 'packages_one_live';

/**
 * Writes the rows. `careful`: leaves out those that break "one live package a provider + IP" (claims were lost with
 * Redis), at the price of two round trips more; else such a one ends the transaction (unique violation of ONE_LIVE).
 */
async function writeAllocations(
  client: pg.ClientBase,
  taken: readonly Taken[],
  careful: boolean,
): Promise<Taken[]> {
  if (taken.length === 0) return [];
  if (!careful) {
    await writeAll(client, taken);
    return [...taken];
  }
  await client.query('SAVEPOINT allocate');
  try {
    await writeAll(client, taken);
    await client.query('RELEASE SAVEPOINT allocate');
    return [...taken];
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT allocate');
    if (!isUniqueViolation(error, ONE_LIVE)) throw error;
    if (taken.length === 1) return [];
    const written: Taken[] = [];
    for (const one of taken) written.push(...(await writeAllocations(client, [one], careful)));
    return written;
  }
}

async function writeAll(client: pg.ClientBase, taken: readonly Taken[]): Promise<void> {
  await client.query({
    name: 'allocate-packages',
    text: `WITH given AS (
             UPDATE packages SET status = 'allocated', updated_at = now() WHERE id = ANY ($2::uuid[]))
           INSERT INTO allocations (id, package_id, buyer_id, session_id, via, status, proxy_password_hash, size_bytes,
                                    assigned_at, expires_at)
           SELECT id, package_id, buyer_id, session_id, 'pull', 'allocated', password_hash, size_bytes,
                  to_timestamp(assigned_ms / 1000.0), to_timestamp(expires_ms / 1000.0)
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], $7::bigint[],
                         $8::bigint[])
                  AS a (id, package_id, buyer_id, session_id, password_hash, size_bytes, assigned_ms, expires_ms)`,
    values: [
      taken.map((x) => x.route.allocationId),
      taken.map((x) => x.route.packageId),
      taken.map((x) => x.route.buyerId),
      taken.map((x) => x.route.sessionId),
      taken.map((x) => Buffer.from(x.route.passwordSha256Hex, 'hex')),
      taken.map((x) => x.route.sizeBytes),
      taken.map((x) => x.route.assignedAtMs),
      taken.map((x) => x.route.expiresAtMs),
    ],
  });
}

function describe({ candidate, route, password, request: { taker } }: Taken): AllocatedPackage {
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
