import type { Queryable } from '../db/pool.js';
import { FINDING_RULES } from './findings.js';
import { REPORT_OUTCOMES } from './reports.js';

/** What happened in a UTC quarter, in numbers that name nobody. */
export interface TransparencyQuarter {
  /** `2026-Q4`. */
  quarter: string;
  /** UTC days, the last one not included. */
  from: string;
  to: string;
  reports_received: number;
  /** For the first time. */
  reports_answered: number;
  /** Hours from receipt to the first answer, in the middle; null: none was answered. */
  answer_hours_median: number | null;
  reports_closed: number;
  /** Each outcome as `reports_<outcome>`, each rule as `findings_<rule>`. */
  [counted: `reports_${string}` | `findings_${string}`]: number;
  findings_opened: number;
  findings_dismissed: number;
  findings_warned: number;
  findings_suspended: number;
  /** Buyers, however often: by detection alone, and in all, by whatever way. */
  buyers_throttled_automatically: number;
  buyers_suspended_automatically: number;
  buyers_suspended: number;
  /** Destinations and networks denied, or allowed again: changes of the lists. */
  policy_changes: number;
  legal_holds_asked: number;
  legal_holds_confirmed: number;
  legal_holds_lifted: number;
  /** At the quarter's end, or now. */
  legal_holds_in_force: number;
}

const outcomes = REPORT_OUTCOMES.map((one) => `reports_${one}` as const);
const rules = FINDING_RULES.map((one) => `findings_${one}` as const);

/** The fields of a quarter, in the order they are told. */
export const TRANSPARENCY_COUNTS = [
  'reports_received',
  'reports_answered',
  'answer_hours_median',
  'reports_closed',
  ...outcomes,
  'findings_opened',
  ...rules,
  'findings_dismissed',
  'findings_warned',
  'findings_suspended',
  'buyers_throttled_automatically',
  'buyers_suspended_automatically',
  'buyers_suspended',
  'policy_changes',
  'legal_holds_asked',
  'legal_holds_confirmed',
  'legal_holds_lifted',
  'legal_holds_in_force',
] as const;
export const TRANSPARENCY_COLUMNS = ['quarter', 'from', 'to', ...TRANSPARENCY_COUNTS] as const;

const during = (column: string) => `${column} >= q.since AND ${column} < q.until`;
const counted = (name: string, table: string, column: string, and = '') =>
  `(SELECT count(*)::int FROM ${table} WHERE ${during(column)} ${and}) AS ${name}`;
/** The audit log names what was done to buyers, by whom and by what way. */
const buyers = (name: string, actions: string) =>
  `(SELECT count(DISTINCT object_id)::int FROM audit_log WHERE ${during('at')} AND object_type = 'buyer' AND ${actions}) AS ${name}`;

const STATEMENT = `
  SELECT to_char(q.day, 'YYYY-"Q"Q') AS quarter, q.day::date::text AS "from",
         (q.day + interval '3 months')::date::text AS "to",
         ${counted('reports_received', 'abuse_reports', 'received_at')},
         ${counted('reports_answered', 'abuse_reports', 'answered_at')},
         (SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM answered_at - received_at)) / 3600)::numeric, 2)
            FROM abuse_reports WHERE ${during('answered_at')})::float8 AS answer_hours_median,
         ${counted('reports_closed', 'abuse_reports', 'closed_at')},
         ${REPORT_OUTCOMES.map((one) => counted(`reports_${one}`, 'abuse_reports', 'closed_at', `AND outcome = '${one}'`)).join(',\n         ')},
         ${counted('findings_opened', 'abuse_findings', 'opened_at')},
         ${FINDING_RULES.map((one) => counted(`findings_${one}`, 'abuse_findings', 'opened_at', `AND rule = '${one}'`)).join(',\n         ')},
         ${['dismissed', 'warned', 'suspended'].map((one) => counted(`findings_${one}`, 'abuse_findings', 'decided_at', `AND state = '${one}'`)).join(',\n         ')},
         ${buyers('buyers_throttled_automatically', "action = 'abuse_buyer_throttled'")},
         ${buyers('buyers_suspended_automatically', "action = 'abuse_buyer_suspended'")},
         ${buyers('buyers_suspended', "(action = 'abuse_buyer_suspended' OR action = 'buyer_changed' AND after ->> 'status' = 'suspended')")},
         ${counted('policy_changes', 'audit_log', 'at', "AND action = 'policy_changed'")},
         ${counted('legal_holds_asked', 'legal_holds', 'asked_at')},
         ${counted('legal_holds_confirmed', 'legal_holds', 'confirmed_at')},
         ${counted('legal_holds_lifted', 'legal_holds', 'lifted_at')},
         (SELECT count(*)::int FROM legal_holds, least(q.until, now()) AS moment
           WHERE asked_at < moment AND (lifted_at IS NULL OR lifted_at >= moment)
             AND (confirmed_at < moment OR lapses_at > moment)) AS legal_holds_in_force
    FROM (SELECT day, day AT TIME ZONE 'UTC' AS since, (day + interval '3 months') AT TIME ZONE 'UTC' AS until
            FROM generate_series(date_trunc('quarter', now() AT TIME ZONE 'UTC') - make_interval(months => 3 * ($1 - 1)),
                                 date_trunc('quarter', now() AT TIME ZONE 'UTC'), interval '3 months') AS day) q
   ORDER BY q.day`;

/** This quarter and those before it, oldest first: so many. */
export async function readTransparency(db: Queryable, quarters: number): Promise<TransparencyQuarter[]> {
  const { rows } = await db.query<TransparencyQuarter>(STATEMENT, [quarters]);
  return rows;
}
