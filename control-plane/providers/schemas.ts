import { type Static, Type } from 'typebox';
import { Money, Nullable, TelegramId, Timestamp, Uuid } from '../http/schemas.js';
import { LANGUAGES } from './users.js';

const HourOfDay = Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$', examples: ['22:30'] });

/** What a provider may set; the device honours it, and is told the daily cap again at WELCOME. */
export const ProviderSettings = Type.Object(
  {
    cap_bytes_per_day: Type.Optional(
      Nullable(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    ),
    cap_bytes_per_month: Type.Optional(
      Nullable(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    ),
    wifi_only: Type.Optional(Type.Boolean()),
    charging_only: Type.Optional(Type.Boolean()),
    hours: Type.Optional(
      Nullable(
        Type.Object(
          { from: HourOfDay, to: HourOfDay },
          { additionalProperties: false, description: "share between these times of the device's day" },
        ),
      ),
    ),
    notifications: Type.Optional(Type.Boolean()),
    blocked_destinations: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 254 }), { maxItems: 500, uniqueItems: true }),
    ),
  },
  { additionalProperties: false },
);
export type ProviderSettings = Static<typeof ProviderSettings>;

export const UpdateBody = Type.Object(
  {
    phone: Type.Optional(Nullable(Type.String({ pattern: '^\\+?[0-9]{5,20}$' }))),
    email: Type.Optional(Nullable(Type.String({ format: 'email', maxLength: 254 }))),
    language: Type.Optional(Type.Enum([...LANGUAGES])),
    settings: Type.Optional(ProviderSettings),
  },
  { additionalProperties: false, minProperties: 1 },
);

export const Consent = Type.Object({
  terms_version: Type.String(),
  accepted_at: Timestamp,
  current: Type.Boolean({
    description: 'whether these are the terms in force; if not, they must be accepted again',
  }),
});

export const ProfileSchema = Type.Object({
  id: Uuid,
  telegram_id: Nullable(TelegramId),
  username: Nullable(Type.String()),
  phone: Nullable(Type.String()),
  email: Nullable(Type.String()),
  language: Type.Enum([...LANGUAGES]),
  balance: Type.Object({ available: Money, pending: Money, currency: Type.Literal('USD') }),
  is_verified: Type.Boolean(),
  status: Type.Enum(['active', 'banned']),
  referral_code: Type.String(),
  settings: ProviderSettings,
  consent: Nullable(Consent),
  terms_version: Type.String({ description: 'of the terms in force' }),
  created_at: Timestamp,
});

export const LoginSchema = Type.Object({
  id: Uuid,
  ip: Nullable(Type.String()),
  user_agent: Nullable(Type.String()),
  created_at: Timestamp,
  last_used_at: Timestamp,
  current: Type.Boolean({ description: 'the login of this request' }),
});
