import { Type } from 'typebox';
import { Money, Nullable, TelegramId, Timestamp, Uuid } from '../http/schemas.js';
import { ProviderSettings } from '../users/provider-settings.js';
import { LANGUAGES } from '../users/users.js';

export const UpdateBody = Type.Object(
  {
    phone: Type.Optional(Nullable(Type.String({ pattern: '^\\+?[0-9]{5,20}$' }))),
    email: Type.Optional(Nullable(Type.String({ format: 'email', maxLength: 254 }))),
    language: Type.Optional(Type.Enum([...LANGUAGES])),
    settings: Type.Optional(ProviderSettings),
  },
  {
    additionalProperties: false,
    minProperties: 1,
    examples: [{ language: 'ru', settings: { wifi_only: true, cap_bytes_per_day: 2_000_000_000 } }],
  },
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
