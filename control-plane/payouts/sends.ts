import type { Queryable } from '../db/pool.js';

/**
 * How sending a released payout stands.
 * - `queued`: to be sent. `sending`: being sent, or it was when its worker died.
 * - `unknown`: sent, without an answer. `accepted`: Cryptomus has it.
 * - `refused`: Cryptomus will not do it and has no such order; an admin decides. `ended`: paid or failed.
 */
export type SendState = 'queued' | 'sending' | 'unknown' | 'accepted' | 'refused' | 'ended';

/** A payout one worker holds for the time of its lease. */
export interface Claim {
  payoutId: string;
  /** Before the claim. */
  state: 'queued' | 'sending' | 'unknown' | 'accepted';
  /** Tells the claim from earlier and later ones. */
  claims: bigint;
  /** Webhooks that had come when it was claimed. */
  hints: bigint;
  /** How long ago it was sent last, seconds; null: never. */
  sentSecondsAgo: number | null;
}

interface ClaimRow {
  payout_id: string;
  was: Claim['state'];
  claims: bigint;
  hints: bigint;
  sent_seconds_ago: number | null;
}

const CLAIM = (which: string) => `
  WITH picked AS (
    SELECT payout_id, state AS was, sent_at AS sent_before FROM payout_sends
     WHERE state IN ('queued', 'sending', 'unknown', 'accepted') AND leased_until < now() AND ${which}
     ORDER BY next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
  UPDATE payout_sends s
     SET leased_until = now() + $1 * interval '1 second', claims = s.claims + 1,
         state = CASE WHEN was = 'queued' THEN 'sending' ELSE was END,
         calls = s.calls + (was = 'queued')::int,
         sent_at = CASE WHEN was = 'queued' THEN now() ELSE s.sent_at END
    FROM picked WHERE s.payout_id = picked.payout_id
  RETURNING s.payout_id, was, s.claims, s.hints, extract(epoch FROM now() - sent_before)::float8 AS sent_seconds_ago`;

/**
 * Claims the payout that is due longest, or the named one whether due or not; null when there is none or another
 * worker holds it. A queued one is `sending` from now on: commit that before Cryptomus is called.
 */
export async function claimSend(
  client: Queryable,
  leaseS: number,
  payoutId: string | null,
): Promise<Claim | null> {
  const { rows } =
    payoutId === null
      ? await client.query<ClaimRow>(CLAIM('next_at <= now()'), [leaseS])
      : await client.query<ClaimRow>(CLAIM('payout_id = $2'), [leaseS, payoutId]);
  const [row] = rows;
  if (row === undefined) return null;
  return {
    payoutId: row.payout_id,
    state: row.was,
    claims: row.claims,
    hints: row.hints,
    sentSecondsAgo: row.sent_seconds_ago,
  };
}

export interface SendChange {
  state: SendState;
  providerUuid?: string;
  providerStatus?: string;
  lastError?: string | null;
  /** When it is looked at next, seconds from now; at once when a webhook has come meanwhile. */
  nextInS?: number;
}

/** Writes what came of a claim and ends it. False when the claim was lost: then nothing was written. */
export async function endClaim(client: Queryable, claim: Claim, change: SendChange): Promise<boolean> {
  const { rowCount } = await client.query(
    `UPDATE payout_sends
        SET state = $3, provider_uuid = coalesce($4, provider_uuid), provider_status = coalesce($5, provider_status),
            last_error = $6, leased_until = '-infinity',
            next_at = CASE WHEN hints > $7 THEN now() ELSE now() + $8 * interval '1 second' END
      WHERE payout_id = $1 AND claims = $2`,
    [
      claim.payoutId,
      claim.claims.toString(),
      change.state,
      change.providerUuid ?? null,
      change.providerStatus ?? null,
      change.lastError ?? null,
      claim.hints.toString(),
      change.nextInS ?? 0,
    ],
  );
  return rowCount === 1;
}

/** A webhook has come: the payout is due now. Null when there is no such payout on its way. */
export async function hintSend(db: Queryable, payoutId: string): Promise<SendState | null> {
  const { rows } = await db.query<{ state: SendState }>(
    `UPDATE payout_sends SET hints = hints + 1, next_at = CASE WHEN state = 'ended' THEN next_at ELSE now() END
      WHERE payout_id = $1 RETURNING state`,
    [payoutId],
  );
  return rows[0]?.state ?? null;
}
