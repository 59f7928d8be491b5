import { randomUUID } from 'node:crypto';
import { hashSecret, randomBase62 } from '../buyers/secrets.js';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';

export const REPORT_STATES = ['open', 'answered', 'closed'] as const;
export type ReportState = (typeof REPORT_STATES)[number];
/** What came of a report: something was done; no traffic of ours fits; it is no abuse; reported before; none at all. */
export const REPORT_OUTCOMES = ['acted', 'not_found', 'no_abuse', 'duplicate', 'spam'] as const;
export type ReportOutcome = (typeof REPORT_OUTCOMES)[number];

/** What somebody reports. */
export interface NewReport {
  exitIp: string;
  happenedAt: Date;
  /** Of the destination, as are `destination` and `port`. */
  port: number | null;
  destination: string | null;
  description: string;
  contact: string | null;
  reporterIp: string;
}

export interface Report {
  id: string;
  reference: string;
  state: ReportState;
  outcome: ReportOutcome | null;
  exit_ip: string | null;
  happened_at: Date;
  port: number | null;
  destination: string | null;
  description: string | null;
  contact: string | null;
  reporter_ip: string | null;
  answer: string | null;
  answered_at: Date | null;
  answered_by: string | null;
  closed_at: Date | null;
  finding_id: string | null;
  received_at: Date;
  forgotten_at: Date | null;
}

/** 8 of 62, for people to read out; it opens nothing without the secret. */
const REFERENCE_DIGITS = 8;
/** 24 of 62: 142 bits. */
const SECRET_DIGITS = 24;

const SELECT = `SELECT id, reference, state, outcome, host(exit_ip) AS exit_ip, happened_at, port, destination, description,
    contact, host(reporter_ip) AS reporter_ip, answer, answered_at, answered_by, closed_at, finding_id, received_at,
    forgotten_at FROM abuse_reports`;

/** What the reporter keeps: the secret is given once and kept as a hash. */
export interface ReportReceipt {
  reference: string;
  secret: string;
  receivedAt: Date;
}

export async function addReport(client: Queryable, report: NewReport): Promise<ReportReceipt> {
  const { reference, secret } = newReceipt();
  const { rows } = await client.query<{ received_at: Date }>(
    `INSERT INTO abuse_reports (id, reference, secret_hash, exit_ip, happened_at, port, destination, description, contact,
                                reporter_ip)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING received_at`,
    [
      randomUUID(),
      reference,
      hashSecret(secret),
      report.exitIp,
      report.happenedAt,
      report.port,
      report.destination,
      report.description,
      report.contact,
      report.reporterIp,
    ],
  );
  return { reference, secret, receivedAt: rows[0]?.received_at as Date };
}

/** A reference and secret like those of a report. */
export function newReceipt(): { reference: string; secret: string } {
  return { reference: `AR-${randomBase62(REFERENCE_DIGITS)}`, secret: randomBase62(SECRET_DIGITS) };
}

/** What the reporter may know; null: there is no such report, or this is not its secret. */
export async function readReportStatus(
  db: Queryable,
  reference: string,
  secret: string,
): Promise<Pick<
  Report,
  'reference' | 'state' | 'outcome' | 'answer' | 'received_at' | 'answered_at'
> | null> {
  const { rows } = await db.query<Report>(`${SELECT} WHERE reference = $1 AND secret_hash = $2`, [
    reference,
    hashSecret(secret),
  ]);
  return rows[0] ?? null;
}

/** What an admin may narrow the list to. */
export interface ReportFilter {
  state?: ReportState | undefined;
  exitIp?: string | undefined;
  findingId?: string | undefined;
}

/** Reports, those received last first. */
export async function listReports(
  db: Queryable,
  filter: ReportFilter,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Report[]; nextCursor: string | null }> {
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const conditions = Object.entries({
    'state =': filter.state,
    'exit_ip =': filter.exitIp,
    'finding_id =': filter.findingId,
  }).flatMap(([condition, given]) => (given === undefined ? [] : [`${condition} ${value(given)}`]));
  if (page.cursor !== undefined) {
    const [at, id] = decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    conditions.push(`(received_at, id) < (${value(at)}::timestamptz, ${value(id)}::uuid)`);
  }
  const { rows } = await db.query<Report>(
    `${SELECT} WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY received_at DESC, id DESC LIMIT ${page.limit + 1}`,
    values,
  );
  return cutPage(rows, page.limit, (row) => [row.received_at, row.id]);
}

/** Null: there is none. `lock`: it stays as it is until the transaction ends. */
export async function readReport(db: Queryable, id: string, lock = false): Promise<Report | null> {
  const { rows } = await db.query<Report>(`${SELECT} WHERE id = $1${lock ? ' FOR UPDATE' : ''}`, [id]);
  return rows[0] ?? null;
}

/** Answers a report that is locked and not closed; with an outcome it is closed. */
export async function answerReport(
  client: Queryable,
  id: string,
  { answer, outcome, adminId }: { answer: string | null; outcome: ReportOutcome | null; adminId: string },
): Promise<void> {
  await client.query(
    `UPDATE abuse_reports
        SET answer = coalesce($2, answer),
            answered_at = CASE WHEN $2::text IS NULL THEN answered_at ELSE coalesce(answered_at, now()) END,
            answered_by = CASE WHEN $2::text IS NULL THEN answered_by ELSE $4::uuid END,
            outcome = $3::text, closed_at = CASE WHEN $3::text IS NOT NULL THEN now() END,
            state = CASE WHEN $3::text IS NOT NULL THEN 'closed' WHEN $2::text IS NOT NULL THEN 'answered' ELSE state END
      WHERE id = $1`,
    [id, answer, outcome, adminId],
  );
}

/** Null: no finding any more. */
export async function linkReport(client: Queryable, id: string, findingId: string | null): Promise<void> {
  await client.query('UPDATE abuse_reports SET finding_id = $2 WHERE id = $1', [id, findingId]);
}
