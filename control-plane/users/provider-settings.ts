import { type Static, Type } from 'typebox';
import { Nullable } from '../http/schemas.js';

const HourOfDay = Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$', examples: ['22:30'] });

/** What a provider may set, for all devices; each is told with every start and report (`owner-rules.ts`). */
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
