import type { Queryable } from '../db/pool.js';

export interface Referrals {
  code: string;
  /** Users who came with the code, deleted ones included. */
  invited: number;
  /** Of those, who have earned from traffic. */
  earning: number;
  /** What it brought, from the ledger. */
  earnedMicros: bigint;
}

/** Whom this user invited and what came of it; null: there is no such user. */
export async function readReferrals(db: Queryable, userId: string): Promise<Referrals | null> {
  const { rows } = await db.query<{
    referral_code: string;
    invited: number;
    earning: number;
    earned_micros: bigint;
  }>(
    `SELECT u.referral_code, i.invited, i.earning,
            coalesce((SELECT sum(e.amount_micros) FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
                       WHERE a.kind = 'provider_pending' AND a.owner_id = u.id AND e.kind = 'referral_bonus'), 0)::bigint
              AS earned_micros
       FROM users u
       CROSS JOIN LATERAL (
         SELECT count(*)::int AS invited,
                (count(*) FILTER (WHERE EXISTS (SELECT 1 FROM usage_daily_provider d
                                                 WHERE d.user_id = r.id AND d.earned_micros > 0)))::int AS earning
           FROM users r WHERE r.referred_by = u.id) i
      WHERE u.id = $1`,
    [userId],
  );
  const [row] = rows;
  return row === undefined
    ? null
    : {
        code: row.referral_code,
        invited: row.invited,
        earning: row.earning,
        earnedMicros: row.earned_micros,
      };
}
