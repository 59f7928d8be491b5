import { randomUUID } from 'node:crypto';
import type { Condition } from '../alerts/alerts.js';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { DETECTION_RULES, type DetectionRule, type Suspicion } from './rules.js';

/** Rules of findings: what is detected, and what somebody reported. */
export const FINDING_RULES = [...DETECTION_RULES, 'reported'] as const;
export type FindingRule = DetectionRule | 'reported';
export const FINDING_STATES = ['open', 'dismissed', 'warned', 'suspended'] as const;
export type FindingState = (typeof FINDING_STATES)[number];
/** What was done without an admin. */
export type Automatic = 'throttled' | 'suspended';

export interface Finding {
  id: string;
  rule: FindingRule;
  buyer_id: string | null;
  buyer_account: string | null;
  host: string | null;
  state: FindingState;
  measured: bigint;
  measured_max: bigint;
  threshold: bigint;
  seen: bigint;
  evidence: Record<string, unknown>;
  opened_at: Date;
  seen_at: Date;
  automatic: Automatic | null;
  automatic_at: Date | null;
  limit_before: number | null;
  limit_after: number | null;
  decided_at: Date | null;
  decided_by: string | null;
  reason: string | null;
  message: string | null;
}

const SELECT = `SELECT f.id, f.rule, f.buyer_id, b.account AS buyer_account, f.host, f.state, f.measured, f.measured_max,
    f.threshold, f.seen, f.evidence, f.opened_at, f.seen_at, f.automatic, f.automatic_at, f.limit_before,
    f.limit_after, f.decided_at, f.decided_by, f.reason, f.message FROM abuse_findings f LEFT JOIN buyers b ON b.id = f.buyer_id`;

/**
 * Brings the open finding of this rule and subject up to date, or opens one; not while the last one was decided less than
 * `quietHours` ago. Resolves to its id and whether it is new; null: it is quiet.
 */
export async function keepFinding(
  client: Queryable,
  {
    rule,
    subject,
    buyerId,
    host,
    measured,
    threshold,
    evidence,
  }: Omit<Suspicion, 'rule'> & { rule: FindingRule },
  quietHours: number,
): Promise<{ id: string; fresh: boolean } | null> {
  const { rows } = await client.query<{ id: string; fresh: boolean }>(
    `INSERT INTO abuse_findings AS f (id, rule, subject, buyer_id, host, measured, measured_max, threshold, evidence)
     SELECT $1::uuid, $2::text, $3::text, $4::uuid, $5::text, $6::bigint, $6::bigint, $7::bigint, $8::jsonb
      WHERE NOT EXISTS (SELECT 1 FROM abuse_findings
                         WHERE rule = $2 AND subject = $3 AND decided_at > now() - make_interval(hours => $9))
     ON CONFLICT (rule, subject) WHERE state = 'open' DO UPDATE
        SET measured = excluded.measured, measured_max = greatest(f.measured_max, excluded.measured),
            threshold = excluded.threshold, evidence = excluded.evidence, seen = f.seen + 1, seen_at = now()
     RETURNING id, xmax = 0 AS fresh`,
    [randomUUID(), rule, subject, buyerId, host, measured, threshold, JSON.stringify(evidence), quietHours],
  );
  return rows[0] ?? null;
}

/** What an admin may narrow the list to. */
export interface FindingFilter {
  state?: FindingState | undefined;
  rule?: FindingRule | undefined;
  buyerId?: string | undefined;
}

/** Findings, those opened last first. */
export async function listFindings(
  db: Queryable,
  filter: FindingFilter,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Finding[]; nextCursor: string | null }> {
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const conditions = Object.entries({
    'f.state =': filter.state,
    'f.rule =': filter.rule,
    'f.buyer_id =': filter.buyerId,
  }).flatMap(([condition, given]) => (given === undefined ? [] : [`${condition} ${value(given)}`]));
  if (page.cursor !== undefined) {
    const [at, id] = decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    conditions.push(`(f.opened_at, f.id) < (${value(at)}::timestamptz, ${value(id)}::uuid)`);
  }
  const { rows } = await db.query<Finding>(
    `${SELECT} WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY f.opened_at DESC, f.id DESC LIMIT ${page.limit + 1}`,
    values,
  );
  return cutPage(rows, page.limit, (row) => [row.opened_at, row.id]);
}

/** Null: there is none. `lock`: nobody else decides on it until the transaction ends. */
export async function readFinding(db: Queryable, id: string, lock = false): Promise<Finding | null> {
  const { rows } = await db.query<Finding>(`${SELECT} WHERE f.id = $1${lock ? ' FOR UPDATE OF f' : ''}`, [
    id,
  ]);
  return rows[0] ?? null;
}

/** Writes a decision down. The finding is open and locked. */
export async function closeFinding(
  client: Queryable,
  id: string,
  decision: { state: Exclude<FindingState, 'open'>; adminId: string; reason: string; message: string | null },
): Promise<void> {
  await client.query(
    `UPDATE abuse_findings SET state = $2, decided_at = now(), decided_by = $3, reason = $4, message = $5
      WHERE id = $1`,
    [id, decision.state, decision.adminId, decision.reason, decision.message],
  );
}

/** Connections a second that a buyer may open, before and with throttling; null: the default, or it is no throttling. */
export interface Throttling {
  before: number | null;
  after: number | null;
}

/** What was done to the finding's buyer without an admin. */
export async function noteAutomatic(
  client: Queryable,
  id: string,
  done: Automatic,
  { before, after }: Throttling,
): Promise<void> {
  await client.query(
    `UPDATE abuse_findings SET automatic = $2, automatic_at = now(), limit_before = $3, limit_after = $4 WHERE id = $1`,
    [id, done, before, after],
  );
}

/** Kinds of what admins are warned of (`alerts/`). */
export const ABUSE_ALERT_KINDS = ['abuse_finding', 'abuse_reports_late'] as const;
/** Findings that admins are warned of one by one; of more only that there are more. */
const WARNED_FINDINGS_MAX = 20;

/** What admins are to be warned of: each open finding, and reports that nobody has answered for `lateHours`. */
export async function abuseConditions(db: Queryable, lateHours: number): Promise<Condition[]> {
  const { rows: open } = await db.query<{
    id: string;
    rule: string;
    whose: string | null;
    host: string | null;
  }>(
    `SELECT f.id, f.rule, b.account AS whose, f.host FROM abuse_findings f LEFT JOIN buyers b ON b.id = f.buyer_id
      WHERE f.state = 'open' ORDER BY f.opened_at, f.id LIMIT ${WARNED_FINDINGS_MAX + 1}`,
  );
  const { rows: late } = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM abuse_reports
      WHERE state = 'open' AND received_at < now() - make_interval(hours => $1)`,
    [lateHours],
  );
  const conditions = open.slice(0, WARNED_FINDINGS_MAX).map(({ id, rule, whose, host }) => ({
    key: `abuse_finding:${id}`,
    detail:
      `Abuse, ${rule}: ${[whose && `buyer ${whose}`, host && `host ${host}`].filter(Boolean).join(', ')}. Decide in the ` +
      'console under Abuse.',
  }));
  if (open.length > WARNED_FINDINGS_MAX)
    conditions.push({
      key: 'abuse_finding:more',
      detail: `More than ${WARNED_FINDINGS_MAX} findings of abuse are open.`,
    });
  if ((late[0]?.n ?? 0) > 0)
    conditions.push({
      key: 'abuse_reports_late',
      detail: `Abuse reports have waited for an answer for more than ${lateHours} h.`,
    });
  return conditions;
}
