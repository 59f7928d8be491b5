import { type Static, Type } from 'typebox';
import { isCidr } from '../../gateway/runtime/addresses.js';
import { normalHostPattern } from '../../gateway/runtime/host-set.js';
import { Problem } from '../errors.js';
import type { ByteQuotas } from './quotas.js';

/** Entries of one list of limits: every gateway keeps them for each account in use. */
const LIST_MAX = 200;
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
/** An address or a range in CIDR notation; Postgres and the gateways check it further. */
export const CidrText = Type.String({
  minLength: 2,
  maxLength: 49,
  pattern: '^[0-9a-fA-F:.]+(/[0-9]{1,3})?$',
});
const HostPatternText = Type.String({ minLength: 1, maxLength: 255 });

/** The least bandwidth that can be set: below it, one piece (60 KiB) would make a stream wait for longer than 6 s. */
const BANDWIDTH_BYTES_PER_SECOND_MIN = 10_000;

/** What buyers and sub-users can both have. */
const commonLimits = {
  streams_max: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'streams open at once; then CONN_LIMIT' }),
  ),
  connections_per_second_max: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 100_000, description: 'new connections a second; then RATE_LIMIT' }),
  ),
  bandwidth_bytes_per_second_max: Type.Optional(
    Type.Integer({
      minimum: BANDWIDTH_BYTES_PER_SECOND_MIN,
      maximum: 1_000_000_000_000,
      description: 'both directions together, on each gateway; above it streams are slowed down',
    }),
  ),
  ports: Type.Optional(
    Type.Array(Port, {
      maxItems: LIST_MAX,
      uniqueItems: true,
      description: 'of the ports that are open otherwise, only these; others get PORT_BLOCKED',
    }),
  ),
  allowed_domains: Type.Optional(
    Type.Array(HostPatternText, {
      maxItems: LIST_MAX,
      description:
        'only these destinations: names, `.suffix` for a name and all below it, addresses, networks; others get ' +
        'TARGET_BLOCKED. Networks hold for destinations that are asked for by address',
    }),
  ),
  denied_domains: Type.Optional(
    Type.Array(HostPatternText, {
      maxItems: LIST_MAX,
      description: 'none of these, as in `allowed_domains`',
    }),
  ),
  bytes_per_day_max: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'up and down together, in a UTC day; then QUOTA_REACHED, and open streams are cut',
    }),
  ),
  bytes_per_month_max: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'the same in a UTC calendar month',
    }),
  ),
  passwordless_ips: Type.Optional(
    Type.Array(CidrText, { maxItems: LIST_MAX, description: 'client addresses that need no password' }),
  ),
};

/** Limits of one buyer, as the API and column `buyers.limits` hold them. What is left out has its default. */
export const BuyerLimits = Type.Object(
  {
    ...commonLimits,
    extra_ports: Type.Optional(
      Type.Array(Port, { maxItems: 100, description: 'allowed beside 80 and 443, for UDP 53 and 443' }),
    ),
    granted_ports: Type.Optional(
      Type.Array(Port, { maxItems: 100, description: 'of the never-allowed ports, granted by an admin' }),
    ),
    udp: Type.Optional(
      Type.Boolean({
        description: 'UDP through SOCKS5 ASSOCIATE, granted by an admin; without it UDP_NOT_ALLOWED',
      }),
    ),
    allowed_ips: Type.Optional(
      Type.Array(CidrText, {
        maxItems: LIST_MAX,
        description: 'client addresses that may use the proxy at all, with whatever credential; empty: any',
      }),
    ),
  },
  {
    additionalProperties: false,
    description: 'They hold for the sum over the buyer and all sub-users.',
    examples: [
      {
        streams_max: 500,
        bandwidth_bytes_per_second_max: 12_500_000,
        allowed_domains: ['example.com', '.example.org'],
        allowed_ips: ['192.0.2.0/24'],
      },
    ],
  },
);
export type BuyerLimits = Static<typeof BuyerLimits>;

/** Limits of one sub-user, as the API and column `sub_users.limits` hold them; the buyer's hold as well. */
export const SubUserLimits = Type.Object(commonLimits, {
  additionalProperties: false,
  description: 'Within yours: both hold. What is left out is not limited further.',
  examples: [
    { streams_max: 20, bandwidth_bytes_per_second_max: 1_250_000, denied_domains: ['.example.net'] },
  ],
});
export type SubUserLimits = Static<typeof SubUserLimits>;

/** What holds for a buyer without a limit of their own. */
export const BUYER_LIMIT_DEFAULTS = {
  streams_max: 2_000,
  connections_per_second_max: 500,
} as const;

const PORTS_OPEN_TO_ALL: readonly number[] = [80, 443];

/** The part of the limits that is counted in Postgres. */
export function byteQuotasOf(limits: BuyerLimits | SubUserLimits): ByteQuotas {
  return {
    bytesPerDayMax: limits.bytes_per_day_max ?? null,
    bytesPerMonthMax: limits.bytes_per_month_max ?? null,
  };
}

type FieldErrors = Array<{ path: string; message: string }>;

/**
 * A buyer's limits in the form that is stored: destinations in one spelling each. Throws `validation_failed` with
 * every entry that could never match.
 */
export function normalBuyerLimits(limits: BuyerLimits): BuyerLimits {
  const errors = networkErrors({
    passwordless_ips: limits.passwordless_ips,
    allowed_ips: limits.allowed_ips,
  });
  const open = [...PORTS_OPEN_TO_ALL, ...(limits.extra_ports ?? []), ...(limits.granted_ports ?? [])];
  limits.ports?.forEach((port, i) => {
    const message = 'is not open to the buyer: it must be in extra_ports or granted_ports, too';
    if (!open.includes(port)) errors.push({ path: `/body/limits/ports/${i}`, message });
  });
  return withNormalHosts(limits, errors);
}

/** As `normalBuyerLimits`. A sub-user's ports narrow what is open to the buyer, now and later. */
export function normalSubUserLimits(limits: SubUserLimits): SubUserLimits {
  return withNormalHosts(limits, networkErrors({ passwordless_ips: limits.passwordless_ips }));
}

function networkErrors(lists: Record<string, readonly string[] | undefined>): FieldErrors {
  const message = 'must be an address or a network such as 192.0.2.0/24';
  return Object.entries(lists).flatMap(([key, entries = []]) =>
    entries.flatMap((text, i) => (isCidr(text) ? [] : [{ path: `/body/limits/${key}/${i}`, message }])),
  );
}

function withNormalHosts<T extends BuyerLimits | SubUserLimits>(limits: T, errors: FieldErrors): T {
  const next = { ...limits };
  for (const key of ['allowed_domains', 'denied_domains'] as const) {
    const entries = limits[key];
    if (entries === undefined) continue;
    const normal = entries.map((text, i) => {
      const message = 'must be a name, a .suffix, an address or a network';
      const entry = normalHostPattern(text);
      if (entry === null) errors.push({ path: `/body/limits/${key}/${i}`, message });
      return entry ?? text;
    });
    next[key] = [...new Set(normal)];
  }
  if (errors.length > 0) throw new Problem('validation_failed', undefined, { errors });
  return next;
}

const INVALID_TEXT_REPRESENTATION = '22P02';

/** A bad address in a list of CIDRs is the caller's mistake, found by Postgres; anything else stays what it is. */
export function asCidrProblem(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code === INVALID_TEXT_REPRESENTATION
    ? new Problem('validation_failed', undefined, {
        errors: [{ path: '/body/allowed_ips', message: 'must be networks such as 192.0.2.0/24' }],
      })
    : error;
}
