import { type TSchema, Type } from 'typebox';
import { Bytes, jsonBytes, Money, Nullable, pageQuery, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';
import type { DestinationSums } from './destinations.js';
import { type GroupSums, USAGE_GROUPS, type UsageTops } from './groups.js';
import type { BuyerUsage, Usage } from './usage.js';

const usageFields = { bytes_up: Bytes, bytes_down: Bytes, bytes: Bytes, charged: Money };
const day = Type.String({ format: 'date', examples: ['2026-11-26'] });

/** UTC days, both included; the last 30 by default. */
export const daysQuery = {
  from: Type.Optional(
    Type.String({ format: 'date', description: 'first UTC day; default 29 days before `to`' }),
  ),
  to: Type.Optional(Type.String({ format: 'date', description: 'last UTC day; default today' })),
};

/** Query of a buyer's usage. */
export const UsageQuery = Type.Object(
  {
    ...daysQuery,
    group_by: Type.Optional(
      Type.Enum([...USAGE_GROUPS], { description: 'lists all groups as `items`, page by page' }),
    ),
    ...pageQuery,
  },
  { additionalProperties: false },
);

const destinationFields = {
  host: Type.String({
    description:
      'name or address as asked for; `(other)` with port 0: too many at once to be told apart. Of UDP, what comes down ' +
      'is by the address that sent it',
    examples: ['www.example.com'],
  }),
  port: Type.Integer({ examples: [443] }),
};
const countFields = {
  bytes_up: Bytes,
  bytes_down: Bytes,
  bytes: Bytes,
  streams: Type.Integer({ description: 'connections opened', examples: [3] }),
  first_at: Timestamp,
  last_at: Timestamp,
};
const labelFields = {
  tag: Nullable(Type.String({ examples: ['prices'] })),
  session_name: Nullable(Type.String({ examples: ['s1'] })),
  sub_user_id: Nullable(Uuid),
};
const groupFields = {
  ...countFields,
  charged_share: Type.String({
    ...Money,
    description: 'its part, by bytes, of what was charged for the same days and countries',
  }),
};
const accountField = { account: Nullable(Type.String({ description: 'of the sub-user' })) };

const sumsExample = {
  host: 'www.example.com',
  port: 443,
  bytes_up: 1_240,
  bytes_down: 52_000,
  bytes: 53_240,
  streams: 3,
  first_at: '2026-11-26T08:15:00.000Z',
  last_at: '2026-11-26T08:16:30.000Z',
};

/** One destination with its sums. */
export const DestinationSchema = Type.Object(
  { ...destinationFields, ...countFields },
  { examples: [sumsExample] },
);

/** One destination on one day. */
export const DayDestinationSchema = Type.Object(
  { day, ...DestinationSchema.properties },
  { examples: [{ day: '2026-11-26', ...sumsExample }] },
);

/** One row as it is kept, for abuse handling. */
export const DestinationRowSchema = Type.Object({
  day,
  ...destinationFields,
  ...countFields,
  buyer_id: Uuid,
  buyer_account: Type.String(),
  ...labelFields,
  session_id: Uuid,
  allocation_id: Uuid,
  user_id: Type.String({ format: 'uuid', description: 'the provider' }),
  exit_ip: Type.String({ examples: ['198.51.100.7'] }),
  country: Type.String({ examples: ['DE'] }),
});

const GroupSchema = Type.Object(
  {
    day: Type.Optional(day),
    country: Type.Optional(Type.String()),
    tag: Type.Optional(labelFields.tag),
    session_name: Type.Optional(labelFields.session_name),
    sub_user_id: Type.Optional(labelFields.sub_user_id),
    account: Type.Optional(accountField.account),
    host: Type.Optional(destinationFields.host),
    port: Type.Optional(destinationFields.port),
    ...groupFields,
  },
  {
    description: 'with the fields that name a group of the kind asked for',
    examples: [{ ...sumsExample, charged_share: '0.000106' }],
  },
);

const top = <T extends TSchema>(item: T) =>
  Type.Union([Type.Null(), Type.Array(item)], {
    description:
      'the largest; null when the days have too much to sort: ask with `group_by`, or for fewer days',
  });

export const UsageFields = {
  from: Type.String({ format: 'date' }),
  to: Type.String({ format: 'date' }),
  currency: Type.Literal('USD'),
  total: Type.Object(usageFields),
  lifetime: Type.Object(usageFields),
  by_day: Type.Array(Type.Object({ day: Type.String({ format: 'date' }), ...usageFields })),
  by_country: Type.Array(Type.Object({ country: Type.String(), ...usageFields })),
  by_tag: top(Type.Object({ tag: labelFields.tag, ...groupFields })),
  by_session: top(Type.Object({ session_name: labelFields.session_name, ...groupFields })),
  by_sub_user: top(Type.Object({ sub_user_id: labelFields.sub_user_id, ...accountField, ...groupFields })),
  by_destination: top(Type.Object({ ...destinationFields, ...groupFields })),
  group_by: Type.Optional(Type.Enum([...USAGE_GROUPS])),
  items: Type.Optional(Type.Array(GroupSchema)),
  next_cursor: Type.Optional(Nullable(Type.String())),
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

/** The first day of those asked for that records are told of: what a legal hold keeps for longer is shown to nobody but admins. */
export function shownFrom(from: string, keptDays: number, nowMs: number): string {
  const kept = new Date(nowMs - keptDays * DAY_MS).toISOString().slice(0, 10);
  return from > kept ? from : kept;
}

const usageJson = (u: Usage) => ({
  bytes_up: jsonBytes(u.bytesUp),
  bytes_down: jsonBytes(u.bytesDown),
  bytes: jsonBytes(u.bytesUp + u.bytesDown),
  charged: formatMicros(u.chargedMicros),
});

const countsJson = (s: Omit<DestinationSums, 'host' | 'port'>) => ({
  bytes_up: jsonBytes(s.bytesUp),
  bytes_down: jsonBytes(s.bytesDown),
  bytes: jsonBytes(s.bytesUp + s.bytesDown),
  streams: Number(s.streams),
  first_at: s.firstAt.toISOString(),
  last_at: s.lastAt.toISOString(),
});

export const destinationJson = (s: DestinationSums) => ({ host: s.host, port: s.port, ...countsJson(s) });

/** A group with the fields that name it. */
export const groupJson = (g: GroupSums) => ({
  ...g.key,
  ...countsJson(g),
  charged_share: formatMicros(g.chargedShareMicros),
});

export function buyerUsageJson(
  days: { from: string; to: string },
  usage: BuyerUsage,
  tops: UsageTops | null,
) {
  const named = <K extends string>(groups: readonly GroupSums[] | undefined) =>
    (groups?.map(groupJson) ?? null) as Array<ReturnType<typeof groupJson> & Record<K, never>> | null;
  return {
    ...days,
    currency: 'USD' as const,
    total: usageJson(usage.total),
    lifetime: usageJson(usage.lifetime),
    by_day: usage.byDay.map((u) => ({ day: u.day, ...usageJson(u) })),
    by_country: usage.byCountry.map((u) => ({ country: u.country, ...usageJson(u) })),
    by_tag: named<'tag'>(tops?.tag),
    by_session: named<'session_name'>(tops?.session),
    by_sub_user: named<'sub_user_id' | 'account'>(tops?.sub_user),
    by_destination: named<'host' | 'port'>(tops?.host),
  };
}
