import { Type } from 'typebox';
import { Bytes, jsonBytes, Money } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { BuyerUsage, Usage } from './usage.js';

const usageFields = { bytes_up: Bytes, bytes_down: Bytes, bytes: Bytes, charged: Money };

/** Query of usage calls: UTC days, both included; the last 30 by default. */
export const UsageQuery = Type.Object(
  {
    from: Type.Optional(
      Type.String({ format: 'date', description: 'first UTC day; default 29 days before `to`' }),
    ),
    to: Type.Optional(Type.String({ format: 'date', description: 'last UTC day; default today' })),
  },
  { additionalProperties: false },
);

export const UsageFields = {
  from: Type.String({ format: 'date' }),
  to: Type.String({ format: 'date' }),
  currency: Type.Literal('USD'),
  total: Type.Object(usageFields),
  lifetime: Type.Object(usageFields),
  by_day: Type.Array(Type.Object({ day: Type.String({ format: 'date' }), ...usageFields })),
  by_country: Type.Array(Type.Object({ country: Type.String(), ...usageFields })),
};

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;

/** The days a usage query means. */
export function usageDays(
  query: { from?: string | undefined; to?: string | undefined },
  nowMs: number,
): { from: string; to: string } {
  const to = query.to ?? new Date(nowMs).toISOString().slice(0, 10);
  const from =
    query.from ?? new Date(Date.parse(to) - (DEFAULT_DAYS - 1) * DAY_MS).toISOString().slice(0, 10);
  return { from, to };
}

const usageJson = (u: Usage) => ({
  bytes_up: jsonBytes(u.bytesUp),
  bytes_down: jsonBytes(u.bytesDown),
  bytes: jsonBytes(u.bytesUp + u.bytesDown),
  charged: formatMicros(u.chargedMicros),
});

export function buyerUsageJson(days: { from: string; to: string }, usage: BuyerUsage) {
  return {
    ...days,
    currency: 'USD' as const,
    total: usageJson(usage.total),
    lifetime: usageJson(usage.lifetime),
    by_day: usage.byDay.map((u) => ({ day: u.day, ...usageJson(u) })),
    by_country: usage.byCountry.map((u) => ({ country: u.country, ...usageJson(u) })),
  };
}
