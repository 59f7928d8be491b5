import type { AnswerOf } from './api-types.js';

export type Settings = Omit<AnswerOf<'/api/admin/settings'>, 'proposals'>;
export type SettingName = keyof Settings;

export interface SettingField {
  name: SettingName;
  label: string;
  hint?: string;
  /** How its value is entered. */
  kind: 'text' | 'dollars' | 'whole' | 'bytes' | 'seconds' | 'percent' | 'networks' | 'stale';
}

/** Every business setting, in groups as people look for them. */
export const SETTING_GROUPS: readonly { title: string; fields: readonly SettingField[] }[] = [
  {
    title: 'Prices and earnings',
    fields: [
      {
        name: 'buyer_price_per_gb',
        label: 'Price per GB for buyers',
        kind: 'dollars',
        hint: 'Those without their own.',
      },
      {
        name: 'referral_percent',
        label: 'Inviters get, %',
        kind: 'percent',
        hint: 'Of what the invited earn.',
      },
      { name: 'hold_time_s', label: 'Earnings are pending for, seconds', kind: 'seconds' },
    ],
  },
  {
    title: 'Payouts',
    fields: [
      { name: 'withdraw_min', label: 'Smallest payout', kind: 'dollars' },
      { name: 'withdraw_daily_max', label: 'Most a user withdraws a day', kind: 'dollars' },
      {
        name: 'payout_auto_approve_max',
        label: 'Approved by itself up to',
        kind: 'dollars',
        hint: 'Raising it takes two admins.',
      },
      {
        name: 'payout_two_admin_min',
        label: 'Two admins above',
        kind: 'dollars',
        hint: 'Raising it takes two admins.',
      },
      { name: 'withdraw_networks', label: 'Networks', kind: 'networks' },
    ],
  },
  {
    title: 'Buyers',
    fields: [
      { name: 'topup_min', label: 'Smallest top-up', kind: 'dollars' },
      { name: 'topup_max', label: 'Greatest top-up', kind: 'dollars' },
      {
        name: 'star_price',
        label: 'A Telegram Star is worth',
        kind: 'dollars',
        hint: '0: no Stars are taken.',
      },
      { name: 'trial_bytes', label: 'Trial, bytes', kind: 'bytes' },
      { name: 'sub_users_max', label: 'Sub-users of one buyer', kind: 'whole' },
    ],
  },
  {
    title: 'App',
    fields: [
      {
        name: 'terms_version',
        label: 'Version of the terms',
        kind: 'text',
        hint: 'A new one asks every provider again; they stop until they agree.',
      },
      {
        name: 'min_client_version',
        label: 'Oldest app that may share',
        kind: 'text',
        hint: 'Such as 1.4.0.',
      },
      { name: 'app_latest', label: 'Latest app', kind: 'text' },
    ],
  },
  {
    title: 'Packages and reconciliation',
    fields: [
      { name: 'offer_bytes', label: 'Size of an offer, bytes', kind: 'bytes' },
      { name: 'stale_packages_become', label: 'Packages not used in time become', kind: 'stale' },
      {
        name: 'reconciliation_percent',
        label: 'Difference that is flagged, %',
        kind: 'percent',
        hint: 'Of a report against the meter.',
      },
      { name: 'reconciliation_bytes_min', label: 'From this difference on, bytes', kind: 'bytes' },
      { name: 'destination_retention_days', label: 'Destinations are kept for, days', kind: 'whole' },
    ],
  },
];

export const SETTING_FIELDS: readonly SettingField[] = SETTING_GROUPS.flatMap(({ fields }) => fields);

/** The value as text for its field. */
export function settingText(value: Settings[SettingName]): string {
  if (Array.isArray(value)) return value.join(',');
  // Amounts come with six digits behind the point: cents do, where there is no more.
  return String(value).replace(/^(\d+\.\d\d\d*?)0+$/, '$1');
}

/** The value of a field's text, as the API takes it; what does not fit goes as it is, for the API to say so. */
export function settingValue(field: SettingField, text: string): unknown {
  if (field.kind === 'networks') return text.split(',').filter((part) => part !== '');
  if (field.kind === 'text' || field.kind === 'dollars' || field.kind === 'stale') return text.trim();
  return /^-?[0-9]+$/.test(text.trim()) ? Number(text) : text.trim();
}
