import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import type { Origin, OriginCheck } from '../traffic/start.js';

export const VERDICTS = ['vpn', 'proxy', 'tor', 'hosting', 'abuse', 'clean'] as const;

/** What a service for IP reputation says of a network. */
export interface Reputation {
  /** An address or a CIDR. */
  network: string;
  verdict: (typeof VERDICTS)[number];
  /** ISO 8601; null: until it is said otherwise. */
  expiresAt: string | null;
}

/** Keeps what the source says; what it, or another, said of the same network before is replaced. */
export async function writeReputations(
  client: Queryable,
  source: string,
  reputations: readonly Reputation[],
): Promise<void> {
  await client.query(
    `INSERT INTO ip_reputation (network, verdict, source, expires_at)
     SELECT DISTINCT ON (1) network(network::inet), verdict, $4, expires_at::timestamptz
       FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS r (network, verdict, expires_at, nth)
      ORDER BY 1, nth DESC
     ON CONFLICT (network) DO UPDATE
       SET verdict = EXCLUDED.verdict, source = EXCLUDED.source, expires_at = EXCLUDED.expires_at, updated_at = now()`,
    [
      reputations.map((r) => r.network),
      reputations.map((r) => r.verdict),
      reputations.map((r) => r.expiresAt),
      source,
    ],
  );
}

/** The narrowest network of the address that is known; null: nothing is. */
async function findReputation(db: Queryable, address: string): Promise<Reputation['verdict'] | null> {
  const { rows } = await db.query<{ verdict: Reputation['verdict'] }>(
    `SELECT verdict FROM ip_reputation
      WHERE network >>= $1::inet AND (expires_at IS NULL OR expires_at > now())
      ORDER BY masklen(network) DESC LIMIT 1`,
    [address],
  );
  return rows[0]?.verdict ?? null;
}

/**
 * The check of addresses at traffic start, with reputation behind it: it can refuse what the lists let pass, never let
 * pass what they refuse.
 */
export function withReputation(pool: pg.Pool, inner: OriginCheck): OriginCheck {
  return {
    async check(address): Promise<Origin> {
      const origin = await inner.check(address);
      if (!origin.ok) return origin;
      const verdict = await findReputation(pool, address);
      if (verdict === null || verdict === 'clean') return origin;
      return {
        ok: false,
        code: verdict === 'abuse' ? 'denylisted' : 'vpn_detected',
        rule: `reputation: ${verdict}`,
      };
    },
  };
}

/** Deletes what has expired; resolves to how many. */
export async function forgetExpiredReputation(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query('DELETE FROM ip_reputation WHERE expires_at < now()');
  return rowCount ?? 0;
}
