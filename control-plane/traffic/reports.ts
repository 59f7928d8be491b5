import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';

/** What a device counted in one interval: advice, compared with the meter, never paid. */
export interface DeviceReport {
  session_id: string;
  bytes_tx: number;
  bytes_rx: number;
  interval_seconds: number;
}

/**
 * Adds the reports to their sessions. All must be the user's (403; 404 when there is no such session), and, from a
 * device, that device's.
 */
export async function addReports(
  client: Queryable,
  owner: { userId: string; deviceId: string | null },
  reports: readonly DeviceReport[],
): Promise<void> {
  const ids = [...new Set(reports.map((report) => report.session_id))];
  const { rows } = await client.query<{ id: string; user_id: string; device_id: string }>(
    'SELECT id, user_id, device_id FROM traffic_sessions WHERE id = ANY ($1::uuid[])',
    [ids],
  );
  if (rows.length !== ids.length) throw new Problem('not_found', 'There is no such traffic session.');
  for (const row of rows)
    if (row.user_id !== owner.userId || (owner.deviceId !== null && row.device_id !== owner.deviceId))
      throw new Problem('forbidden');
  await client.query(
    `UPDATE traffic_sessions s
     SET reported_bytes_tx = reported_bytes_tx + r.tx, reported_bytes_rx = reported_bytes_rx + r.rx
     FROM (SELECT id, sum(tx)::bigint AS tx, sum(rx)::bigint AS rx
           FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS x (id, tx, rx) GROUP BY id) AS r
     WHERE s.id = r.id AND s.status IN ('active', 'stopping')`,
    [reports.map((r) => r.session_id), reports.map((r) => r.bytes_tx), reports.map((r) => r.bytes_rx)],
  );
  await client.query(
    `UPDATE devices d SET last_seen_at = now()
     FROM traffic_sessions s WHERE s.id = ANY ($1::uuid[]) AND s.status = 'active' AND d.id = s.device_id`,
    [ids],
  );
}
