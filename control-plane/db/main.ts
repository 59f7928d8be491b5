import { readDatabaseUrl } from '../config.js';
import { migrateJobQueue } from './job-queue.js';
import { migrate, pendingMigrations } from './migrate.js';

/**
 * `traffic-share migrate`: brings the database of TS_DATABASE_URL to this version and says what it did. A dry run says what
 * it would do.
 */
export async function runMigrations({ dryRun = false, json = false } = {}): Promise<void> {
  const databaseUrl = readDatabaseUrl();
  const names = dryRun ? await pendingMigrations(databaseUrl) : await migrate(databaseUrl);
  if (!dryRun) await migrateJobQueue(databaseUrl);
  const verb = dryRun ? 'would apply' : 'applied';
  process.stdout.write(
    json
      ? `${JSON.stringify({ dry_run: dryRun, [dryRun ? 'pending' : 'applied']: names }, null, 2)}\n`
      : names.length === 0
        ? 'up to date\n'
        : names.map((name) => `${verb} ${name}\n`).join(''),
  );
}
