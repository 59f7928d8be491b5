import type { FastifyRequest } from 'fastify';
import { auditContext, recordAudit } from '../audit/audit.js';
import { updateBuyer } from '../buyers/buyers.js';
import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';
import type { BuyerNoticeKind } from '../notices/notices.js';
import { tellBuyer } from './buyer-notices.js';
import { setConnectionLimit } from './detection.js';
import { closeFinding, type Finding, noteAutomatic, readFinding } from './findings.js';

/** What an admin says of a finding. */
export interface Decision {
  decision: 'dismiss' | 'warn' | 'suspend' | 'keep_open';
  reason: string;
  /** To the buyer. */
  message: string | null;
  /** How the buyer reaches us. */
  contact: string | null;
}

/**
 * Carries a decision out, in the caller's transaction, and audits it. Resolves to the buyers whose gateways must be told
 * after the commit. Throws Problems: not_found, finding_decided, finding_without_buyer.
 */
export async function decide(
  client: Queryable,
  request: FastifyRequest,
  id: string,
  adminId: string,
  { decision, reason, message, contact }: Decision,
): Promise<string[]> {
  const finding = await readFinding(client, id, true);
  if (finding === null) throw new Problem('not_found');
  if (finding.state !== 'open') throw new Problem('finding_decided', `It is ${finding.state}.`);
  const { buyer_id: buyerId } = finding;
  if (buyerId === null && (decision === 'warn' || decision === 'suspend'))
    throw new Problem(
      'finding_without_buyer',
      'Deny the destination, or decide on the findings of its buyers.',
    );
  const context = auditContext(request);
  await recordAudit(client, {
    ...context,
    action: `abuse_finding_${decision}`,
    objectType: 'abuse_finding',
    objectId: id,
    before: { state: 'open' },
    after: { rule: finding.rule, buyer_id: buyerId, reason, ...(message !== null && { message }) },
  });
  if (decision === 'keep_open') return [];
  const state = ({ dismiss: 'dismissed', warn: 'warned', suspend: 'suspended' } as const)[decision];
  await closeFinding(client, id, { state, adminId, reason, message });
  if (buyerId === null) return [];
  const tell = (kind: BuyerNoticeKind, words: string | null = null) =>
    tellBuyer(client, { id, rule: finding.rule, buyerId }, { kind, message: words, contact });
  if (decision === 'warn') await tell('warned', message);
  const change = decision === 'suspend' ? suspend : takeBack;
  const what = await change(client, finding, buyerId);
  if (what === null) return [];
  await tell(decision === 'suspend' ? 'suspended' : 'lifted');
  await recordAudit(client, {
    ...context,
    action: 'buyer_changed',
    objectType: 'buyer',
    objectId: buyerId,
    before: what.before,
    after: { ...what.after, finding_id: id },
  });
  return [buyerId];
}

type Change = { before: object; after: object } | null;

async function suspend(client: Queryable, _finding: Finding, buyerId: string): Promise<Change> {
  const changed = await updateBuyer(client, buyerId, { status: 'suspended' });
  if (changed === null || changed.before.status === 'suspended') return null;
  return { before: { status: changed.before.status }, after: { status: 'suspended' } };
}

/**
 * Ends what was done to the buyer without an admin, unless an admin has changed it since. While another finding of the buyer is
 * open, it goes over to that one.
 */
async function takeBack(client: Queryable, finding: Finding, buyerId: string): Promise<Change> {
  const { automatic, limit_before: limitBefore, limit_after: limitAfter } = finding;
  if (automatic === null) return null;
  const { rows } = await client.query<{ id: string }>(
    `SELECT id FROM abuse_findings WHERE buyer_id = $1 AND state = 'open' AND automatic IS NULL
      ORDER BY opened_at, id LIMIT 1 FOR UPDATE`,
    [buyerId],
  );
  const other = rows[0]?.id;
  if (other !== undefined) {
    await noteAutomatic(client, other, automatic, { before: limitBefore, after: limitAfter });
    return null;
  }
  const found = await client.query<{ status: string; limit: number | null }>(
    `SELECT status, (limits ->> 'connections_per_second_max')::int AS limit FROM buyers WHERE id = $1 FOR UPDATE`,
    [buyerId],
  );
  const [buyer] = found.rows;
  if (buyer === undefined) return null;
  if (automatic === 'suspended') {
    if (buyer.status !== 'suspended') return null;
    await updateBuyer(client, buyerId, { status: 'active' });
    return { before: { status: 'suspended' }, after: { status: 'active' } };
  }
  if (buyer.limit !== limitAfter) return null;
  await setConnectionLimit(client, buyerId, limitBefore);
  return {
    before: { connections_per_second_max: buyer.limit },
    after: { connections_per_second_max: limitBefore },
  };
}
