import type { Queryable } from '../db/pool.js';

/** Bytes and money of one side of the books. */
export interface Sums {
  bytesUp: bigint;
  bytesDown: bigint;
  chargedMicros: bigint;
  earnedMicros: bigint;
}

/** An allocation of a session whose buyer counted, too. */
export interface BuyerReport {
  allocationId: string;
  buyerId: string;
  status: string;
  /** Booked, both directions, over all sessions that served it. */
  bytes: bigint;
  /** null: the buyer reported nothing. */
  reportedBytes: bigint | null;
}

/** One traffic session as everyone has it, read in one snapshot. */
export interface Comparison {
  sessionId: string;
  userId: string;
  deviceId: string;
  status: 'active' | 'stopping' | 'completed' | 'failed';
  startedAt: Date;
  completedAt: Date | null;
  /** Sums of the session's meters: what counts. */
  meters: Sums & { referralMicros: bigint; count: number; open: number };
  /** What the session's row says. */
  session: Sums;
  /** What was booked for its meters; the ledger knows no bytes. */
  ledger: { chargedMicros: bigint; earnedMicros: bigint; referralMicros: bigint };
  /** What the device counted: advice. */
  device: { bytesTx: bigint; bytesRx: bigint };
  buyers: BuyerReport[];
}

interface Row {
  id: string;
  user_id: string;
  device_id: string;
  status: Comparison['status'];
  started_at: Date;
  completed_at: Date | null;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
  earned_micros: bigint;
  reported_bytes_tx: bigint;
  reported_bytes_rx: bigint;
  meters: bigint;
  meters_open: bigint;
  m_up: bigint;
  m_down: bigint;
  m_charged: bigint;
  m_earned: bigint;
  m_referral: bigint;
  l_charged: bigint;
  l_earned: bigint;
  l_referral: bigint;
  buyers: Array<{ id: string; buyer_id: string; status: string; bytes: string; reported: string | null }>;
}

/**
 * The sessions side by side, in the order of their ids; ids that do not exist are left out. One statement, so that
 * a booking in between can not make two sides look different. Reads every ledger transaction of the sessions' meters.
 */
export async function compareSessions(db: Queryable, sessionIds: readonly string[]): Promise<Comparison[]> {
  const { rows } = await db.query<Row>(
    `SELECT s.id, s.user_id, s.device_id, s.status, s.started_at, s.completed_at, s.bytes_up, s.bytes_down,
            s.charged_micros, s.earned_micros, s.reported_bytes_tx, s.reported_bytes_rx,
            m.meters, m.meters_open, m.m_up, m.m_down, m.m_charged, m.m_earned, m.m_referral,
            l.l_charged, l.l_earned, l.l_referral, b.buyers
       FROM traffic_sessions s
       CROSS JOIN LATERAL (
         SELECT count(*) AS meters, count(*) FILTER (WHERE NOT final AND written_off_at IS NULL) AS meters_open,
                coalesce(sum(bytes_up), 0)::bigint AS m_up, coalesce(sum(bytes_down), 0)::bigint AS m_down,
                coalesce(sum(charged_micros), 0)::bigint AS m_charged,
                coalesce(sum(earned_micros), 0)::bigint AS m_earned,
                coalesce(sum(referral_micros), 0)::bigint AS m_referral
           FROM meters WHERE session_id = s.id) m
       CROSS JOIN LATERAL (
         SELECT coalesce(-sum(e.amount_micros) FILTER (WHERE e.kind = 'traffic_charge'), 0)::bigint AS l_charged,
                coalesce(sum(e.amount_micros) FILTER (WHERE e.kind = 'traffic_earning'), 0)::bigint AS l_earned,
                coalesce(sum(e.amount_micros) FILTER (WHERE e.kind = 'referral_bonus'), 0)::bigint AS l_referral
           FROM meters x
           -- The range of 'meter:<id>:…'; ';' follows ':' (0007 sorts source ids by bytes).
           JOIN ledger_transactions t ON t.kind = 'traffic' AND t.source_id >= 'meter:' || x.id || ':'
                                     AND t.source_id < 'meter:' || x.id || ';'
           -- OFFSET 0: looked up for each transaction. How many are in the range nobody can estimate, and a plan for
           -- very many would read all entries.
           CROSS JOIN LATERAL (SELECT kind, amount_micros FROM ledger_entries
                                WHERE transaction_id = t.id OFFSET 0) e
          WHERE x.session_id = s.id) l
       CROSS JOIN LATERAL (
         SELECT coalesce(jsonb_agg(jsonb_build_object(
                  'id', a.id, 'buyer_id', a.buyer_id, 'status', a.status,
                  'bytes', (a.bytes_up + a.bytes_down)::text, 'reported', a.reported_bytes::text)
                  ORDER BY a.assigned_at, a.id), '[]') AS buyers
           FROM allocations a WHERE a.session_id = s.id) b
      WHERE s.id = ANY ($1::uuid[]) ORDER BY s.id`,
    [sessionIds],
  );
  return rows.map((r) => ({
    sessionId: r.id,
    userId: r.user_id,
    deviceId: r.device_id,
    status: r.status,
    startedAt: r.started_at,
    completedAt: r.completed_at,
    meters: {
      bytesUp: r.m_up,
      bytesDown: r.m_down,
      chargedMicros: r.m_charged,
      earnedMicros: r.m_earned,
      referralMicros: r.m_referral,
      count: Number(r.meters),
      open: Number(r.meters_open),
    },
    session: {
      bytesUp: r.bytes_up,
      bytesDown: r.bytes_down,
      chargedMicros: r.charged_micros,
      earnedMicros: r.earned_micros,
    },
    ledger: { chargedMicros: r.l_charged, earnedMicros: r.l_earned, referralMicros: r.l_referral },
    device: { bytesTx: r.reported_bytes_tx, bytesRx: r.reported_bytes_rx },
    buyers: r.buyers.map((b) => ({
      allocationId: b.id,
      buyerId: b.buyer_id,
      status: b.status,
      bytes: BigInt(b.bytes),
      reportedBytes: b.reported === null ? null : BigInt(b.reported),
    })),
  }));
}
