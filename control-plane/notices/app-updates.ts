import type pg from 'pg';
import type { Job } from '../jobs/job.js';
import { putNotices } from './notices.js';

/** Users told in one run; the others with the next. */
const USERS_MAX = 2_000;

/**
 * The job `app_updates`: who has a device that was here in the last 30 days and runs an older version than setting
 * `app_latest` is told, once a version. Versions are compared by their three numbers.
 */
export function appUpdatesJob(pool: pg.Pool, rules: () => Promise<{ appLatest: string }>): Job {
  return {
    name: 'app_updates',
    description: 'Tells users whose devices run an older version that there is a newer one.',
    schedule: '*/10 * * * *',
    async run() {
      const { appLatest: version } = await rules();
      const { rows } = await pool.query<{ user_id: string; devices: number }>(
        `SELECT d.user_id, count(*)::int AS devices
           FROM devices d JOIN users u ON u.id = d.user_id
          WHERE d.removed_at IS NULL AND d.last_seen_at > now() - interval '30 days' AND u.status = 'active'
            AND string_to_array((regexp_match(d.client_version, '^\\d+\\.\\d+\\.\\d+'))[1], '.')::int[]
                < string_to_array($1, '.')::int[]
            AND NOT EXISTS (SELECT 1 FROM bot_notices n
                             WHERE n.kind = 'update_available' AND n.key = d.user_id || ':' || $1)
          GROUP BY d.user_id ORDER BY d.user_id LIMIT ${USERS_MAX}`,
        [version],
      );
      await putNotices(
        pool,
        rows.map(({ user_id: userId, devices }) => ({
          userId,
          key: `${userId}:${version}`,
          content: { kind: 'update_available', version, devices },
        })),
      );
      return { version, users: rows.length };
    },
  };
}
