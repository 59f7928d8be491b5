import type { Static } from 'typebox';
import type { DailyReportSchema } from '../figures/daily-report.js';
import type { OutboxHandler } from '../jobs/outbox.js';
import type { PayoutReceipt } from '../payouts/receipts.js';
import type { AdminChannel } from '../telegram/admin-channel.js';

type DailyReport = Static<typeof DailyReportSchema>;

/** Buyers that a report names; the others are counted. */
const BUYERS_MAX = 20;

/** Brings outbox kind `daily_report` to the admins. */
export function dailyReportHandler(admins: AdminChannel): OutboxHandler {
  return ({ payload }) => admins.deliver(dailyReportText(payload as DailyReport), 'daily_report');
}

/** Brings outbox kind `payout_receipt` to the admins. */
export function payoutReceiptHandler(admins: AdminChannel): OutboxHandler {
  return ({ payload }) => admins.deliver(payoutReceiptText(payload as PayoutReceipt), 'payout_receipt');
}

/** A day's report as a message. */
export function dailyReportText(report: DailyReport): string {
  const named = report.buyers.slice(0, BUYERS_MAX);
  const others = report.buyers.length - named.length;
  const total = BigInt(report.bytes_up) + BigInt(report.bytes_down);
  return [
    `Daily report ${report.day} (UTC)`,
    '',
    `Traffic: ${gigabytes(total)} (up ${gigabytes(report.bytes_up)}, down ${gigabytes(report.bytes_down)})`,
    `Charged ${usd(report.charged)}, earned ${usd(report.earned)}, ` +
      `referrals ${usd(report.referrals)}, revenue ${usd(report.revenue)}`,
    `Top-ups: ${usd(report.top_ups)}`,
    `Payouts: ${report.payouts_completed}, ${usd(report.paid_out)}`,
    `Active: ${report.active_providers} providers, ${report.active_buyers} buyers; ` +
      `${report.sessions_completed} sessions completed`,
    `New: ${report.new_users} users, ${report.new_buyers} buyers`,
    ...(named.length === 0 ? [] : ['', 'By buyer:']),
    ...named.map(
      (buyer) =>
        `${buyer.account} (${buyer.name}): ${gigabytes(BigInt(buyer.bytes_up) + BigInt(buyer.bytes_down))}, ${usd(buyer.charged)}`,
    ),
    ...(others > 0 ? [`and ${others} more`] : []),
  ].join('\n');
}

/** What became of a payout, as a message. */
export function payoutReceiptText(receipt: PayoutReceipt): string {
  const paid = receipt.status === 'completed';
  return [
    `Payout ${paid ? 'paid' : 'failed'}: ${usd(receipt.amount)} in ${receipt.currency} over ${receipt.network}`,
    `To ${receipt.target}`,
    ...(receipt.tx_reference === null ? [] : [`Transaction ${receipt.tx_reference}`]),
    ...(paid
      ? []
      : [`Reason: ${receipt.failure_reason ?? 'none given'}. The money is available to the provider again.`]),
    `Provider ${receipt.user_id}`,
    `Payment ${receipt.payment_id}`,
  ].join('\n');
}

/** `"12.345000"` → `$12.345`, two places at least. */
function usd(amount: string): string {
  const text = amount.replace(/(\.\d\d\d*?)0+$/, '$1');
  return text.startsWith('-') ? `-$${text.slice(1)}` : `$${text}`;
}

/** Two places, rounded to the nearest. 1 GB = 10⁹ bytes. */
function gigabytes(bytes: bigint | number | string): string {
  const hundredths = (BigInt(bytes) + 5_000_000n) / 10_000_000n;
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, '0')} GB`;
}
