import type { PayoutStep, PayoutStepContent } from '../notices/notices.js';
import { type Say, textIn } from '../texts/fluent.js';
import { dollars } from '../texts/words.js';
import type { Language } from '../users/users.js';

/** Why an admin refuses a payout by a button. */
export const REFUSALS = ['payout-reason-address', 'payout-reason-fraud', 'payout-reason-limits'] as const;

/** As it is kept with the payout: in English, whoever pressed. */
export const refusalText = (index: number): string | null =>
  REFUSALS[index] === undefined ? null : textIn('en', REFUSALS[index]);

/** The reason that is kept with a payout, in another language when it came by a button; '' for none. */
export function refusalReason(t: Say, kept: string | null): string {
  const id = REFUSALS.find((one) => textIn('en', one) === kept);
  return id === undefined ? (kept ?? '') : t(id);
}

const TITLES = {
  requested: 'payout-title-requested',
  processing: 'payout-title-processing',
  sent: 'payout-title-sent',
  completed: 'payout-title-completed',
  failed: 'payout-title-failed',
  cancelled: 'payout-title-cancelled',
} as const satisfies Record<PayoutStep, string>;

/** What the provider is told of a step: in the chat its `body`, in the inbox with a title. */
export function payoutStepText(
  language: Language,
  content: PayoutStepContent,
): { title: string; body: string } {
  const t: Say = (id, args) => textIn(language, id, args);
  return { title: t(TITLES[content.step]), body: bodyOf(t, content).trim() };
}

function bodyOf(t: Say, content: PayoutStepContent): string {
  const { network, address } = content;
  const amount = dollars(BigInt(content.amountMicros));
  const transaction = content.transaction ?? '-';
  const reason = refusalReason(t, content.reason);
  switch (content.step) {
    case 'requested':
      return t('payout-requested', { amount, network, address });
    case 'processing':
      return t('payout-processing', { amount, network });
    case 'sent':
      return t('payout-sent', { amount, network, address, transaction });
    case 'completed':
      return t('payout-completed', { amount, network, address, transaction });
    case 'failed':
      return t('payout-failed', { amount, network, reason });
    case 'cancelled':
      return t('payout-cancelled', { amount, network, reason });
  }
}
