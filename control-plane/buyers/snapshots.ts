import type { AccountSnapshot } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import type { BuyerSelection } from '../live-state/live-state.js';
import { BUYER_LIMIT_DEFAULTS, type BuyerLimits } from './limits.js';

/**
 * What the gateways must know of these buyers, as committed now, in the order of their ids. Credentials are those
 * with the proxy scope that are neither revoked nor expired.
 */
export async function readSnapshots(
  db: Queryable,
  selection: BuyerSelection,
  defaultPriceMicrosPerGb: bigint,
): Promise<AccountSnapshot[]> {
  const some = 'buyerIds' in selection;
  const { rows } = await db.query<{
    id: string;
    account: string;
    status: AccountSnapshot['status'];
    kyc_status: AccountSnapshot['kycStatus'];
    aup_accepted_at: Date | null;
    price_micros_per_gb: bigint | null;
    limits: BuyerLimits;
    version: bigint;
    credentials: Array<{
      id: string;
      sha256_hex: string;
      expires_ms: number | null;
      allowed_ips: string[];
    }>;
  }>(
    `SELECT b.id, b.account, b.status, b.kyc_status, b.aup_accepted_at, b.price_micros_per_gb, b.limits, b.version,
            coalesce((SELECT jsonb_agg(jsonb_build_object(
                               'id', k.id, 'sha256_hex', encode(k.token_hash, 'hex'),
                               'expires_ms', floor(extract(epoch FROM k.expires_at) * 1000)::bigint,
                               'allowed_ips', k.allowed_ips::text[]) ORDER BY k.created_at, k.id)
                        FROM buyer_tokens k
                       WHERE k.buyer_id = b.id AND k.revoked_at IS NULL AND 'proxy' = ANY (k.scopes)
                         AND (k.expires_at IS NULL OR k.expires_at > now())), '[]') AS credentials
       FROM buyers b
      WHERE ${some ? 'b.id = ANY ($1::uuid[])' : 'b.id > $1::uuid'}
      ORDER BY b.id ${some ? '' : 'LIMIT $2'}`,
    some ? [selection.buyerIds] : [selection.afterId, selection.limit],
  );
  return rows.map((r) => {
    const limits = { ...BUYER_LIMIT_DEFAULTS, ...r.limits };
    return {
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
      passwordlessIps: limits.passwordless_ips,
      priceMicrosPerGb: (r.price_micros_per_gb ?? defaultPriceMicrosPerGb).toString(),
      limits: {
        streamsMax: limits.streams_max,
        connectionsPerSecondMax: limits.connections_per_second_max,
        extraPorts: limits.extra_ports,
        grantedPorts: limits.granted_ports,
      },
      version: Number(r.version),
    };
  });
}
