import { readDatabaseUrl } from '../config.js';
import { migrateJobQueue } from './job-queue.js';
import { migrate } from './migrate.js';

/** `traffic-share migrate`: brings the database of TS_DATABASE_URL to this version and says what it did. */
export async function runMigrations(): Promise<void> {
  const databaseUrl = readDatabaseUrl();
  const applied = await migrate(databaseUrl);
  await migrateJobQueue(databaseUrl);
  process.stdout.write(
    applied.length === 0 ? 'up to date\n' : applied.map((name) => `applied ${name}\n`).join(''),
  );
}
