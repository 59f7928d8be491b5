import type { AccountSnapshot, Restrictions } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import type { BuyerSelection } from '../live-state/live-state.js';
import { BUYER_LIMIT_DEFAULTS, type BuyerLimits, type SubUserLimits } from './limits.js';

type Status = AccountSnapshot['status'];

interface SnapshotRow {
  id: string;
  account: string;
  status: Status;
  kyc_status: AccountSnapshot['kycStatus'];
  aup_accepted_at: Date | null;
  price_micros_per_gb: bigint | null;
  limits: BuyerLimits;
  version: bigint;
  credentials: Array<{ id: string; sha256_hex: string; expires_ms: number | null; allowed_ips: string[] }>;
  sub_users: Array<{
    id: string;
    account: string;
    status: Status;
    sha256_hex: string;
    limited: boolean;
    allowed_ips: string[];
    limits: SubUserLimits;
    version: number;
  }>;
}

/**
 * What the gateways must know of these buyers and their sub-users, as committed now, in the order of the buyers' ids.
 * Credentials are those with the proxy scope that are neither revoked nor expired. A sub-user has the buyer's price,
 * limits and verification, limits and a password of its own and the stricter of both states; closed ones are left out
 * (`readGoneAccounts`).
 */
export async function readSnapshots(
  db: Queryable,
  selection: BuyerSelection,
  defaultPriceMicrosPerGb: bigint,
): Promise<AccountSnapshot[]> {
  const some = 'buyerIds' in selection;
  const { rows } = await db.query<SnapshotRow>(
    `SELECT b.id, b.account, b.status, b.kyc_status, b.aup_accepted_at, b.price_micros_per_gb, b.limits, b.version,
            coalesce((SELECT jsonb_agg(jsonb_build_object(
                               'id', k.id, 'sha256_hex', encode(k.token_hash, 'hex'),
                               'expires_ms', floor(extract(epoch FROM k.expires_at) * 1000)::bigint,
                               'allowed_ips', k.allowed_ips::text[]) ORDER BY k.created_at, k.id)
                        FROM buyer_tokens k
                       WHERE k.buyer_id = b.id AND k.revoked_at IS NULL AND 'proxy' = ANY (k.scopes)
                         AND (k.expires_at IS NULL OR k.expires_at > now())), '[]') AS credentials,
            coalesce((SELECT jsonb_agg(jsonb_build_object(
                               'id', s.id, 'account', s.account, 'status', s.status,
                               'sha256_hex', encode(s.password_hash, 'hex'), 'limited', s.bytes_max IS NOT NULL,
                               'allowed_ips', s.allowed_ips::text[], 'limits', s.limits, 'version', s.version) ORDER BY s.id)
                        FROM sub_users s WHERE s.buyer_id = b.id AND s.status <> 'closed'), '[]') AS sub_users
       FROM buyers b
      WHERE ${some ? 'b.id = ANY ($1::uuid[])' : 'b.id > $1::uuid'}
      ORDER BY b.id ${some ? '' : 'LIMIT $2'}`,
    some ? [selection.buyerIds] : [selection.afterId, selection.limit],
  );
  return rows.flatMap((row) => snapshotsOf(row, defaultPriceMicrosPerGb));
}

function snapshotsOf(r: SnapshotRow, defaultPriceMicrosPerGb: bigint): AccountSnapshot[] {
  const { limits } = r;
  const own: AccountSnapshot = {
    account: r.account,
    buyerId: r.id,
    subUser: null,
    status: r.status,
    kycStatus: r.kyc_status,
    aupAccepted: r.aup_accepted_at !== null,
    credentials: r.credentials.map((c) => ({
      tokenId: c.id,
      sha256Hex: c.sha256_hex,
      expiresAtMs: c.expires_ms,
      allowedIps: c.allowed_ips,
    })),
    passwordlessIps: limits.passwordless_ips ?? [],
    priceMicrosPerGb: (r.price_micros_per_gb ?? defaultPriceMicrosPerGb).toString(),
    limits: {
      streamsMax: limits.streams_max ?? BUYER_LIMIT_DEFAULTS.streams_max,
      connectionsPerSecondMax:
        limits.connections_per_second_max ?? BUYER_LIMIT_DEFAULTS.connections_per_second_max,
      extraPorts: limits.extra_ports ?? [],
      grantedPorts: limits.granted_ports ?? [],
      udp: limits.udp ?? false,
      ...restrictionsOf(limits, limits.allowed_ips ?? []),
    },
    version: Number(r.version),
  };
  const subUsers = r.sub_users.map(
    (s): AccountSnapshot => ({
      ...own,
      account: s.account,
      subUser: {
        id: s.id,
        limited: s.limited,
        limits: {
          streamsMax: s.limits.streams_max ?? null,
          connectionsPerSecondMax: s.limits.connections_per_second_max ?? null,
          ...restrictionsOf(s.limits, s.allowed_ips),
        },
      },
      status: stricter(r.status, s.status),
      credentials: [{ tokenId: s.id, sha256Hex: s.sha256_hex, expiresAtMs: null, allowedIps: s.allowed_ips }],
      // An address that opens the buyer's own account does not say which sub-user it is.
      passwordlessIps: s.limits.passwordless_ips ?? [],
      version: own.version + s.version,
    }),
  );
  return [own, ...subUsers];
}

function restrictionsOf(limits: BuyerLimits | SubUserLimits, allowedIps: string[]): Restrictions {
  return {
    bandwidthBytesPerSecondMax: limits.bandwidth_bytes_per_second_max ?? null,
    ports: limits.ports ?? [],
    allowedDomains: limits.allowed_domains ?? [],
    deniedDomains: limits.denied_domains ?? [],
    allowedIps,
    quotas: [
      ...(limits.bytes_per_day_max === undefined ? [] : ['day' as const]),
      ...(limits.bytes_per_month_max === undefined ? [] : ['month' as const]),
    ],
  };
}

function stricter(a: Status, b: Status): Status {
  const order: readonly Status[] = ['active', 'suspended', 'closed'];
  return order.indexOf(a) >= order.indexOf(b) ? a : b;
}

/**
 * Accounts of these buyers that no gateway may know any more: closed sub-users. Of named buyers those of the last
 * day, which is more than any publishing takes; of a walk over all of them every one.
 */
export async function readGoneAccounts(db: Queryable, selection: BuyerSelection): Promise<string[]> {
  const some = 'buyerIds' in selection;
  const { rows } = await db.query<{ account: string }>(
    some
      ? `SELECT account FROM sub_users
          WHERE buyer_id = ANY ($1::uuid[]) AND status = 'closed' AND updated_at > now() - interval '1 day'`
      : `SELECT s.account FROM (SELECT id FROM buyers WHERE id > $1::uuid ORDER BY id LIMIT $2) b
           JOIN sub_users s ON s.buyer_id = b.id AND s.status = 'closed'`,
    some ? [selection.buyerIds] : [selection.afterId, selection.limit],
  );
  return rows.map((row) => row.account);
}
