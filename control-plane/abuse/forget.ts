import type { Queryable } from '../db/pool.js';
import { IN_FORCE } from '../legal-holds/held.js';

/**
 * Deletes texts, addresses and evidence of reports and findings that were over longer ago; that they were there stays, for the
 * figures. What buyers were told of them goes, too. What is about a buyer under a legal hold stays whole. Resolves to how many. A step of the job `cleanup`.
 */
export async function forgetOldAbuse(db: Queryable, keptDays: number): Promise<number> {
  const held = `EXISTS (SELECT 1 FROM legal_holds h WHERE h.buyer_id = f.buyer_id AND ${IN_FORCE})`;
  const reports = await db.query(
    `UPDATE abuse_reports r
        SET exit_ip = NULL, port = NULL, destination = NULL, description = NULL, contact = NULL, reporter_ip = NULL,
            answer = NULL, finding_id = NULL, forgotten_at = now()
      WHERE closed_at < now() - make_interval(days => $1) AND forgotten_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM abuse_findings f WHERE f.id = r.finding_id AND ${held})`,
    [keptDays],
  );
  const findings = await db.query(
    `UPDATE abuse_findings f
        SET subject = f.id::text, buyer_id = NULL, host = NULL, evidence = '{}', reason = NULL, message = NULL,
            forgotten_at = now()
      WHERE decided_at < now() - make_interval(days => $1) AND forgotten_at IS NULL AND NOT ${held}`,
    [keptDays],
  );
  await db.query(
    'DELETE FROM buyer_notices n USING abuse_findings f WHERE f.id = n.finding_id AND f.forgotten_at IS NOT NULL',
  );
  return (reports.rowCount ?? 0) + (findings.rowCount ?? 0);
}
