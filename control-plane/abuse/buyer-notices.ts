import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { type BuyerNoticeKind, putBuyerNotice } from '../notices/notices.js';
import type { Finding } from './findings.js';

/** What a buyer is told of a finding. */
export interface BuyerNotice {
  kind: BuyerNoticeKind;
  /** An admin's own words; null: nobody wrote any. */
  message: string | null;
  /** How they reach us (TS_ABUSE_CONTACT); null: as they always do. */
  contact: string | null;
}

/**
 * Tells a buyer what became of a finding, in the caller's transaction: in `/api/buyer/me/warnings`, and by the bot on the
 * Telegram accounts they have linked.
 */
export async function tellBuyer(
  client: Queryable,
  finding: Pick<Finding, 'id' | 'rule'> & { buyerId: string },
  { kind, message, contact }: BuyerNotice,
): Promise<void> {
  const id = randomUUID();
  const { rows } = await client.query<{ account: string }>(
    `WITH put AS (INSERT INTO buyer_notices (id, buyer_id, finding_id, kind, rule, message) VALUES ($1, $2, $3, $4, $5, $6))
     SELECT account FROM buyers WHERE id = $2`,
    [id, finding.buyerId, finding.id, kind, finding.rule, message],
  );
  await putBuyerNotice(client, finding.buyerId, id, {
    kind: 'buyer_abuse',
    what: kind,
    rule: finding.rule,
    message,
    contact,
    account: rows[0]?.account ?? '',
  });
}

export interface BuyerNoticeRow {
  id: string;
  kind: BuyerNoticeKind;
  rule: string;
  message: string | null;
  account: string;
  created_at: Date;
}

/** What a buyer was told, latest first. */
export async function readBuyerNotices(db: Queryable, buyerId: string): Promise<BuyerNoticeRow[]> {
  const { rows } = await db.query<BuyerNoticeRow>(
    `SELECT n.id, n.kind, n.rule, n.message, b.account, n.created_at
       FROM buyer_notices n JOIN buyers b ON b.id = n.buyer_id
      WHERE n.buyer_id = $1 ORDER BY n.created_at DESC, n.id DESC LIMIT ${NOTICES_MAX}`,
    [buyerId],
  );
  return rows;
}
const NOTICES_MAX = 100;
