import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';

export interface ConsentRow {
  terms_version: string;
  accepted_at: Date;
}

/**
 * The consent in force, or null. `lock` keeps it in force until the transaction ends: a withdrawal waits, and then
 * finds what the transaction made.
 */
export async function findConsent(
  client: Queryable,
  userId: string,
  lock = false,
): Promise<ConsentRow | null> {
  const { rows } = await client.query<ConsentRow>(
    `SELECT terms_version, accepted_at FROM consents WHERE user_id = $1 AND withdrawn_at IS NULL
     ${lock ? 'FOR SHARE' : ''}`,
    [userId],
  );
  return rows[0] ?? null;
}

/**
 * Records that the user accepts these terms, which must be the ones in force (Problem `terms_version_outdated`).
 * Accepting the same again changes nothing. Call in a transaction.
 */
export async function acceptTerms(
  client: Queryable,
  consent: { userId: string; termsVersion: string; ip: string | null },
  versionInForce: string,
): Promise<ConsentRow> {
  if (consent.termsVersion !== versionInForce)
    throw new Problem('terms_version_outdated', undefined, { terms_version: versionInForce });
  // Two at once must not both insert.
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [consent.userId]);
  const before = await findConsent(client, consent.userId);
  if (before?.terms_version === consent.termsVersion) return before;
  await withdrawConsent(client, consent.userId);
  const { rows } = await client.query<ConsentRow>(
    'INSERT INTO consents (user_id, terms_version, ip) VALUES ($1, $2, $3) RETURNING terms_version, accepted_at',
    [consent.userId, consent.termsVersion, consent.ip],
  );
  return rows[0] as ConsentRow;
}

/** Ends the consent in force. Returns whether there was one. */
export async function withdrawConsent(client: Queryable, userId: string): Promise<boolean> {
  const { rowCount } = await client.query(
    'UPDATE consents SET withdrawn_at = now() WHERE user_id = $1 AND withdrawn_at IS NULL',
    [userId],
  );
  return rowCount !== 0;
}
