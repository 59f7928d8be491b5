import { Logger, runMigrations } from 'graphile-worker';
import pg from 'pg';

/** Schema of the job queue (graphile-worker's own). */
export const JOB_QUEUE_SCHEMA = 'graphile_worker';

/** Brings the queue's schema up to date, after `migrate`. Several processes may do it at once. */
export async function migrateJobQueue(databaseUrl: string): Promise<void> {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 2,
    connectionTimeoutMillis: 10_000,
    application_name: 'traffic-share-migrate',
  });
  // Who uses a connection that breaks hears of it.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  try {
    await runMigrations({ pgPool: pool, schema: JOB_QUEUE_SCHEMA, logger: new Logger(() => () => {}) });
  } finally {
    await pool.end();
  }
}
