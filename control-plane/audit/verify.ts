import type pg from 'pg';
import { CHAINED_COLUMNS, type ChainedRow, type ChainHead, formatHead, linkHash } from './chain.js';

/** One thing that is wrong with the audit log. `detail` is for people. */
export interface AuditFault {
  code:
    | 'row_changed'
    | 'row_missing'
    | 'link_missing'
    | 'row_unlinked'
    | 'head_differs'
    | 'anchor_differs'
    | 'anchor_ahead';
  detail: string;
}

export interface AuditReport {
  ok: boolean;
  /** Rows with a link. */
  links: number;
  /** Rows too new to have one. */
  waiting: number;
  /** `<seq>:<hash>`, to be kept elsewhere and handed in as `anchor` next time. */
  head: string;
  /** At most FAULTS_KEPT. */
  faults: AuditFault[];
}

const FAULTS_KEPT = 100;
/** Links proven at a time; memory and progress steps follow it. */
const LINKS_PER_STEP = 5_000;

type LinkRow = { seq: bigint; audit_id: bigint; hash: Buffer; row_id: bigint | null } & ChainedRow;

/**
 * Proves the audit log from its rows: each link is the hash of the link before and its row, numbers run 1, 2, 3 …
 * without a gap up to the head, and each row has a link or waits for one. Reads one snapshot, so it may run beside a
 * live system. With `anchor`, a head of an earlier time that was kept elsewhere, it also finds a log that was cut off or
 * rewritten as a whole. `onProgress` is called with links done and links in all.
 */
export async function verifyAudit(
  pool: pg.Pool,
  anchor: ChainHead | null,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<AuditReport> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const faults: AuditFault[] = [];
    const fault = (code: AuditFault['code'], detail: string) => {
      if (faults.length < FAULTS_KEPT) faults.push({ code, detail });
    };
    const [counts] = (
      await client.query(
        `SELECT (SELECT count(*) FROM audit_chain)::int AS links, (SELECT count(*) FROM audit_unchained)::int AS waiting`,
      )
    ).rows as [{ links: number; waiting: number }];
    const [head] = (await client.query<ChainHead>('SELECT seq, hash FROM audit_head')).rows;

    let last: ChainHead = { seq: 0n, hash: Buffer.alloc(32) };
    let anchorSeen = anchor === null || anchor.seq === 0n;
    for (let done = 0; ; ) {
      const { rows } = await client.query<LinkRow>(
        `SELECT c.seq, c.audit_id, c.hash, l.id AS row_id, ${CHAINED_COLUMNS}
           FROM audit_chain c LEFT JOIN audit_log l ON l.id = c.audit_id
          WHERE c.seq > $1 ORDER BY c.seq LIMIT ${LINKS_PER_STEP}`,
        [last.seq],
      );
      if (rows.length === 0) break;
      for (const link of rows) {
        if (link.seq !== last.seq + 1n)
          fault('link_missing', `after link ${last.seq} comes link ${link.seq}`);
        else if (link.row_id === null)
          fault('row_missing', `row ${link.audit_id} of link ${link.seq} is gone`);
        else if (!linkHash(last.hash, link).equals(link.hash))
          fault('row_changed', `row ${link.audit_id} is not the one of link ${link.seq}`);
        if (anchor !== null && link.seq === anchor.seq) {
          anchorSeen = true;
          if (!anchor.hash.equals(link.hash))
            fault('anchor_differs', `link ${link.seq} had another hash when the anchor was taken`);
        }
        // The stored hash goes on, so that one changed row is one fault.
        last = { seq: link.seq, hash: link.hash };
      }
      done += rows.length;
      onProgress(done, counts.links);
    }
    if (head === undefined || head.seq !== last.seq || !head.hash.equals(last.hash))
      fault('head_differs', `the chain ends at link ${last.seq}, its head says ${head?.seq ?? 'nothing'}`);
    if (!anchorSeen && anchor !== null)
      fault('anchor_ahead', `the anchor is link ${anchor.seq}, the chain ends at ${last.seq}`);

    const unlinked = await client.query<{ id: bigint }>(
      `SELECT l.id FROM audit_log l
        WHERE NOT EXISTS (SELECT 1 FROM audit_chain c WHERE c.audit_id = l.id)
          AND NOT EXISTS (SELECT 1 FROM audit_unchained u WHERE u.audit_id = l.id) ORDER BY l.id LIMIT ${FAULTS_KEPT}`,
    );
    for (const { id } of unlinked.rows) fault('row_unlinked', `row ${id} has no link and waits for none`);
    const gone = await client.query<{ id: bigint }>(
      `SELECT u.audit_id AS id FROM audit_unchained u
        WHERE NOT EXISTS (SELECT 1 FROM audit_log l WHERE l.id = u.audit_id) ORDER BY 1 LIMIT ${FAULTS_KEPT}`,
    );
    for (const { id } of gone.rows) fault('row_missing', `row ${id}, which waits for its link, is gone`);
    await client.query('COMMIT');
    return { ok: faults.length === 0, ...counts, head: formatHead(last), faults };
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}
