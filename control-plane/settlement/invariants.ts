import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import { verify } from '../ledger/verify.js';

/**
 * What must hold of the books at any moment; each string is one thing that does not. Reads everything: for tests
 * and for `traffic-share ledger verify`, not for a request.
 * - the ledger proves itself (`verify`);
 * - all that traffic took from buyers went to providers, inviters and the platform;
 * - the meters' marks, the ledger, the sums of sessions and allocations and the daily usage agree to the byte;
 * - what was released never exceeds what was earned;
 * - no buyer has more held than there is, holds are spent by exactly what their runs' meters say, and sub-users have
 *   used what their meters say.
 */
export async function invariants(pool: pg.Pool): Promise<string[]> {
  const found = (await verify(pool)).faults.map((f) => `${f.code}: ${f.detail}`);
  const client = await pool.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows } = await client.query<{ name: string; a: string; b: string }>(
      `WITH m AS (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                         coalesce(sum(charged_micros), 0) AS charged, coalesce(sum(earned_micros), 0) AS earned,
                         coalesce(sum(referral_micros), 0) AS referral FROM meters),
            e AS (SELECT coalesce(-sum(amount_micros) FILTER (WHERE e.kind = 'traffic_charge'), 0) AS charged,
                         coalesce(sum(amount_micros) FILTER (WHERE e.kind = 'traffic_earning'), 0) AS earned,
                         coalesce(sum(amount_micros) FILTER (WHERE e.kind = 'referral_bonus'), 0) AS referral,
                         coalesce(sum(amount_micros) FILTER (WHERE e.kind = 'platform_revenue'), 0) AS platform
                    FROM ledger_entries e JOIN ledger_transactions t ON t.id = e.transaction_id AND t.kind = 'traffic'),
            s AS (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                         coalesce(sum(charged_micros), 0) AS charged, coalesce(sum(earned_micros), 0) AS earned
                    FROM traffic_sessions),
            a AS (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                         coalesce(sum(charged_micros), 0) AS charged FROM allocations),
            ub AS (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                          coalesce(sum(charged_micros), 0) AS charged FROM usage_daily_buyer),
            up AS (SELECT coalesce(sum(bytes_up), 0) AS up, coalesce(sum(bytes_down), 0) AS down,
                          coalesce(sum(earned_micros), 0) AS earned FROM usage_daily_provider)
       SELECT name, a::text, b::text
         FROM m, e, s, a AS al, ub, up, LATERAL (VALUES
           ('charged = earned + referral + platform', e.charged, e.earned + e.referral + e.platform),
           ('charged: meters = ledger', m.charged, e.charged),
           ('earned: meters = ledger', m.earned, e.earned),
           ('referral: meters = ledger', m.referral, e.referral),
           ('bytes up: sessions = meters', s.up, m.up), ('bytes down: sessions = meters', s.down, m.down),
           ('charged: sessions = meters', s.charged, m.charged), ('earned: sessions = meters', s.earned, m.earned),
           ('bytes up: allocations = meters', al.up, m.up), ('bytes down: allocations = meters', al.down, m.down),
           ('charged: allocations = meters', al.charged, m.charged),
           ('bytes up: buyer usage = meters', ub.up, m.up), ('bytes down: buyer usage = meters', ub.down, m.down),
           ('charged: buyer usage = meters', ub.charged, m.charged),
           ('bytes up: provider usage = meters', up.up, m.up), ('bytes down: provider usage = meters', up.down, m.down),
           ('earned: provider usage = meters', up.earned, m.earned)
         ) AS v (name, a, b)
        WHERE a <> b`,
    );
    for (const r of rows) found.push(`${r.name}: ${r.a} <> ${r.b}`);
    const formula = await client.query<{ id: bigint }>(
      `SELECT id FROM meters
        WHERE charged_micros <> floor((bytes_up + bytes_down)::numeric * buyer_price_micros_per_gb / 1000000000)
           OR earned_micros <> floor((bytes_up + bytes_down)::numeric * provider_price_micros_per_gb / 1000000000)
        LIMIT 20`,
    );
    for (const r of formula.rows) found.push(`meter ${r.id} is not booked at its price`);
    const ranges = await client.query<{ meter: string }>(
      // Ranges of one meter follow each other without overlap; zero-money ranges are not in the ledger.
      `SELECT meter FROM (
         SELECT split_part(source_id, ':', 2) AS meter, split_part(source_id, ':', 3)::bigint AS from_total,
                lag(split_part(source_id, ':', 4)::bigint)
                  OVER (PARTITION BY split_part(source_id, ':', 2) ORDER BY split_part(source_id, ':', 3)::bigint)
                  AS before_total
           FROM ledger_transactions WHERE kind = 'traffic') r
        WHERE from_total < before_total LIMIT 20`,
    );
    for (const r of ranges.rows) found.push(`meter ${r.meter} was booked twice over some range`);
    const released = await client.query<{ owner_id: string }>(
      `SELECT a.owner_id FROM ledger_accounts a
         LEFT JOIN (SELECT account_id, sum(amount_micros) AS released FROM ledger_entries
                     WHERE kind = 'hold_release' GROUP BY account_id) e ON e.account_id = a.id
        WHERE a.kind = 'provider_pending' AND a.balance_micros < 0 AND coalesce(e.released, 0) < 0 LIMIT 20`,
    );
    for (const r of released.rows) found.push(`provider ${r.owner_id} was released more than was earned`);
    found.push(...(await walletFaults(client)));
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
  return found;
}

/** What does not hold of wallets, sub-users and quotas. */
async function walletFaults(client: Queryable): Promise<string[]> {
  const { rows } = await client.query<{ fault: string }>(
    `WITH counted AS (
       SELECT a.buyer_id, m.allocation_id, m.sub_user_id, m.gateway_id, left(m.epoch, 24) AS run, m.charged_micros,
              m.bytes_up + m.bytes_down AS bytes
         FROM meters m JOIN allocations a ON a.id = m.allocation_id),
     drawn AS (
       SELECT v.kind, v.owner_id, c.gateway_id, c.run, sum(v.units) AS units
         FROM counted c, LATERAL (VALUES ('buyer', c.buyer_id, c.charged_micros), ('package', c.allocation_id, c.bytes),
                                         ('sub_user', c.sub_user_id, c.bytes),
                                         ('day', c.buyer_id, c.bytes), ('day', c.sub_user_id, c.bytes),
                                         ('month', c.buyer_id, c.bytes), ('month', c.sub_user_id, c.bytes)
                                 ) AS v (kind, owner_id, units)
        WHERE v.owner_id IS NOT NULL GROUP BY v.kind, v.owner_id, c.gateway_id, c.run)
     SELECT format('buyer %s has %s left and %s held', h.owner_id, coalesce(balance_micros, 0), held) AS fault
       FROM (SELECT owner_id, sum(greatest(0, granted - renounced - spent)) AS held FROM wallet_holds
              WHERE kind = 'buyer' AND closed_at IS NULL GROUP BY owner_id) h
       LEFT JOIN ledger_accounts a ON a.kind = 'buyer_prepaid' AND a.owner_id = h.owner_id
      WHERE held > 0 AND held > coalesce(balance_micros, 0)
     UNION ALL
     SELECT format('hold of %s %s at %s run %s: spent %s, metered %s', kind, owner_id, gateway_id, run, spent, metered)
       FROM (SELECT h.kind, h.owner_id, h.gateway_id, h.run, h.spent, coalesce(d.units, 0) AS metered
               FROM wallet_holds h LEFT JOIN drawn d USING (kind, owner_id, gateway_id, run)) h
      -- A limit, and with it the hold, may have come in the middle of a run.
      WHERE metered <> spent AND NOT (h.kind IN ('sub_user', 'day', 'month') AND spent < metered)
     UNION ALL
     SELECT format('sub-user %s has used %s, its meters say %s', s.id, s.bytes_used, coalesce(c.bytes, 0))
       FROM sub_users s
       LEFT JOIN (SELECT sub_user_id, sum(bytes) AS bytes FROM counted GROUP BY sub_user_id) c ON c.sub_user_id = s.id
      WHERE s.bytes_used <> coalesce(c.bytes, 0)
     UNION ALL
     SELECT format('quota of %s: %s bytes of %s, %s of its month', owner_id, day_bytes, day, month_bytes)
       FROM byte_quotas WHERE date_trunc('month', day)::date = month AND day_bytes > month_bytes
     LIMIT 20`,
  );
  return rows.map((r) => r.fault);
}

/**
 * Pulled packages whose booked bytes are above their size, one sentence each; not a fault of the books. Bytes after a
 * write-off and packages of gateways without wallets do that.
 */
export async function overusedPackages(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ text: string }>(
    `SELECT format('package %s: %s of %s bytes', package_id, bytes_up + bytes_down, size_bytes) AS text
       FROM allocations WHERE via = 'pull' AND bytes_up + bytes_down > size_bytes ORDER BY assigned_at LIMIT 100`,
  );
  return rows.map((r) => r.text);
}
