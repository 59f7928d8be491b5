import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { type Queryable, withLock, withTransaction } from '../db/pool.js';
import { type Held, readHeld, readHeldForDeletion } from '../legal-holds/held.js';

/** Makes the partition of destination usage that the day lies in, unless it is there. */
export async function makeUsagePartition(db: Queryable, day: string): Promise<void> {
  await db.query('SELECT make_destination_usage_partition($1::date)', [day]);
}

export interface UsageRetentionDeps {
  pool: pg.Pool;
  log: Log;
  /** UTC days that usage by destination is kept. Read anew for every round. */
  retentionDays: () => number;
  /** Pause between two rounds. Default 10 min. */
  intervalMs?: number;
  /** Rows deleted in one statement. Default 5 000. */
  deleteRowsMax?: number;
}

const INTERVAL_MS = 600_000;
const DELETE_ROWS_MAX = 5_000;
/** Two that drop the same partition at once end in errors of Postgres's own. */
const LOCK_NAME = 'destination_usage_retention';
/** Nothing waits longer for a partition to be dropped; who loses tries again in the next round. */
const LOCK_TIMEOUT = '2s';
const LOCK_NOT_AVAILABLE = '55P03';

interface Partition {
  name: string;
  /** Whether each of its days is too old. */
  over: boolean;
  /** Whether its first day is. */
  begun: boolean;
}

/**
 * Deletes usage by destination that is older than it is to be kept, whole months at once where that is possible, and
 * makes the partitions of this month and the next. The day is Postgres's: a wrong clock of a control plane must not
 * delete anything. What is under a legal hold stays, alone if need be. Of several control planes one at a time deletes.
 */
export class UsageRetention {
  readonly #deps: UsageRetentionDeps;
  readonly #job: Periodic;

  constructor(deps: UsageRetentionDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'old_usage_not_deleted'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  /** Resolves to what was deleted: whole months, and rows of the month that the limit lies in; nothing when somebody is at it. */
  async runOnce(): Promise<{ months: number; rows: number }> {
    const { pool } = this.#deps;
    await pool.query(
      `SELECT make_destination_usage_partition(day::date)
         FROM unnest(ARRAY[now() AT TIME ZONE 'UTC', (now() AT TIME ZONE 'UTC') + interval '1 month']) AS day`,
    );
    const done = await withLock(pool, LOCK_NAME, (lost) => this.#deleteOld(lost));
    return done?.result ?? { months: 0, rows: 0 };
  }

  async #deleteOld(lost: () => boolean): Promise<{ months: number; rows: number }> {
    const { pool, log } = this.#deps;
    const keptDays = this.#deps.retentionDays();
    const result = { months: 0, rows: 0 };
    const held = await readHeld(pool);
    for (const { name, over, begun } of await this.#partitions(keptDays)) {
      if (lost()) break;
      if (over && !(await this.#holds(name, held)) && (await this.#drop(name, held))) result.months++;
      else if (begun) result.rows += await this.#deleteFrom(name, keptDays);
    }
    if (result.months + result.rows > 0) log.info(result, 'old_usage_deleted');
    return result;
  }

  async #partitions(keptDays: number): Promise<Partition[]> {
    const { rows } = await this.#deps.pool.query<Partition>(
      `SELECT name, first + interval '1 month' <= oldest AS over, first < oldest AS begun
         FROM (SELECT c.relname AS name, to_date(right(c.relname, 7), 'YYYY_MM') AS first,
                      (now() AT TIME ZONE 'UTC')::date - $1::int AS oldest
                 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'destination_usage'::regclass
                  AND c.relname ~ '^destination_usage_[0-9]{4}_[0-9]{2}$') p
        ORDER BY name`,
      [keptDays],
    );
    return rows;
  }

  /** Whether there is something of theirs in it. */
  async #holds(name: string, { buyerIds, userIds }: Held): Promise<boolean> {
    if (buyerIds.length + userIds.length === 0) return false;
    const { rows } = await this.#deps.pool.query<{ holds: boolean }>(
      `SELECT EXISTS (SELECT 1 FROM "${name}" WHERE buyer_id = ANY ($1))
           OR EXISTS (SELECT 1 FROM "${name}" WHERE user_id = ANY ($2)) AS holds`,
      [buyerIds, userIds],
    );
    return rows[0]?.holds === true;
  }

  /**
   * False: somebody was reading it for long, or others are held by now than when it was looked into; its rows are deleted
   * instead, and it is dropped another time.
   */
  async #drop(name: string, lookedFor: Held): Promise<boolean> {
    try {
      return await withTransaction(this.#deps.pool, async (client) => {
        if (!isDeepStrictEqual(await readHeldForDeletion(client), lookedFor)) return false;
        await client.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
        await client.query(`DROP TABLE IF EXISTS "${name}"`);
        return true;
      });
    } catch (error) {
      if ((error as { code?: unknown }).code !== LOCK_NOT_AVAILABLE) throw error;
      return false;
    }
  }

  /** In steps: no statement takes long, and none holds many rows. */
  async #deleteFrom(name: string, keptDays: number): Promise<number> {
    const { pool, deleteRowsMax = DELETE_ROWS_MAX } = this.#deps;
    let deleted = 0;
    for (;;) {
      const rows = await withTransaction(pool, async (client) => {
        const { buyerIds, userIds } = await readHeldForDeletion(client);
        const { rowCount } = await client.query(
          `DELETE FROM "${name}" WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM "${name}" WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::int
                AND buyer_id <> ALL ($3) AND user_id <> ALL ($4) LIMIT $2))`,
          [keptDays, deleteRowsMax, buyerIds, userIds],
        );
        return rowCount ?? 0;
      });
      deleted += rows;
      if (rows < deleteRowsMax) return deleted;
    }
  }
}
