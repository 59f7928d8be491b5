import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';

/** A sharing device as it is offered to buyers. */
export interface Offer {
  sessionId: string;
  userId: string;
  exitIp: string;
  country: string;
  city: string | null;
  asn: bigint | number | null;
  sizeBytes: number | bigint;
}

/**
 * Creates one available package for each session that has none. Repeating it is harmless; a session that has an
 * open offer keeps that one. Call in the transaction that starts the session or ends its last package.
 */
export async function offerPackages(client: Queryable, offers: readonly Offer[]): Promise<void> {
  if (offers.length === 0) return;
  await client.query(
    `INSERT INTO packages (id, user_id, exit_ip, country, city, asn, size_bytes, origin, session_id)
     SELECT id, user_id, exit_ip, country, city, asn, size_bytes, 'offer', session_id
       FROM unnest($1::uuid[], $2::uuid[], $3::inet[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::uuid[])
            AS o (id, user_id, exit_ip, country, city, asn, size_bytes, session_id)
      ORDER BY session_id
     ON CONFLICT (session_id) WHERE status = 'available' AND origin = 'offer' DO NOTHING`,
    [
      offers.map(() => randomUUID()),
      offers.map((o) => o.userId),
      offers.map((o) => o.exitIp),
      offers.map((o) => o.country),
      offers.map((o) => o.city),
      offers.map((o) => (o.asn === null ? null : o.asn.toString())),
      offers.map((o) => o.sizeBytes.toString()),
      offers.map((o) => o.sessionId),
    ],
  );
}

/** `offerPackages` for one session. */
export function offerPackage(client: Queryable, offer: Offer): Promise<void> {
  return offerPackages(client, [offer]);
}

/**
 * Takes the open offers of these sessions back (Stop, ban, consent withdrawn): available → revoked. Packages in a
 * buyer's hands are not touched; they end with their allocation.
 */
export async function withdrawOffers(client: Queryable, sessionIds: readonly string[]): Promise<void> {
  await client.query(
    `UPDATE packages SET status = 'revoked', updated_at = now()
      WHERE session_id = ANY ($1::uuid[]) AND status = 'available' AND origin = 'offer'`,
    [sessionIds],
  );
}
