import type { Queryable } from '../db/pool.js';

/** Rows of one section; a section that has more says so with `complete: false`. */
const ROWS_MAX = 20_000;

/**
 * Everything that is kept about a person, by section, each by its own SQL and oldest first. Secrets are not (they are
 * kept as hashes), nor what would tell of others: buyers, and who was invited. Bytes and micro-dollars are told as
 * text, since they may pass 2^53.
 */
const SECTIONS: Readonly<Record<string, string>> = {
  profile: `SELECT id, telegram_id::text, username, phone, email, language, is_verified, status, ban_reason, banned_at,
      referral_code, referred_by IS NOT NULL AS was_invited, settings, created_at FROM users WHERE id = $1`,
  telegram_accounts: `SELECT telegram_id::text, username, linked_at FROM telegram_accounts
      WHERE user_id = $1 ORDER BY position`,
  consents: `SELECT terms_version, accepted_at, host(ip) AS ip, withdrawn_at FROM consents
      WHERE user_id = $1 ORDER BY id`,
  logins: `SELECT id, host(ip) AS ip, user_agent, created_at, last_used_at, revoked_at FROM logins
      WHERE user_id = $1 ORDER BY created_at, id`,
  devices: `SELECT id, os, model, client_version, host(claimed_ip) AS claimed_ip, host(last_ip) AS last_ip, last_country,
      last_seen_at, refused_code, refused_rule, refused_at, created_at, removed_at FROM devices
      WHERE user_id = $1 ORDER BY created_at, id`,
  traffic_sessions: `SELECT id, device_id, status, host(exit_ip) AS exit_ip, country, city, network_type, client_version,
      host(local_ip) AS local_ip, host(claimed_public_ip) AS claimed_public_ip, bytes_up::text, bytes_down::text,
      earned_micros::text, stop_reason, started_at, stopped_at, completed_at FROM traffic_sessions
      WHERE user_id = $1 ORDER BY started_at, id`,
  usage_by_day: `SELECT day::text, bytes_up::text, bytes_down::text, earned_micros::text FROM usage_daily_provider
      WHERE user_id = $1 ORDER BY day`,
  ledger: `SELECT e.id::text, a.kind AS account, e.kind, e.amount_micros::text, e.balance_after_micros::text,
      t.description, e.created_at
      FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id JOIN ledger_transactions t ON t.id = e.transaction_id
      WHERE a.owner_id = $1 AND a.kind IN ('provider_available', 'provider_pending') ORDER BY e.account_id, e.account_version`,
  payouts: `SELECT id, amount_micros::text, network, currency, target, status, tx_reference, created_at, ended_at
      FROM payouts WHERE user_id = $1 ORDER BY created_at, id`,
  promo_codes: `SELECT p.code, p.bonus_micros::text, r.redeemed_at FROM promo_redemptions r
      JOIN promo_codes p ON p.id = r.promo_id WHERE r.user_id = $1 ORDER BY r.redeemed_at`,
  notifications: `SELECT kind, title, body, created_at, read_at FROM notifications WHERE user_id = $1 ORDER BY id`,
  support: `SELECT t.id AS thread_id, t.subject, t.status, m.author, m.body, m.created_at FROM support_threads t
      JOIN support_messages m ON m.thread_id = t.id WHERE t.user_id = $1 ORDER BY m.thread_id, m.id`,
  activity: `SELECT at, action, object_type, object_id, host(ip) AS ip FROM audit_log
      WHERE actor_id = $1::text AND actor_role IN ('user', 'admin') ORDER BY at, id`,
};

export interface ExportSection {
  complete: boolean;
  rows: Record<string, unknown>[];
}

/** Reads all of it as it is at one moment. Call in a REPEATABLE READ transaction. */
export async function exportPerson(
  client: Queryable,
  userId: string,
): Promise<Record<string, ExportSection>> {
  const sections: Record<string, ExportSection> = {};
  for (const [name, sql] of Object.entries(SECTIONS)) {
    const { rows } = await client.query<Record<string, unknown>>(`${sql} LIMIT ${ROWS_MAX + 1}`, [userId]);
    sections[name] = { complete: rows.length <= ROWS_MAX, rows: rows.slice(0, ROWS_MAX) };
  }
  return sections;
}
