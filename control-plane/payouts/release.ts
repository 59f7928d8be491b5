import type pg from 'pg';
import { recordAudit } from '../audit/audit.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { formatMicros } from '../ledger/money.js';
import { movePayout, type Payout, type PayoutStatus, readPayout } from './payouts.js';

/** Who has to agree before a payout is sent, read anew for each decision. Micro-dollars. */
export interface ReleaseRules {
  /** Up to this amount, and only up to `twoAdminMicrosMin`, nobody has to; 0: somebody always has to. */
  autoApproveMicrosMax: bigint;
  /** Above this amount two admins have to. */
  twoAdminMicrosMin: bigint;
}

/** Why a decision was not taken. `from` is the state the payout is in. */
export type DecisionRefusal =
  | { ok: false; code: 'unknown' | 'own_payout' }
  | { ok: false; code: 'not_pending'; from: PayoutStatus };

export interface Decided {
  ok: true;
  before: PayoutStatus;
  payout: Payout;
  /** Admins who have approved it so far, and how many have to. */
  approvals: number;
  approvalsNeeded: number;
}

/**
 * An admin's approval, in the caller's transaction. With enough of them the payout is released: it is `processing` and
 * waits to be sent. The same admin twice is one approval; nobody approves a payout to themselves. Approving one that
 * Cryptomus refused sends it again.
 */
export async function approvePayout(
  client: Queryable,
  payoutId: string,
  adminId: string,
  rules: ReleaseRules,
): Promise<Decided | DecisionRefusal> {
  const payout = await lockPayout(client, payoutId);
  if (payout === null) return { ok: false, code: 'unknown' };
  if (payout.userId === adminId) return { ok: false, code: 'own_payout' };
  const approvalsNeeded = payout.amountMicros > rules.twoAdminMicrosMin ? 2 : 1;
  const again = payout.status === 'processing' && (await wasRefused(client, payoutId));
  if (payout.status !== 'pending' && !again) return { ok: false, code: 'not_pending', from: payout.status };
  await client.query(
    'INSERT INTO payout_approvals (payout_id, admin_id) VALUES ($1, $2) ON CONFLICT DO NOTHING',
    [payoutId, adminId],
  );
  const approvals = await countApprovals(client, payoutId);
  if (again) await requeue(client, payoutId);
  else if (approvals >= approvalsNeeded) await release(client, payoutId);
  const after = (await readPayout(client, payoutId)) as Payout;
  return { ok: true, before: payout.status, payout: after, approvals, approvalsNeeded };
}

/**
 * An admin's rejection, in the caller's transaction: a pending payout is cancelled, one that Cryptomus refused has
 * failed. Either way the money is available again.
 */
export async function rejectPayout(
  client: Queryable,
  payoutId: string,
  reason: string,
): Promise<{ ok: true; before: PayoutStatus; payout: Payout } | DecisionRefusal> {
  const payout = await lockPayout(client, payoutId);
  if (payout === null) return { ok: false, code: 'unknown' };
  const refused = payout.status === 'processing' && (await wasRefused(client, payoutId));
  if (payout.status !== 'pending' && !refused) return { ok: false, code: 'not_pending', from: payout.status };
  const moved = await movePayout(client, payoutId, refused ? 'failed' : 'cancelled', { reason });
  if (!moved.ok) throw new Error(`payout ${payoutId} moved under its lock`);
  if (refused) await client.query("UPDATE payout_sends SET state = 'ended' WHERE payout_id = $1", [payoutId]);
  return moved;
}

/** Payouts released by the rule in one go. */
const RELEASED_AT_ONCE_MAX = 100;

/** Releases what needs nobody's approval: small ones of providers in good standing. Resolves to how many. */
export function releaseSmallPayouts(pool: pg.Pool, rules: ReleaseRules): Promise<number> {
  if (rules.autoApproveMicrosMax <= 0n) return Promise.resolve(0);
  return withTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string; amount_micros: bigint }>(
      `SELECT p.id, p.amount_micros FROM payouts p JOIN users u ON u.id = p.user_id
        WHERE p.status = 'pending' AND p.amount_micros <= least($1::bigint, $2::bigint) AND u.status = 'active'
        ORDER BY p.created_at LIMIT ${RELEASED_AT_ONCE_MAX} FOR NO KEY UPDATE OF p SKIP LOCKED`,
      // What takes two admins is never released by none.
      [rules.autoApproveMicrosMax.toString(), rules.twoAdminMicrosMin.toString()],
    );
    for (const row of rows) {
      await release(client, row.id);
      await recordAudit(client, {
        actor: { role: 'system' },
        action: 'payout_released',
        objectType: 'payout',
        objectId: row.id,
        before: { status: 'pending' },
        after: { status: 'processing', amount: formatMicros(row.amount_micros), rule: 'auto_approve' },
      });
    }
    return rows.length;
  });
}

async function lockPayout(client: Queryable, payoutId: string): Promise<Payout | null> {
  await client.query('SELECT 1 FROM payouts WHERE id = $1 FOR NO KEY UPDATE', [payoutId]);
  return readPayout(client, payoutId);
}

async function release(client: Queryable, payoutId: string): Promise<void> {
  const moved = await movePayout(client, payoutId, 'processing');
  if (!moved.ok) throw new Error(`payout ${payoutId} is not pending under its lock`);
  await client.query('INSERT INTO payout_sends (payout_id) VALUES ($1)', [payoutId]);
}

async function wasRefused(client: Queryable, payoutId: string): Promise<boolean> {
  const { rowCount } = await client.query(
    "SELECT 1 FROM payout_sends WHERE payout_id = $1 AND state = 'refused' FOR NO KEY UPDATE",
    [payoutId],
  );
  return rowCount === 1;
}

async function requeue(client: Queryable, payoutId: string): Promise<void> {
  await client.query("UPDATE payout_sends SET state = 'queued', next_at = now() WHERE payout_id = $1", [
    payoutId,
  ]);
}

/** Of those who are admins still. */
async function countApprovals(client: Queryable, payoutId: string): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM payout_approvals a JOIN users u ON u.id = a.admin_id
      WHERE a.payout_id = $1 AND u.is_admin AND u.status = 'active'`,
    [payoutId],
  );
  return rows[0]?.n ?? 0;
}
