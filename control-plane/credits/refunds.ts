import type { Queryable } from '../db/pool.js';
import { post } from '../ledger/ledger.js';

export interface RefundRequest {
  sessionId: string;
  /** Whose money comes back; null: the only buyer the session was charged to. */
  buyerId: string | null;
  /** Micro-dollars, above zero; null: everything that was charged and not refunded yet. */
  amountMicros: bigint | null;
  reason: string;
  /** Makes the booking idempotent within the session and buyer. */
  key: string;
}

export interface Refund {
  transactionId: string;
  buyerId: string;
  amountMicros: bigint;
  /** What the session was charged to the buyer, and how much of it is refunded, this refund included. */
  chargedMicros: bigint;
  refundedMicros: bigint;
}

/**
 * Why nothing was refunded. `several_buyers`: name one of `buyerIds`. `above_charged`: `leftMicros` is what was charged
 * and not refunded yet.
 */
export type RefundRefusal =
  | { ok: false; code: 'unknown_session' | 'ledger_conflict' }
  | { ok: false; code: 'several_buyers'; buyerIds: string[] }
  | { ok: false; code: 'above_charged'; leftMicros: bigint };

/**
 * Gives a buyer back what a traffic session was charged, all or a part, in the caller's transaction. The platform pays:
 * the provider keeps what was earned. All refunds of a session never exceed what it was charged.
 */
export async function refundSession(
  client: Queryable,
  request: RefundRequest,
): Promise<{ ok: true; refund: Refund } | RefundRefusal> {
  const { sessionId, reason } = request;
  // Not the session's row: settlement locks that after the ledger's accounts.
  await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`refund:${sessionId}`]);
  const { rows: sessions } = await client.query<{ buyer_id: string | null; charged: bigint | null }>(
    `SELECT a.buyer_id, sum(a.charged_micros)::bigint AS charged
       FROM traffic_sessions s LEFT JOIN allocations a ON a.session_id = s.id AND a.charged_micros > 0
      WHERE s.id = $1 GROUP BY a.buyer_id ORDER BY a.buyer_id`,
    [sessionId],
  );
  if (sessions.length === 0) return { ok: false, code: 'unknown_session' };
  const charges = sessions.flatMap((row) =>
    row.buyer_id === null ? [] : [{ buyerId: row.buyer_id, micros: row.charged ?? 0n }],
  );
  const named = request.buyerId === null ? charges : charges.filter((c) => c.buyerId === request.buyerId);
  if (named.length > 1) return { ok: false, code: 'several_buyers', buyerIds: named.map((c) => c.buyerId) };
  const [charge] = named;
  if (charge === undefined) return { ok: false, code: 'above_charged', leftMicros: 0n };

  const source = `${sessionId}:${charge.buyerId}:`;
  const before = await refundedBefore(client, source, charge.buyerId);
  const leftMicros = charge.micros - before;
  const amountMicros = request.amountMicros ?? leftMicros;
  if (amountMicros <= 0n || amountMicros > leftMicros)
    return { ok: false, code: 'above_charged', leftMicros: leftMicros > 0n ? leftMicros : 0n };
  const [posted] = await post(client, [
    {
      kind: 'refund',
      sourceId: source + request.key,
      description: reason,
      entries: [
        { account: { kind: 'buyer_prepaid', ownerId: charge.buyerId }, entryKind: 'refund', amountMicros },
        {
          account: { kind: 'platform_revenue', ownerId: null },
          entryKind: 'refund',
          amountMicros: -amountMicros,
        },
      ],
    },
  ]);
  if (!posted?.ok || !posted.fresh || posted.id === null) return { ok: false, code: 'ledger_conflict' };
  return {
    ok: true,
    refund: {
      transactionId: posted.id,
      buyerId: charge.buyerId,
      amountMicros,
      chargedMicros: charge.micros,
      refundedMicros: before + amountMicros,
    },
  };
}

/** The sum of earlier refunds whose source ids start with `source`; a range of the unique index. */
async function refundedBefore(client: Queryable, source: string, buyerId: string): Promise<bigint> {
  const { rows } = await client.query<{ micros: bigint }>(
    `SELECT coalesce(sum(e.amount_micros), 0)::bigint AS micros
       FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
       JOIN ledger_accounts a ON a.id = e.account_id AND a.kind = 'buyer_prepaid' AND a.owner_id = $3
      WHERE t.kind = 'refund' AND t.source_id >= $1 AND t.source_id < $2`,
    [source, `${source.slice(0, -1)};`, buyerId],
  );
  return rows[0]?.micros ?? 0n;
}
