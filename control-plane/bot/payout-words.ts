import type { Payout } from '../payouts/payouts.js';
import { REFUSALS } from '../payouts/step-text.js';
import type { Keyboard } from '../telegram/telegram-queue.js';
import type { Say } from '../texts/fluent.js';
import { dollars } from '../texts/words.js';

export const PAYOUT_STATUSES = {
  pending: 'payout-status-pending',
  processing: 'payout-status-processing',
  completed: 'payout-status-completed',
  failed: 'payout-status-failed',
  cancelled: 'payout-status-cancelled',
} as const satisfies Record<Payout['status'], string>;

/** A payout as admins decide on it. */
export function payoutRequestText(t: Say, payout: Payout): string {
  return t('payout-request', {
    amount: dollars(payout.amountMicros),
    network: payout.network,
    address: payout.target,
    provider: payout.userId,
    payment: payout.id,
  });
}

/** Approve or refuse. The buttons carry the id; who presses is checked when they do. */
export const decisionKeyboard = (t: Say, payoutId: string): Keyboard => [
  [
    { text: t('payout-approve'), callback_data: `payout:yes:${payoutId}` },
    { text: t('payout-refuse'), callback_data: `payout:no:${payoutId}` },
  ],
];

/** Why it is refused. */
export const reasonKeyboard = (t: Say, payoutId: string): Keyboard => [
  ...REFUSALS.map((id, i) => [{ text: t(id), callback_data: `payout:why:${payoutId}:${i}` }]),
  [{ text: t('payout-back'), callback_data: `payout:back:${payoutId}` }],
];
