import { Type } from 'typebox';
import { TelegramId, Uuid } from '../http/schemas.js';

export const TokenPairSchema = Type.Object({
  access_token: Type.String(),
  refresh_token: Type.String({ description: 'shown once; good for one refresh' }),
  expires_in: Type.Integer({ description: 'seconds the access token lives' }),
  token_type: Type.Literal('Bearer'),
});

export const AdminTokenSchema = Type.Object({
  user_id: Uuid,
  access_token: Type.String(),
  expires_in: Type.Integer({ description: 'seconds the access token lives; then sign in again' }),
  token_type: Type.Literal('Bearer'),
});

export const RegisterBody = Type.Object(
  {
    telegram_id: TelegramId,
    phone: Type.Optional(Type.String({ pattern: '^\\+?[0-9]{5,20}$', examples: ['+998901234567'] })),
    username: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    referral_code: Type.Optional(Type.String({ minLength: 1, maxLength: 32 })),
  },
  { additionalProperties: false },
);

export const TelegramIdBody = Type.Object({ telegram_id: TelegramId }, { additionalProperties: false });

export const VerifyCodeBody = Type.Object(
  { telegram_id: TelegramId, code: Type.String({ pattern: '^[0-9]{6}$', examples: ['123456'] }) },
  { additionalProperties: false },
);

export const RefreshBody = Type.Object(
  { refresh_token: Type.String({ minLength: 1, maxLength: 200 }) },
  { additionalProperties: false },
);

export const LogoutBody = Type.Object(
  { all: Type.Optional(Type.Boolean({ description: 'every login of mine, not only this one' })) },
  { additionalProperties: false },
);

export const InitDataBody = Type.Object(
  {
    init_data: Type.String({
      minLength: 1,
      maxLength: 8_192,
      description: 'Telegram.WebApp.initData, as it is',
    }),
  },
  { additionalProperties: false },
);

const WidgetText = Type.Optional(Type.String({ maxLength: 1_024 }));
/** Every field is part of what Telegram signed; an unknown one would break the signature anyway. */
export const LoginWidgetBody = Type.Object(
  {
    id: TelegramId,
    first_name: WidgetText,
    last_name: WidgetText,
    username: WidgetText,
    photo_url: WidgetText,
    auth_date: Type.Integer({ minimum: 0 }),
    hash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  },
  { additionalProperties: false, description: 'what the Login Widget hands to the page' },
);
