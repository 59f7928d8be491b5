import type { Static } from 'typebox';
import type { Log } from '../../gateway/runtime/logging.js';
import type { AlertMessage } from '../alerts/alerts.js';
import type { DailyReportSchema } from '../figures/daily-report.js';
import type { DayFigures } from '../figures/figures.js';
import type { OutboxHandler } from '../jobs/outbox.js';
import type { PayoutReceipt } from '../payouts/receipts.js';
import type { AdminChannel } from '../telegram/admin-channel.js';
import { type Say, textIn } from '../texts/fluent.js';
import { dollars, gigabytes } from '../texts/words.js';
import type { Language } from '../users/users.js';
import { type Bar, chartSvg } from './chart.js';
import { drawPng } from './chart-painter.js';

type DailyReport = Static<typeof DailyReportSchema>;

/** Buyers that a report names; the others are counted. */
const BUYERS_MAX = 20;
/** Days the report's chart shows. */
const CHART_DAYS = 14;

export interface AdminMessagesDeps {
  log: Log;
  admins: AdminChannel;
  /** Of the admins' channel. */
  language: Language;
  /** The last days' figures, oldest first, for the report's chart. */
  readDays: (days: number) => Promise<Pick<DayFigures, 'day' | 'bytes_up' | 'bytes_down'>[]>;
}

/** Brings outbox kind `daily_report` to the admins, and below it a chart; a report without one is a report, too. */
export function dailyReportHandler(deps: AdminMessagesDeps): OutboxHandler {
  const { admins, language, readDays, log } = deps;
  return async ({ payload }) => {
    const report = payload as DailyReport;
    await admins.deliver(dailyReportText(language, report), 'daily_report');
    try {
      // A day more than are shown: the report is of yesterday, today has just begun.
      const bars = (await readDays(CHART_DAYS + 1))
        .filter(({ day }) => day <= report.day)
        .map(({ day, bytes_up, bytes_down }): Bar => ({ day, value: Number(bytes_up + bytes_down) / 1e9 }));
      const photo = await drawPng(chartSvg(bars, { strong: 1 }));
      const caption = textIn(language, 'report-chart', { days: bars.length });
      await admins.notify(caption, 'daily_report', { photo });
    } catch (error) {
      log.warn({ err: error }, 'report_chart_not_sent');
    }
  };
}

/** Brings outbox kind `payout_receipt` to the admins. */
export function payoutReceiptHandler({ admins, language }: AdminMessagesDeps): OutboxHandler {
  return ({ payload }) =>
    admins.deliver(payoutReceiptText(language, payload as PayoutReceipt), 'payout_receipt');
}

/** Brings outbox kind `admin_alert` to the admins. */
export function alertHandler({ admins, language }: AdminMessagesDeps): OutboxHandler {
  return ({ payload }) => {
    const { raised, detail } = payload as AlertMessage;
    return admins.deliver(textIn(language, raised ? 'alert-raised' : 'alert-cleared', { detail }), 'alert');
  };
}

/** A day's report as a message. */
export function dailyReportText(language: Language, report: DailyReport): string {
  const t: Say = (id, args) => textIn(language, id, args);
  const named = report.buyers.slice(0, BUYERS_MAX);
  const others = report.buyers.length - named.length;
  return [
    t('report-day', {
      day: report.day,
      total: gigabytes(BigInt(report.bytes_up) + BigInt(report.bytes_down)),
      up: gigabytes(report.bytes_up),
      down: gigabytes(report.bytes_down),
      charged: dollars(report.charged),
      earned: dollars(report.earned),
      referrals: dollars(report.referrals),
      revenue: dollars(report.revenue),
      topups: dollars(report.top_ups),
      payouts: report.payouts_completed,
      paid: dollars(report.paid_out),
      providers: report.active_providers,
      buyers: report.active_buyers,
      sessions: report.sessions_completed,
      newUsers: report.new_users,
      newBuyers: report.new_buyers,
    }),
    ...(named.length === 0 ? [] : ['', t('report-by-buyer')]),
    ...named.map(({ account, name, bytes_up, bytes_down, charged }) =>
      t('report-buyer', {
        account,
        name,
        gigabytes: gigabytes(BigInt(bytes_up) + BigInt(bytes_down)),
        charged: dollars(charged),
      }),
    ),
    ...(others > 0 ? [t('report-more', { count: others })] : []),
  ].join('\n');
}

/** What became of a payout, as a message. */
export function payoutReceiptText(language: Language, receipt: PayoutReceipt): string {
  const t: Say = (id, args) => textIn(language, id, args);
  const { currency, network, target, tx_reference: transaction } = receipt;
  const paid = receipt.status === 'completed';
  const head = { amount: dollars(receipt.amount), currency, network };
  return [
    paid ? t('receipt-paid', head) : t('receipt-failed', head),
    t('receipt-target', { target }),
    ...(transaction === null ? [] : [t('receipt-transaction', { transaction })]),
    ...(paid ? [] : [t('receipt-reason', { reason: receipt.failure_reason ?? t('receipt-no-reason') })]),
    t('receipt-provider', { provider: receipt.user_id }),
    t('receipt-payment', { payment: receipt.payment_id }),
  ].join('\n');
}
