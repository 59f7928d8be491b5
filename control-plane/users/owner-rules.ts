import { type Static, Type } from 'typebox';
import type { Queryable } from '../db/pool.js';
import { Nullable } from '../http/schemas.js';
import type { ProviderSettings } from './provider-settings.js';

/**
 * What a provider's settings mean for a device at this moment. Told with every start and report; a device keeps to them
 * beside what was set on the device itself: the tighter one holds.
 */
export const OwnerRulesSchema = Type.Object(
  {
    cap_bytes_left: Nullable(
      Type.Integer({
        description:
          'until the nearer of the caps is used up, over all devices (UTC day and month); null: no cap',
      }),
    ),
    wifi_only: Type.Boolean(),
    charging_only: Type.Boolean(),
    hours: Nullable(Type.Object({ from: Type.String(), to: Type.String() })),
    blocked_destinations: Type.Array(Type.String()),
  },
  { description: 'what the owner set for all devices; the device keeps to it' },
);
export type OwnerRules = Static<typeof OwnerRulesSchema>;

/** The rules of a provider; null when there is no such user. */
export async function readOwnerRules(client: Queryable, userId: string): Promise<OwnerRules | null> {
  const { rows } = await client.query<{ settings: ProviderSettings }>(
    'SELECT settings FROM users WHERE id = $1',
    [userId],
  );
  const settings = rows[0]?.settings;
  if (settings === undefined) return null;
  const left = await readCapsLeft(client, userId, settings);
  const nearer = [left.day, left.month].filter((bytes) => bytes !== null);
  return {
    cap_bytes_left: nearer.length === 0 ? null : Math.min(...nearer),
    wifi_only: settings.wifi_only ?? false,
    charging_only: settings.charging_only ?? false,
    hours: settings.hours ?? null,
    blocked_destinations: settings.blocked_destinations ?? [],
  };
}

/** Bytes that a provider's caps still allow, by what is booked in this UTC day and month; null: no such cap. */
export async function readCapsLeft(
  client: Queryable,
  userId: string,
  settings: ProviderSettings,
): Promise<{ day: number | null; month: number | null }> {
  const { cap_bytes_per_day: perDay = null, cap_bytes_per_month: perMonth = null } = settings;
  if (perDay === null && perMonth === null) return { day: null, month: null };
  const { rows } = await client.query<{ day: bigint; month: bigint }>(
    `SELECT coalesce(sum(bytes_up + bytes_down) FILTER (WHERE day = utc_day()), 0)::bigint AS day,
            coalesce(sum(bytes_up + bytes_down), 0)::bigint AS month
       FROM usage_daily_provider WHERE user_id = $1 AND day >= utc_month() AND day <= utc_day()`,
    [userId],
  );
  const left = (cap: number | null, used = 0n) => (cap === null ? null : Math.max(0, cap - Number(used)));
  return { day: left(perDay, rows[0]?.day), month: left(perMonth, rows[0]?.month) };
}
