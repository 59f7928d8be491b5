import type { Queryable } from '../db/pool.js';

/**
 * Does something within the update's transaction that must leave nothing behind when it is refused (`ok: false`): the
 * update itself stays handled.
 */
export async function orNothing<T extends { ok: boolean }>(
  db: Queryable,
  attempt: () => Promise<T>,
): Promise<T> {
  await db.query('SAVEPOINT attempt');
  const result = await attempt();
  await db.query(result.ok ? 'RELEASE SAVEPOINT attempt' : 'ROLLBACK TO SAVEPOINT attempt');
  return result;
}
