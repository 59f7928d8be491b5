import type { SettledMark } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import { type LedgerTransaction, type Posting, post } from '../ledger/ledger.js';
import { chargeMicros } from '../ledger/money.js';
import { followAllocations } from './allocations.js';
import type { BookedAllocation, BookedSession, MeterGain } from './booked.js';
import type { MeterClaim, SetAsideReason } from './reports.js';
import { bookUsage } from './usage-sums.js';

export interface BookOptions {
  referralPercent: number;
  offerBytes: number;
}

export interface BookResult {
  /** What Postgres will have committed of each meter: new marks, and old ones of reports that bring nothing new. */
  marks: Array<{ key: string } & SettledMark>;
  setAside: Array<{ key: string; reason: SetAsideReason }>;
  gains: MeterGain[];
  /** Buyers whose balance changed. */
  buyerIds: Set<string>;
}

interface MeterRow {
  id: bigint;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
  earned_micros: bigint;
  referral_micros: bigint;
  final: boolean;
}

/**
 * Books what a gateway's meters gained since their marks: meters, ledger, sums and allocations, all in the caller's
 * transaction. Repeating it with the same or older reports books nothing. Rows are locked table by table in the
 * order sessions → allocations → meters → packages → ledger accounts → usage, each in the order of its key; other
 * domains that lock several of these keep that order.
 */
export async function bookMeters(
  client: Queryable,
  gatewayId: string,
  claims: readonly MeterClaim[],
  options: BookOptions,
): Promise<BookResult> {
  const result: BookResult = { marks: [], setAside: [], gains: [], buyerIds: new Set() };
  const aside = (claim: MeterClaim, reason: SetAsideReason) => {
    result.setAside.push({ key: claim.key, reason });
    return false;
  };

  const sessions = await lockSessions(client, claims);
  const buyers = await knownBuyers(client, claims);
  let bookable = claims.filter((c) => {
    if (!sessions.has(c.sessionId)) return aside(c, 'unknown_session');
    return buyers.has(c.buyerId) || aside(c, 'unknown_buyer');
  });
  const allocations = await lockAllocations(client, bookable);
  bookable = bookable.filter(
    (c) => allocations.get(c.allocationId)?.buyerId === c.buyerId || aside(c, 'allocation_of_another_buyer'),
  );
  if (bookable.length === 0) return result;

  const meters = await lockMeters(client, gatewayId, bookable);
  const updates: Array<{ row: MeterRow; final: boolean }> = [];
  const transactions: LedgerTransaction[] = [];
  const current: MeterClaim[] = [];
  for (const claim of bookable) {
    const row = meters.get(claim.key);
    const session = sessions.get(claim.sessionId);
    if (!row || !session) throw new Error(`meter ${claim.key} was not written`);
    const up = larger(claim.bytesUp, row.bytes_up);
    const down = larger(claim.bytesDown, row.bytes_down);
    const grew = up > row.bytes_up || down > row.bytes_down;
    if (grew && row.final) {
      aside(claim, 'grew_after_final');
      continue;
    }
    current.push(claim);
    const final = row.final || claim.final;
    result.marks.push({ key: claim.key, bytesUp: Number(up), bytesDown: Number(down), final });
    if (!grew && final === row.final) continue;

    const fromTotal = row.bytes_up + row.bytes_down;
    const toTotal = up + down;
    const earned = chargeMicros(toTotal, claim.providerPrice);
    const gain: MeterGain = {
      claim,
      meterId: row.id,
      bytesUp: up - row.bytes_up,
      bytesDown: down - row.bytes_down,
      chargedMicros: chargeMicros(toTotal, claim.buyerPrice) - row.charged_micros,
      earnedMicros: earned - row.earned_micros,
      // Of cumulative earnings as well, and nothing for what was earned before there was an inviter.
      referralMicros:
        session.inviterId === null
          ? 0n
          : referral(earned, options.referralPercent) - referral(row.earned_micros, options.referralPercent),
    };
    row.bytes_up = up;
    row.bytes_down = down;
    row.charged_micros += gain.chargedMicros;
    row.earned_micros += gain.earnedMicros;
    row.referral_micros += gain.referralMicros;
    updates.push({ row, final });
    if (!grew) continue;
    result.gains.push(gain);
    if (gain.chargedMicros === 0n && gain.earnedMicros === 0n) continue;
    transactions.push({
      kind: 'traffic',
      sourceId: `meter:${row.id}:${fromTotal}:${toTotal}`,
      entries: postings(gain, session),
    });
    if (gain.chargedMicros !== 0n) result.buyerIds.add(claim.buyerId);
  }

  if (updates.length > 0) await writeMarks(client, updates);
  await followAllocations(client, current, sessions, allocations, options.offerBytes);
  if (result.gains.length > 0) await addSums(client, result.gains);
  // The range's mark was below it a moment ago, in this very transaction: a booked range here is a broken ledger.
  for (const [i, posted] of (await post(client, transactions)).entries())
    if (!posted.ok || !posted.fresh)
      throw new Error(`ledger refused ${transactions[i]?.sourceId}: ${posted.ok ? 'exists' : posted.code}`);
  await bookUsage(client, result.gains, sessions);
  return result;
}

/** Math.max takes no bigint. */
function larger(a: bigint, b: bigint): bigint {
  if (a > b) return a;
  return b;
}

const referral = (earnedMicros: bigint, percent: number) => (earnedMicros * BigInt(percent)) / 100n;

function postings(gain: MeterGain, session: BookedSession): Posting[] {
  const entries: Posting[] = [
    {
      account: { kind: 'buyer_prepaid', ownerId: gain.claim.buyerId },
      entryKind: 'traffic_charge',
      amountMicros: -gain.chargedMicros,
    },
    {
      account: { kind: 'provider_pending', ownerId: session.userId },
      entryKind: 'traffic_earning',
      amountMicros: gain.earnedMicros,
    },
    {
      account: { kind: 'platform_revenue', ownerId: null },
      entryKind: 'platform_revenue',
      amountMicros: gain.chargedMicros - gain.earnedMicros - gain.referralMicros,
    },
  ];
  if (session.inviterId !== null)
    entries.push({
      account: { kind: 'provider_pending', ownerId: session.inviterId },
      entryKind: 'referral_bonus',
      amountMicros: gain.referralMicros,
    });
  return entries;
}

const distinct = (values: Iterable<string>) => [...new Set(values)].sort();

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
    [distinct(claims.map((c) => c.sessionId))],
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

async function knownBuyers(client: Queryable, claims: readonly MeterClaim[]): Promise<Set<string>> {
  const { rows } = await client.query<{ id: string }>('SELECT id FROM buyers WHERE id = ANY ($1::uuid[])', [
    distinct(claims.map((c) => c.buyerId)),
  ]);
  return new Set(rows.map((r) => r.id));
}

/** Locks the allocations and makes those that nobody wrote yet: allocated on connect, or lost before the commit. */
async function lockAllocations(
  client: Queryable,
  claims: readonly MeterClaim[],
): Promise<Map<string, BookedAllocation>> {
  const wanted = new Map<string, MeterClaim>();
  for (const c of claims) if (!wanted.has(c.allocationId)) wanted.set(c.allocationId, c);
  const found = new Map<string, BookedAllocation>();
  const lock = async (ids: string[]) => {
    const { rows } = await client.query<{
      id: string;
      buyer_id: string;
      package_id: string | null;
      status: string;
      via: 'pull' | 'connect';
      session_id: string | null;
    }>(
      `SELECT id, buyer_id, package_id, status, via, session_id FROM allocations
        WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
      [ids],
    );
    for (const r of rows)
      found.set(r.id, {
        id: r.id,
        buyerId: r.buyer_id,
        packageId: r.package_id,
        status: r.status,
        via: r.via,
        sessionId: r.session_id,
        fresh: false,
      });
  };
  await lock(distinct(wanted.keys()));
  const missing = [...wanted.values()]
    .filter((c) => !found.has(c.allocationId))
    .sort((a, b) => (a.allocationId < b.allocationId ? -1 : 1));
  if (missing.length === 0) return found;
  const { rows: made } = await client.query<{ id: string; package_id: string | null }>(
    `INSERT INTO allocations (id, package_id, buyer_id, session_id, via, status, size_bytes, assigned_at)
     SELECT w.id, p.id, w.buyer_id, w.session_id, CASE WHEN p.id IS NULL THEN 'connect' ELSE 'pull' END,
            'in_progress', coalesce(p.size_bytes, 0), to_timestamp(w.opened_ms / 1000.0)
       FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[]) WITH ORDINALITY
            AS w (id, package_id, buyer_id, session_id, opened_ms, n)
       LEFT JOIN packages p ON p.id = w.package_id
      ORDER BY w.n ON CONFLICT (id) DO NOTHING RETURNING id, package_id`,
    [
      missing.map((c) => c.allocationId),
      missing.map((c) => c.packageId),
      missing.map((c) => c.buyerId),
      missing.map((c) => c.sessionId),
      missing.map((c) => c.openedAtMs),
    ],
  );
  for (const row of made) {
    const c = wanted.get(row.id) as MeterClaim;
    found.set(row.id, {
      id: row.id,
      buyerId: c.buyerId,
      packageId: row.package_id,
      status: 'in_progress',
      via: row.package_id === null ? 'connect' : 'pull',
      sessionId: c.sessionId,
      fresh: true,
    });
  }
  const raced = missing.filter((c) => !found.has(c.allocationId)).map((c) => c.allocationId);
  if (raced.length > 0) await lock(raced);
  return found;
}

/** Locks the rows of these meters by key, making those that are new with zero counts. */
async function lockMeters(
  client: Queryable,
  gatewayId: string,
  claims: readonly MeterClaim[],
): Promise<Map<string, MeterRow>> {
  const found = new Map<string, MeterRow>();
  const columns = (some: readonly MeterClaim[]) => [
    some.map((c) => c.sessionId),
    some.map((c) => c.allocationId),
    some.map((c) => c.epoch),
    some.map((c) => c.providerPrice.toString()),
    some.map((c) => c.buyerPrice.toString()),
    gatewayId,
  ];
  const WANTED = `unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY
                  AS w (session_id, allocation_id, epoch, provider_price, buyer_price, n)`;
  const lock = async (some: readonly MeterClaim[]) => {
    const { rows } = await client.query<MeterRow & { n: bigint }>(
      `SELECT w.n, m.id, m.bytes_up, m.bytes_down, m.charged_micros, m.earned_micros, m.referral_micros, m.final
         FROM ${WANTED}
         JOIN meters m ON m.session_id = w.session_id AND m.allocation_id = w.allocation_id AND m.gateway_id = $6
          AND m.epoch = w.epoch AND m.provider_price_micros_per_gb = w.provider_price
          AND m.buyer_price_micros_per_gb = w.buyer_price
        ORDER BY m.id FOR NO KEY UPDATE OF m`,
      columns(some),
    );
    for (const row of rows) found.set((some[Number(row.n) - 1] as MeterClaim).key, row);
  };
  await lock(claims);
  const missing = claims.filter((c) => !found.has(c.key)).sort((a, b) => (a.key < b.key ? -1 : 1));
  if (missing.length === 0) return found;
  await client.query(
    `INSERT INTO meters (session_id, allocation_id, gateway_id, epoch, provider_price_micros_per_gb,
                         buyer_price_micros_per_gb, opened_at)
     SELECT w.session_id, w.allocation_id, $6, w.epoch, w.provider_price, w.buyer_price,
            to_timestamp(($7::bigint[])[w.n::int] / 1000.0)
       FROM ${WANTED} ORDER BY w.n ON CONFLICT DO NOTHING`,
    [...columns(missing), missing.map((c) => c.openedAtMs)],
  );
  await lock(missing);
  return found;
}

async function writeMarks(
  client: Queryable,
  updates: ReadonlyArray<{ row: MeterRow; final: boolean }>,
): Promise<void> {
  await client.query(
    `UPDATE meters m SET bytes_up = w.up, bytes_down = w.down, charged_micros = w.charged, earned_micros = w.earned,
                         referral_micros = w.referral, final = w.final, updated_at = now()
       FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
            AS w (id, up, down, charged, earned, referral, final)
      WHERE m.id = w.id`,
    [
      updates.map((u) => u.row.id.toString()),
      updates.map((u) => u.row.bytes_up.toString()),
      updates.map((u) => u.row.bytes_down.toString()),
      updates.map((u) => u.row.charged_micros.toString()),
      updates.map((u) => u.row.earned_micros.toString()),
      updates.map((u) => u.row.referral_micros.toString()),
      updates.map((u) => u.final),
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
      gains.map((g) => g.claim.sessionId),
      gains.map((g) => g.bytesUp.toString()),
      gains.map((g) => g.bytesDown.toString()),
      gains.map((g) => g.earnedMicros.toString()),
      gains.map((g) => g.chargedMicros.toString()),
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
      gains.map((g) => g.claim.allocationId),
      gains.map((g) => g.bytesUp.toString()),
      gains.map((g) => g.bytesDown.toString()),
      gains.map((g) => g.chargedMicros.toString()),
    ],
  );
}
