import type { BuyerAbuseContent } from '../notices/notices.js';
import { type Say, textIn } from '../texts/fluent.js';
import type { Language } from '../users/users.js';

/** What was seen, by rule: of what kind it is, never how much of it is too much. */
const SEEN: Readonly<Record<string, string>> = {
  fan_out: 'abuse-seen-scan',
  failed_dials: 'abuse-seen-scan',
  blocked_targets: 'abuse-seen-blocked',
  target_by_devices: 'abuse-seen-target',
  target_by_buyers: 'abuse-seen-target',
  reported: 'abuse-seen-reported',
};
const HAPPENS = {
  warned: 'abuse-warned',
  throttled: 'abuse-throttled',
  suspended: 'abuse-suspended',
  lifted: 'abuse-lifted',
} as const;

/** What a buyer is told: of what account, what was seen, what happens, what to do. */
export function buyerAbuseText(language: Language, content: Omit<BuyerAbuseContent, 'kind'>): string {
  const { what, rule, message, contact, account } = content;
  const t: Say = (id, args) => textIn(language, id, args);
  const parts = [t('abuse-account', { account })];
  if (what !== 'lifted') parts.push(t(SEEN[rule] ?? 'abuse-seen-other'));
  parts.push(t(HAPPENS[what]));
  if (message !== null) parts.push(t('abuse-message', { message }));
  if (what !== 'lifted') parts.push(contact === null ? t('abuse-do') : t('abuse-do-contact', { contact }));
  return parts.join('\n');
}
