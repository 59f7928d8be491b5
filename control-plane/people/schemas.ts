import { Type } from 'typebox';
import { BalanceSchema } from '../balance/schemas.js';
import { DeviceSchema } from '../devices/device-list.js';
import { Money, Nullable, TelegramId, Timestamp, Uuid } from '../http/schemas.js';
import { SessionSchema } from '../traffic/session-view.js';
import { ProviderSettings } from '../users/provider-settings.js';
import { LANGUAGES } from '../users/users.js';

export const UserStatus = Type.Enum(['active', 'banned', 'deleted']);
export const UserParams = Type.Object({ id: Uuid }, { additionalProperties: false });

const Phone = Type.String({ pattern: '^\\+?[0-9]{5,20}$', examples: ['+998901234567'] });
const Username = Type.String({ minLength: 1, maxLength: 64 });
const Email = Type.String({ format: 'email', maxLength: 254 });
const LanguageSchema = Type.Enum([...LANGUAGES]);

/** A user as admins see them in a list. */
export const UserSchema = Type.Object({
  id: Uuid,
  telegram_id: Nullable(TelegramId),
  username: Nullable(Type.String()),
  phone: Nullable(Type.String()),
  email: Nullable(Type.String()),
  language: LanguageSchema,
  status: UserStatus,
  is_verified: Type.Boolean(),
  is_admin: Type.Boolean(),
  ban_reason: Nullable(Type.String()),
  banned_at: Nullable(Timestamp),
  deleted_at: Nullable(Timestamp),
  country: Nullable(Type.String({ description: 'where a device of theirs was seen last' })),
  devices: Type.Integer({ description: 'registered and not removed' }),
  available: Money,
  pending: Money,
  referral_code: Type.String(),
  created_at: Timestamp,
});

export const TelegramAccountSchema = Type.Object({
  index: Type.Integer({ description: 'what it is unlinked by; stays when others go' }),
  telegram_id: TelegramId,
  username: Nullable(Type.String()),
  main: Type.Boolean({ description: 'messages go to this one' }),
  linked_at: Timestamp,
});

/** One user with what belongs to them. */
export const UserDetailSchema = Type.Object({
  ...UserSchema.properties,
  settings: ProviderSettings,
  consent: Nullable(Type.Object({ terms_version: Type.String(), accepted_at: Timestamp })),
  balance: BalanceSchema,
  referred_by: Nullable(Uuid),
  telegrams: Type.Array(TelegramAccountSchema),
  device_list: Type.Array(DeviceSchema),
  sessions: Type.Array(SessionSchema, { description: 'the latest 20; more at /api/sessions' }),
  payments: Type.Array(
    Type.Object({
      payment_id: Uuid,
      status: Type.String(),
      amount: Money,
      network: Type.String(),
      target: Type.String(),
      tx_reference: Nullable(Type.String()),
      created_at: Timestamp,
      ended_at: Nullable(Timestamp),
    }),
    { description: 'the latest 20 payouts; more at /api/withdraw' },
  ),
});

export const NewUserBody = Type.Object(
  {
    telegram_id: TelegramId,
    username: Type.Optional(Username),
    phone: Type.Optional(Phone),
    email: Type.Optional(Email),
    language: Type.Optional(LanguageSchema),
    is_verified: Type.Optional(Type.Boolean({ description: 'default false' })),
    referral_code: Type.Optional(
      Type.String({ minLength: 1, maxLength: 32, description: 'of who invited them' }),
    ),
  },
  { additionalProperties: false, examples: [{ telegram_id: 700100200, username: 'ann', language: 'uz' }] },
);

export const UserPatch = Type.Object(
  {
    username: Type.Optional(Nullable(Username)),
    phone: Type.Optional(Nullable(Phone)),
    email: Type.Optional(Nullable(Email)),
    language: Type.Optional(LanguageSchema),
    is_verified: Type.Optional(Type.Boolean()),
    is_admin: Type.Optional(Type.Boolean()),
    settings: Type.Optional(ProviderSettings),
  },
  { additionalProperties: false, minProperties: 1, examples: [{ language: 'ru', is_verified: true }] },
);
