import type { Queryable } from '../db/pool.js';
import { notify } from '../inbox/inbox.js';
import { putIntoOutbox } from '../jobs/outbox.js';
import { formatMicros } from '../ledger/money.js';
import { type PayoutStep, type PayoutStepContent, putNotices } from '../notices/notices.js';
import { findUser } from '../users/users.js';
import type { Payout } from './payouts.js';
import { payoutStepText } from './step-text.js';

/** Kind of the outbox messages that tell the admins what became of a payout. */
export const PAYOUT_RECEIPT_OUTBOX = 'payout_receipt';

/** Their payload. */
export interface PayoutReceipt {
  payment_id: string;
  user_id: string;
  status: 'completed' | 'failed';
  /** Decimal string, US dollars. */
  amount: string;
  currency: string;
  network: string;
  target: string;
  tx_reference: string | null;
  failure_reason: string | null;
}

/** A payout was paid or has failed: the admins are told, once, when the transaction is committed. */
export async function announcePayout(
  client: Queryable,
  payout: Payout,
  status: PayoutReceipt['status'],
): Promise<void> {
  const receipt: PayoutReceipt = {
    payment_id: payout.id,
    user_id: payout.userId,
    status,
    amount: formatMicros(payout.amountMicros),
    currency: payout.currency,
    network: payout.network,
    target: payout.target,
    tx_reference: payout.txReference,
    failure_reason: payout.failureReason,
  };
  await putIntoOutbox(client, [{ kind: PAYOUT_RECEIPT_OUTBOX, key: payout.id, payload: receipt }]);
}

/**
 * A step of a payout: its provider finds it in the inbox and is told by the bot, once, when the transaction is committed.
 * `inChat` false: the chat knows already.
 */
export async function tellProvider(
  client: Queryable,
  payout: Payout,
  step: PayoutStep,
  { inChat = true }: { inChat?: boolean } = {},
): Promise<void> {
  const { userId } = payout;
  const content: PayoutStepContent = {
    step,
    amountMicros: payout.amountMicros.toString(),
    network: payout.network,
    address: payout.target,
    transaction: payout.txReference,
    reason: payout.failureReason,
  };
  const user = await findUser(client, userId);
  await notify(client, { userId, kind: 'payout', ...payoutStepText(user?.language ?? 'en', content) });
  if (inChat)
    await putNotices(client, [
      { userId, key: `${payout.id}:${step}`, content: { kind: 'payout_step', ...content } },
    ]);
}
