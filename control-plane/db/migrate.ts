import { readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { projectPath } from '../../gateway/runtime/project-path.js';

/** Where the numbered forward-only SQL files are. */
export const MIGRATIONS_DIR = projectPath('control-plane/db/migrations');

const MIGRATIONS_TABLE = 'schema_migrations';
/** Only one process migrates at a time; any constant of our own would do. */
const LOCK_ID = 7_140_033_921_105;

/** The database was migrated by a newer program; this one must not touch it. Deploy the newer program. */
export class SchemaTooNew extends Error {
  readonly code = 'SCHEMA_TOO_NEW';
  constructor(readonly unknownMigrations: readonly string[]) {
    super(
      `The database has migrations this program does not know: ${unknownMigrations.join(', ')}. Run the newer program.`,
    );
  }
}

/** Names of the migrations of this program, in order. */
export async function knownMigrations(dir = MIGRATIONS_DIR): Promise<string[]> {
  const files = await readdir(dir);
  return files
    .filter((file) => /^\d{4}_.+\.sql$/.test(file))
    .map((file) => basename(file, '.sql'))
    .sort();
}

async function appliedMigrations(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(`SELECT name FROM ${MIGRATIONS_TABLE} ORDER BY id`);
  return rows.map((row) => row.name);
}

async function withDatabase<T>(databaseUrl: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'traffic-share-migrate',
    connectionTimeoutMillis: 10_000,
  });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Names of the migrations that are still to be applied, in order. Throws SchemaTooNew. */
async function stillToApply(client: pg.Client, dir: string): Promise<string[]> {
  const known = await knownMigrations(dir);
  const { rows } = await client.query<{ there: boolean }>('SELECT to_regclass($1) IS NOT NULL AS there', [
    MIGRATIONS_TABLE,
  ]);
  const applied = rows[0]?.there ? await appliedMigrations(client) : [];
  const unknown = applied.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new SchemaTooNew(unknown);
  return known.filter((name) => !applied.includes(name));
}

/**
 * Brings the schema to this program's version: each file once, in its own transaction, in order. Any number of
 * processes may call it at once; they queue on an advisory lock and all succeed. Throws SchemaTooNew when the
 * database is ahead of the program, before changing anything.
 * Returns the names of the migrations that this call applied.
 */
export function migrate(databaseUrl: string, dir = MIGRATIONS_DIR): Promise<string[]> {
  return withDatabase(databaseUrl, async (client) => {
    // Taken here, not by the runner, so that the check below and the migrations are one critical section. It is
    // the session's: it goes with the connection whatever happens.
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_ID]);
    await stillToApply(client, dir);
    const applied = await runner({
      dbClient: client,
      dir,
      migrationsTable: MIGRATIONS_TABLE,
      direction: 'up',
      noLock: true,
      checkOrder: true,
      logger: { info() {}, warn() {}, error() {} },
    });
    return applied.map((migration) => migration.name);
  });
}

/** Names of the migrations that `migrate` would apply, in order. Changes nothing; throws SchemaTooNew as it does. */
export function pendingMigrations(databaseUrl: string, dir = MIGRATIONS_DIR): Promise<string[]> {
  return withDatabase(databaseUrl, (client) => stillToApply(client, dir));
}

/** Whether every migration of this program is in the database, and none that it does not know. For readiness. */
export async function schemaState(
  client: pg.ClientBase | pg.Pool,
  dir = MIGRATIONS_DIR,
): Promise<'current' | 'behind' | 'ahead'> {
  const known = await knownMigrations(dir);
  const applied = new Set(await appliedMigrations(client as pg.ClientBase));
  if ([...applied].some((name) => !known.includes(name))) return 'ahead';
  return known.every((name) => applied.has(name)) ? 'current' : 'behind';
}
