import type { Queryable } from '../db/pool.js';
import { countriesOf } from '../packages/regions.js';

/** Who gets a broadcast. */
export const TARGET_PATTERN =
  '^(all|active|admins|region:[A-Za-z]{2}|language:(en|ru|uz)|user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$';
export const TARGET_DESCRIPTION =
  '`all`; `active`: shared in the last 30 days; `region:US`: a device was seen last there (`region:EU` for the ' +
  'European Union); `language:uz`; `admins`; `user:<id>`';

/** How long a user who blocked the bot is passed over; then it is tried again. */
const BLOCKED_DAYS = 30;

/** The condition on `users u` and its one value. */
function condition(target: string): { sql: string; value: unknown } {
  const [kind, value] = target.split(':', 2) as [string, string | undefined];
  switch (kind) {
    case 'all':
      return { sql: '$2::text IS NULL', value: null };
    case 'active':
      return {
        sql: `$2::text IS NULL AND EXISTS (SELECT 1 FROM traffic_sessions s
               WHERE s.user_id = u.id AND (s.started_at > now() - interval '30 days' OR s.status = 'active'))`,
        value: null,
      };
    case 'admins':
      return { sql: 'u.is_admin AND $2::text IS NULL', value: null };
    case 'region':
      return {
        sql: `u.id IN (SELECT user_id FROM devices WHERE removed_at IS NULL AND last_country = ANY ($2::text[]))`,
        value: countriesOf(value ?? ''),
      };
    case 'language':
      return { sql: 'u.language = $2', value };
    case 'user':
      return { sql: 'u.id = $2::uuid', value };
    default:
      throw new Error(`no such target: ${kind}`);
  }
}

/**
 * Writes down who gets the broadcast, and puts it into their inboxes; resolves to how many. Left out are users who
 * turned notifications off, who have no Telegram account, and who blocked the bot lately.
 */
export async function addRecipients(client: Queryable, broadcastId: string, target: string): Promise<number> {
  const { sql, value } = condition(target);
  const { rowCount } = await client.query(
    `INSERT INTO broadcast_recipients (broadcast_id, user_id)
     SELECT $1, u.id FROM users u
      WHERE u.status = 'active' AND u.telegram_id IS NOT NULL
        AND u.settings->'notifications' IS DISTINCT FROM 'false'::jsonb
        AND (u.telegram_blocked_at IS NULL OR u.telegram_blocked_at < now() - make_interval(days => ${BLOCKED_DAYS}))
        AND ${sql}`,
    [broadcastId, value],
  );
  await client.query(
    `INSERT INTO notifications (user_id, kind, title, body)
     SELECT r.user_id, 'broadcast',
            CASE u.language WHEN 'ru' THEN 'Сообщение' WHEN 'uz' THEN 'Xabar' ELSE 'Message' END, b.message
       FROM broadcast_recipients r JOIN broadcasts b ON b.id = r.broadcast_id JOIN users u ON u.id = r.user_id
      WHERE r.broadcast_id = $1`,
    [broadcastId],
  );
  return rowCount ?? 0;
}
