import type pg from 'pg';
import { Type } from 'typebox';
import { type CsvValue, writeCsv } from '../http/csv.js';
import { Bytes, jsonBytes, Money } from '../http/schemas.js';
import type { Job } from '../jobs/job.js';
import { putIntoOutbox } from '../jobs/outbox.js';
import { formatMicros } from '../ledger/money.js';
import { type BuyerDay, computeDay, type DayFigures, readBuyersOfDay } from './figures.js';

/** One day for people: figures, and the traffic by buyer. */
export interface DailyReport {
  figures: DayFigures;
  buyers: BuyerDay[];
}

/** From the record as it is now, so a report on today grows until midnight (UTC). */
export async function readDailyReport(pool: pg.Pool, day: string): Promise<DailyReport> {
  const [figures, buyers] = await Promise.all([computeDay(pool, day), readBuyersOfDay(pool, day)]);
  return { figures, buyers };
}

const Count = Type.Integer();

/** The figures of a day, in JSON. */
export const DaySchema = Type.Object({
  day: Type.String({ format: 'date' }),
  new_users: Count,
  new_buyers: Count,
  active_providers: Type.Integer({ description: 'whose devices carried bytes' }),
  active_buyers: Count,
  sessions_completed: Count,
  bytes_up: Bytes,
  bytes_down: Bytes,
  charged: Money,
  earned: Money,
  referrals: Money,
  revenue: Money,
  top_ups: Money,
  payouts_completed: Count,
  paid_out: Money,
});

export const dayJson = (f: DayFigures) => ({
  day: f.day,
  new_users: Number(f.new_users),
  new_buyers: Number(f.new_buyers),
  active_providers: Number(f.active_providers),
  active_buyers: Number(f.active_buyers),
  sessions_completed: Number(f.sessions_completed),
  bytes_up: jsonBytes(f.bytes_up),
  bytes_down: jsonBytes(f.bytes_down),
  charged: formatMicros(f.charged_micros),
  earned: formatMicros(f.earned_micros),
  referrals: formatMicros(f.referral_micros),
  revenue: formatMicros(f.revenue_micros),
  top_ups: formatMicros(f.topup_micros),
  payouts_completed: Number(f.payouts_completed),
  paid_out: formatMicros(f.payout_micros),
});

export const DailyReportSchema = Type.Object({
  ...DaySchema.properties,
  currency: Type.Literal('USD'),
  buyers: Type.Array(
    Type.Object({
      buyer_id: Type.String({ format: 'uuid' }),
      account: Type.String(),
      name: Type.String(),
      bytes_up: Bytes,
      bytes_down: Bytes,
      charged: Money,
    }),
  ),
});

export const reportJson = ({ figures, buyers }: DailyReport) => ({
  ...dayJson(figures),
  currency: 'USD' as const,
  buyers: buyers.map((b) => ({
    buyer_id: b.buyer_id,
    account: b.account,
    name: b.name,
    bytes_up: jsonBytes(b.bytes_up),
    bytes_down: jsonBytes(b.bytes_down),
    charged: formatMicros(b.charged_micros),
  })),
});

/** A line for the whole day (`total`), then one for each buyer. */
export function reportCsv({ figures, buyers }: DailyReport): string {
  const { day, bytes_up, bytes_down, charged, ...rest } = dayJson(figures);
  const extra = Object.entries(rest);
  const blanks: CsvValue[] = extra.map(() => null);
  return writeCsv(
    [
      'day',
      'row',
      'buyer_id',
      'account',
      'name',
      'bytes_up',
      'bytes_down',
      'charged',
      ...extra.map(([k]) => k),
    ],
    [
      [day, 'total', null, null, null, bytes_up, bytes_down, charged, ...extra.map(([, v]) => v)],
      ...buyers.map((b) => [
        day,
        'buyer',
        b.buyer_id,
        b.account,
        b.name,
        b.bytes_up,
        b.bytes_down,
        formatMicros(b.charged_micros),
        ...blanks,
      ]),
    ],
  );
}

/** Kind of the outbox messages that bring a day's report to the admins. */
export const DAILY_REPORT_OUTBOX = 'daily_report';

/**
 * The job `daily_report`: yesterday's report into the outbox (kind `daily_report`, payload as `GET
 * /api/admin/reports/daily` answers), once a day however often it runs.
 */
export function dailyReportJob(pool: pg.Pool): Job {
  return {
    name: 'daily_report',
    description: "Sends yesterday's report to the admins' channel.",
    schedule: '5 0 * * *',
    async run() {
      const { rows } = await pool.query<{ day: string }>('SELECT utc_day() - 1 AS day');
      const { day } = rows[0] as { day: string };
      const payload = reportJson(await readDailyReport(pool, day));
      const put = await putIntoOutbox(pool, [{ kind: DAILY_REPORT_OUTBOX, key: day, payload }]);
      return { day, sent: put === 1 };
    },
  };
}
