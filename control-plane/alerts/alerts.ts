import type pg from 'pg';
import { type Queryable, withTransaction } from '../db/pool.js';
import { putIntoOutbox } from '../jobs/outbox.js';

/** Something that is wrong now. */
export interface Condition {
  /** The same as long as it is the same thing: `ledger_sum`, `gateway_lost:<id>`. */
  key: string;
  /** For people, in English. */
  detail: string;
}

export interface Alert extends Condition {
  raisedAt: Date;
}

/** Kind of the outbox messages that warn the admins, and their payload. */
export const ALERT_OUTBOX = 'admin_alert';
export interface AlertMessage {
  detail: string;
  raised: boolean;
}

/** What is wrong as far as it is known, longest first. */
export async function readAlerts(db: Queryable): Promise<Alert[]> {
  const { rows } = await db.query<{ key: string; detail: string; raised_at: Date }>(
    'SELECT key, detail, raised_at FROM admin_alerts ORDER BY raised_at, key',
  );
  return rows.map(({ key, detail, raised_at: raisedAt }) => ({ key, detail, raisedAt }));
}

/**
 * Keeps what was found of these kinds (what a key begins with, up to a colon): what is new, and what is over, is told the
 * admins once, however many control planes look. Kinds that were not looked at stay. Resolves to how many messages that is.
 */
export function keepAlerts(
  pool: pg.Pool,
  kinds: readonly string[],
  found: readonly Condition[],
): Promise<number> {
  return withTransaction(pool, async (client) => {
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('admin_alerts', 0))");
    const known = (await readAlerts(client)).filter(({ key }) => kinds.includes(key.split(':')[0] as string));
    const raised = found.filter(({ key }) => !known.some((alert) => alert.key === key));
    const over = known.filter(({ key }) => !found.some((condition) => condition.key === key));
    for (const { key, detail } of raised)
      await client.query('INSERT INTO admin_alerts (key, detail) VALUES ($1, $2)', [key, detail]);
    await client.query('DELETE FROM admin_alerts WHERE key = ANY ($1)', [over.map(({ key }) => key)]);
    const message =
      (raisedNow: boolean) =>
      ({ detail }: Condition) => ({
        kind: ALERT_OUTBOX,
        payload: { detail, raised: raisedNow } satisfies AlertMessage,
      });
    return putIntoOutbox(client, [...raised.map(message(true)), ...over.map(message(false))]);
  });
}
