import { plainArray } from '../db/plain-array.js';
import type { Queryable } from '../db/pool.js';
import { post } from '../ledger/ledger.js';
import { followAllocations } from './allocations.js';
import type { BookedAllocation, BookedSession, MeterGain, MeterState } from './booked.js';
import {
  type BookingPlan,
  type BookingState,
  type BookOptions,
  type MeterUpdate,
  planBooking,
} from './core.js';
import { spendHolds, useQuotas, useSubUsers } from './holds.js';
import type { MeterClaim } from './reports.js';
import { bookUsage } from './usage-sums.js';

/** What one transaction booked. */
export type BookResult = Pick<BookingPlan, 'marks' | 'setAside' | 'gains'>;

/**
 * Books what a gateway's meters gained since their marks: meters, ledger, wallet holds, sums and allocations, all in
 * the caller's transaction. Repeating it with the same or older reports books nothing.
 *
 * Rows are locked table by table in the order sessions → allocations → meters → packages → ledger accounts → wallet
 * holds → sub-users → quotas → usage, each in the order of its key; other domains that lock several of these keep that order.
 * A meter row is written only by who holds its session's lock, and has no lock of its own.
 */
export async function bookMeters(
  client: Queryable,
  gatewayId: string,
  claims: readonly MeterClaim[],
  options: BookOptions,
): Promise<BookResult> {
  const state = await loadState(client, gatewayId, claims);
  const plan = planBooking(gatewayId, claims, state, options);
  await writePlan(client, gatewayId, plan, state, options);
  return plan;
}

const distinct = (values: Iterable<string>) => [...new Set(values)].sort();
const present = (values: Iterable<string | null>) => {
  const found = new Set<string>();
  for (const value of values) if (value !== null) found.add(value);
  return [...found];
};

/** Locks and reads what the claims are about. */
async function loadState(
  client: Queryable,
  gatewayId: string,
  claims: readonly MeterClaim[],
): Promise<BookingState> {
  const sessions = await lockSessions(client, claims);
  const known = await readKnown(client, claims);
  const allocations = await lockAllocations(client, claims);
  const meters = await readMeters(client, gatewayId, claims);
  const ids = await drawMeterIds(client, claims.length - meters.size);
  return {
    sessions,
    ...known,
    allocations,
    meters,
    nextMeterId: () => {
      const id = ids.pop();
      if (id === undefined) throw new Error('more new meters than ids were drawn for');
      return id;
    },
  };
}

async function lockSessions(
  client: Queryable,
  claims: readonly MeterClaim[],
): Promise<Map<string, BookedSession>> {
  const { rows } = await client.query<{
    id: string;
    user_id: string;
    status: string;
    country: string;
    city: string | null;
    asn: bigint | null;
    exit_ip: string;
    referred_by: string | null;
  }>(
    `SELECT s.id, s.user_id, s.status, s.country, s.city, s.asn, host(s.exit_ip) AS exit_ip, u.referred_by
       FROM traffic_sessions s JOIN users u ON u.id = s.user_id
      WHERE s.id = ANY ($1::uuid[]) ORDER BY s.id FOR NO KEY UPDATE OF s`,
    [plainArray(distinct(claims.map((c) => c.sessionId)))],
  );
  return new Map(
    rows.map((r) => [
      r.id,
      {
        id: r.id,
        userId: r.user_id,
        status: r.status,
        country: r.country,
        city: r.city,
        asn: r.asn,
        exitIp: r.exit_ip,
        inviterId: r.referred_by,
      },
    ]),
  );
}

async function readKnown(
  client: Queryable,
  claims: readonly MeterClaim[],
): Promise<Pick<BookingState, 'buyers' | 'subUsers' | 'packages'>> {
  const { rows } = await client.query<{ what: 'buyer' | 'sub_user' | 'package'; id: string; owner: string }>(
    `SELECT 'buyer' AS what, id, id AS owner FROM buyers WHERE id = ANY ($1::uuid[])
     UNION ALL SELECT 'sub_user', id, buyer_id FROM sub_users WHERE id = ANY ($2::uuid[])
     UNION ALL SELECT 'package', id, user_id FROM packages WHERE id = ANY ($3::uuid[])`,
    [
      distinct(claims.map((c) => c.buyerId)),
      present(claims.map((c) => c.subUserId)),
      present(claims.map((c) => c.packageId)),
    ],
  );
  const of = (what: string) => rows.filter((r) => r.what === what);
  return {
    buyers: new Set(of('buyer').map((r) => r.id)),
    subUsers: new Map(of('sub_user').map((r) => [r.id, r.owner])),
    packages: new Set(of('package').map((r) => r.id)),
  };
}

async function lockAllocations(
  client: Queryable,
  claims: readonly MeterClaim[],
): Promise<Map<string, BookedAllocation>> {
  const { rows } = await client.query<{
    id: string;
    buyer_id: string;
    package_id: string | null;
    status: string;
    via: 'pull' | 'connect';
    session_id: string | null;
    sub_user_id: string | null;
  }>(
    `SELECT id, buyer_id, package_id, status, via, session_id, sub_user_id FROM allocations
      WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
    [plainArray(distinct(claims.map((c) => c.allocationId)))],
  );
  return new Map(
    rows.map((r) => [
      r.id,
      {
        id: r.id,
        buyerId: r.buyer_id,
        packageId: r.package_id,
        status: r.status,
        via: r.via,
        sessionId: r.session_id,
        subUserId: r.sub_user_id,
        fresh: false,
      },
    ]),
  );
}

/** The meters that exist, by key. Read after their sessions were locked: nobody else writes them now. */
async function readMeters(
  client: Queryable,
  gatewayId: string,
  claims: readonly MeterClaim[],
): Promise<Map<string, MeterState>> {
  const { rows } = await client.query<{
    n: bigint;
    id: bigint;
    bytes_up: bigint;
    bytes_down: bigint;
    charged_micros: bigint;
    earned_micros: bigint;
    referral_micros: bigint;
    final: boolean;
    written_off: boolean;
    sub_user_id: string | null;
  }>(
    `SELECT w.n, m.id, m.bytes_up, m.bytes_down, m.charged_micros, m.earned_micros, m.referral_micros, m.final,
            m.written_off_at IS NOT NULL AS written_off, m.sub_user_id
       FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY
            AS w (session_id, allocation_id, epoch, provider_price, buyer_price, n)
       JOIN meters m ON m.session_id = w.session_id AND m.allocation_id = w.allocation_id AND m.gateway_id = $6
        AND m.epoch = w.epoch AND m.provider_price_micros_per_gb = w.provider_price
        AND m.buyer_price_micros_per_gb = w.buyer_price`,
    [
      plainArray(claims.map((c) => c.sessionId)),
      plainArray(claims.map((c) => c.allocationId)),
      plainArray(claims.map((c) => c.epoch)),
      plainArray(claims.map((c) => c.providerPrice)),
      plainArray(claims.map((c) => c.buyerPrice)),
      gatewayId,
    ],
  );
  return new Map(
    rows.map((r) => [
      (claims[Number(r.n) - 1] as MeterClaim).key,
      {
        id: r.id,
        bytesUp: r.bytes_up,
        bytesDown: r.bytes_down,
        chargedMicros: r.charged_micros,
        earnedMicros: r.earned_micros,
        referralMicros: r.referral_micros,
        final: r.final,
        writtenOff: r.written_off,
        subUserId: r.sub_user_id,
      },
    ]),
  );
}

/** Ids for new meters: the ledger names them before their rows exist. Largest first, taken from the end. */
async function drawMeterIds(client: Queryable, count: number): Promise<bigint[]> {
  if (count === 0) return [];
  const { rows } = await client.query<{ id: bigint }>(
    `SELECT nextval(pg_get_serial_sequence('meters', 'id')) AS id FROM generate_series(1, $1::int)`,
    [count],
  );
  return rows.map((r) => r.id).reverse();
}

async function writePlan(
  client: Queryable,
  gatewayId: string,
  plan: BookingPlan,
  state: BookingState,
  options: BookOptions,
): Promise<void> {
  if (plan.newAllocations.length > 0) await insertAllocations(client, plan);
  const fresh = plan.meters.filter((m) => m.fresh);
  const known = plan.meters.filter((m) => !m.fresh);
  if (fresh.length > 0) await insertMeters(client, gatewayId, fresh);
  if (known.length > 0) await updateMeters(client, known);
  await followAllocations(client, plan.follow, state.sessions, plan.allocations, options.offerBytes);
  if (plan.gains.length > 0) await addSums(client, plan.gains);
  // The range's mark was below it a moment ago, in this very transaction: a booked range here is a broken ledger.
  await post(client, plan.transactions, { mustBeFresh: true });
  await spendHolds(client, plan.holdsSpent);
  await useSubUsers(client, plan.subUserBytes);
  await useQuotas(client, plan.quotaBytes);
  await bookUsage(client, plan.gains, state.sessions);
}

/** Another booking, of another session, made the allocation meanwhile. `withTransaction` begins anew. */
class AllocationRaced extends Error {
  /** SQLSTATE serialization_failure. */
  readonly code = '40001';
}

async function insertAllocations(client: Queryable, { newAllocations, follow }: BookingPlan): Promise<void> {
  const sorted = [...newAllocations].sort((a, b) => (a.id < b.id ? -1 : 1));
  const openedAtMs = new Map<string, number>();
  for (const c of follow)
    openedAtMs.set(c.allocationId, Math.min(c.openedAtMs, openedAtMs.get(c.allocationId) ?? c.openedAtMs));
  const { rowCount } = await client.query(
    `INSERT INTO allocations
       (id, package_id, buyer_id, session_id, sub_user_id, via, status, size_bytes, assigned_at)
     SELECT w.id, w.package_id, w.buyer_id, w.session_id, w.sub_user_id, w.via, 'in_progress',
            coalesce(p.size_bytes, 0), to_timestamp(w.opened_ms / 1000.0)
       FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::bigint[])
            WITH ORDINALITY AS w (id, package_id, buyer_id, session_id, sub_user_id, via, opened_ms, n)
       LEFT JOIN packages p ON p.id = w.package_id
      ORDER BY w.n ON CONFLICT (id) DO NOTHING`,
    [
      plainArray(sorted.map((a) => a.id)),
      plainArray(sorted.map((a) => a.packageId)),
      plainArray(sorted.map((a) => a.buyerId)),
      plainArray(sorted.map((a) => a.sessionId)),
      plainArray(sorted.map((a) => a.subUserId)),
      plainArray(sorted.map((a) => a.via)),
      plainArray(sorted.map((a) => openedAtMs.get(a.id) ?? null)),
    ],
  );
  if (rowCount !== sorted.length) throw new AllocationRaced('an allocation was made meanwhile');
}

async function insertMeters(
  client: Queryable,
  gatewayId: string,
  fresh: readonly MeterUpdate[],
): Promise<void> {
  await client.query(
    `INSERT INTO meters (id, session_id, allocation_id, gateway_id, epoch, provider_price_micros_per_gb,
                         buyer_price_micros_per_gb, sub_user_id, opened_at, bytes_up, bytes_down, charged_micros,
                         earned_micros, referral_micros, final)
     OVERRIDING SYSTEM VALUE
     SELECT id, session_id, allocation_id, $1, epoch, provider_price, buyer_price, sub_user_id,
            to_timestamp(opened_ms / 1000.0), up, down, charged, earned, referral, final
       FROM unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::uuid[],
                   $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                   $15::boolean[])
            AS w (id, session_id, allocation_id, epoch, provider_price, buyer_price, sub_user_id, opened_ms, up,
                  down, charged, earned, referral, final)`,
    [
      gatewayId,
      plainArray(fresh.map((m) => m.meter.id)),
      plainArray(fresh.map((m) => m.claim.sessionId)),
      plainArray(fresh.map((m) => m.claim.allocationId)),
      plainArray(fresh.map((m) => m.claim.epoch)),
      plainArray(fresh.map((m) => m.claim.providerPrice)),
      plainArray(fresh.map((m) => m.claim.buyerPrice)),
      plainArray(fresh.map((m) => m.meter.subUserId)),
      plainArray(fresh.map((m) => m.claim.openedAtMs)),
      plainArray(fresh.map((m) => m.meter.bytesUp)),
      plainArray(fresh.map((m) => m.meter.bytesDown)),
      plainArray(fresh.map((m) => m.meter.chargedMicros)),
      plainArray(fresh.map((m) => m.meter.earnedMicros)),
      plainArray(fresh.map((m) => m.meter.referralMicros)),
      plainArray(fresh.map((m) => m.meter.final)),
    ],
  );
}

async function updateMeters(client: Queryable, known: readonly MeterUpdate[]): Promise<void> {
  await client.query(
    `UPDATE meters m SET bytes_up = w.up, bytes_down = w.down, charged_micros = w.charged, earned_micros = w.earned,
                         referral_micros = w.referral, final = w.final, updated_at = now(),
                         bytes_after_write_off = m.bytes_after_write_off + w.late
       FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                   $8::bigint[]) AS w (id, up, down, charged, earned, referral, final, late)
      WHERE m.id = w.id`,
    [
      plainArray(known.map((m) => m.meter.id)),
      plainArray(known.map((m) => m.meter.bytesUp)),
      plainArray(known.map((m) => m.meter.bytesDown)),
      plainArray(known.map((m) => m.meter.chargedMicros)),
      plainArray(known.map((m) => m.meter.earnedMicros)),
      plainArray(known.map((m) => m.meter.referralMicros)),
      plainArray(known.map((m) => m.meter.final)),
      plainArray(known.map((m) => m.lateBytes)),
    ],
  );
}

/** Adds the gains to their sessions and allocations, which are locked. */
async function addSums(client: Queryable, gains: readonly MeterGain[]): Promise<void> {
  await client.query(
    `UPDATE traffic_sessions s
        SET bytes_up = s.bytes_up + d.up, bytes_down = s.bytes_down + d.down,
            earned_micros = s.earned_micros + d.earned, charged_micros = s.charged_micros + d.charged
       FROM (SELECT id, sum(up) AS up, sum(down) AS down, sum(earned) AS earned, sum(charged) AS charged
               FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                    AS w (id, up, down, earned, charged) GROUP BY id) d
      WHERE s.id = d.id`,
    [
      plainArray(gains.map((g) => g.claim.sessionId)),
      plainArray(gains.map((g) => g.bytesUp)),
      plainArray(gains.map((g) => g.bytesDown)),
      plainArray(gains.map((g) => g.earnedMicros)),
      plainArray(gains.map((g) => g.chargedMicros)),
    ],
  );
  await client.query(
    `UPDATE allocations a
        SET bytes_up = a.bytes_up + d.up, bytes_down = a.bytes_down + d.down,
            charged_micros = a.charged_micros + d.charged
       FROM (SELECT id, sum(up) AS up, sum(down) AS down, sum(charged) AS charged
               FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
                    AS w (id, up, down, charged) GROUP BY id) d
      WHERE a.id = d.id`,
    [
      plainArray(gains.map((g) => g.claim.allocationId)),
      plainArray(gains.map((g) => g.bytesUp)),
      plainArray(gains.map((g) => g.bytesDown)),
      plainArray(gains.map((g) => g.chargedMicros)),
    ],
  );
}
