import { Type } from 'typebox';
import { Bytes, jsonBytes, Money, Nullable, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros, MONEY_PATTERN } from '../ledger/money.js';
import type { Buyer } from './buyers.js';
import { BuyerLimits, CidrText } from './limits.js';
import type { BuyerToken } from './tokens.js';

export const BuyerStatus = Type.Enum(['active', 'suspended', 'closed']);
export const KycStatus = Type.Enum(['pending', 'approved', 'rejected']);

export const BuyerSchema = Type.Object({
  id: Uuid,
  account: Type.String({ description: 'the proxy username' }),
  name: Type.String(),
  contact: Nullable(Type.String()),
  region: Nullable(Type.String()),
  status: BuyerStatus,
  kyc_status: KycStatus,
  aup_accepted_at: Nullable(Timestamp),
  price_per_gb: Nullable(Money),
  limits: BuyerLimits,
  balance: Money,
  held: Money,
  available: Money,
  currency: Type.Literal('USD'),
  stats: Type.Object({
    bytes: Bytes,
    bytes_today: Type.Union(Bytes.anyOf, { description: 'UTC; what `bytes_per_day_max` counts' }),
    bytes_this_month: Type.Union(Bytes.anyOf, { description: 'UTC; what `bytes_per_month_max` counts' }),
    charged: Money,
    live_allocations: Type.Integer(),
  }),
  created_at: Timestamp,
  updated_at: Timestamp,
});

export function buyerJson(b: Buyer) {
  return {
    id: b.id,
    account: b.account,
    name: b.name,
    contact: b.contact,
    region: b.region,
    status: b.status,
    kyc_status: b.kycStatus,
    aup_accepted_at: b.aupAcceptedAt?.toISOString() ?? null,
    price_per_gb: b.priceMicrosPerGb === null ? null : formatMicros(b.priceMicrosPerGb),
    limits: b.limits,
    balance: formatMicros(b.balanceMicros),
    held: formatMicros(b.heldMicros),
    available: formatMicros(b.balanceMicros - b.heldMicros),
    currency: 'USD' as const,
    stats: {
      bytes: jsonBytes(b.bytes),
      bytes_today: jsonBytes(b.bytesToday),
      bytes_this_month: jsonBytes(b.bytesThisMonth),
      charged: formatMicros(b.chargedMicros),
      live_allocations: b.liveAllocations,
    },
    created_at: b.createdAt.toISOString(),
    updated_at: b.updatedAt.toISOString(),
  };
}

const Name = Type.String({ minLength: 1, maxLength: 200 });
const Contact = Type.String({ maxLength: 200 });
const Region = Type.String({ maxLength: 40 });
const Price = Type.String({ pattern: MONEY_PATTERN, description: 'US dollars a GB, from 0 to 1000' });

export const NewBuyerBody = Type.Object(
  {
    name: Name,
    contact: Type.Optional(Nullable(Contact)),
    region: Type.Optional(Nullable(Region)),
    account: Type.Optional(
      Type.String({ pattern: '^[a-z0-9]{4,32}$', description: 'proxy username; drawn when left out' }),
    ),
    price_per_gb: Type.Optional(Nullable(Price)),
    limits: Type.Optional(BuyerLimits),
    kyc_status: Type.Optional(KycStatus),
  },
  {
    additionalProperties: false,
    examples: [{ name: 'Acme Scraping', contact: 'ops@acme.example', region: 'EU' }],
  },
);

export const BuyerPatch = Type.Object(
  {
    name: Type.Optional(Name),
    contact: Type.Optional(Nullable(Contact)),
    region: Type.Optional(Nullable(Region)),
    status: Type.Optional(BuyerStatus),
    price_per_gb: Type.Optional(Nullable(Price)),
    limits: Type.Optional(BuyerLimits),
    kyc_status: Type.Optional(KycStatus),
  },
  {
    additionalProperties: false,
    minProperties: 1,
    examples: [{ kyc_status: 'approved', limits: { streams_max: 5_000 } }],
  },
);

export const TokenBody = Type.Object(
  {
    expires_at: Type.Optional(Nullable(Timestamp)),
    description: Type.Optional(Nullable(Type.String({ maxLength: 200 }))),
    scopes: Type.Optional(
      Type.Array(Type.Enum(['proxy', 'api']), { minItems: 1, maxItems: 2, uniqueItems: true }),
    ),
    allowed_ips: Type.Optional(Type.Array(CidrText, { maxItems: 100 })),
  },
  { additionalProperties: false },
);

export const TokenSchema = Type.Object({
  id: Uuid,
  buyer_id: Uuid,
  kind: Type.Enum(['token', 'proxy_password']),
  prefix: Type.String({ description: 'first characters of the secret' }),
  scopes: Type.Array(Type.String()),
  allowed_ips: Type.Array(Type.String()),
  description: Nullable(Type.String()),
  expires_at: Nullable(Timestamp),
  last_used_at: Nullable(Timestamp),
  created_at: Timestamp,
  revoked_at: Nullable(Timestamp),
});

export function tokenJson(k: BuyerToken) {
  return {
    id: k.id,
    buyer_id: k.buyerId,
    kind: k.kind,
    prefix: k.prefix,
    scopes: k.scopes,
    allowed_ips: k.allowedIps,
    description: k.description,
    expires_at: k.expiresAt?.toISOString() ?? null,
    last_used_at: k.lastUsedAt?.toISOString() ?? null,
    created_at: k.createdAt.toISOString(),
    revoked_at: k.revokedAt?.toISOString() ?? null,
  };
}

/** Where proxies listen, as buyers are told. */
export interface ProxyAddress {
  host: string;
  port: number;
}

export const ProxySchema = Type.Object({
  host: Type.String(),
  ports: Type.Object({ http: Type.Integer(), https: Type.Integer(), socks5: Type.Integer() }),
  username: Type.String(),
  password: Type.String({ description: 'shown once' }),
});

/** One port speaks every protocol; it is named for each, so that clients need not know. */
export function proxyJson(address: ProxyAddress, username: string, password: string) {
  const { host, port } = address;
  return { host, ports: { http: port, https: port, socks5: port }, username, password };
}
