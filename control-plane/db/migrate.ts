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

async function knownMigrations(dir: string): Promise<string[]> {
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

/**
 * Brings the schema to this program's version: each file once, in its own transaction, in order. Any number of
 * processes may call it at once; they queue on an advisory lock and all succeed. Throws SchemaTooNew when the
 * database is ahead of the program, before changing anything.
 * Returns the names of the migrations that this call applied.
 */
export async function migrate(databaseUrl: string, dir = MIGRATIONS_DIR): Promise<string[]> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'traffic-share-migrate',
    connectionTimeoutMillis: 10_000,
  });
  await client.connect();
  try {
    // Taken here, not by the runner, so that the check below and the migrations are one critical section. It is
    // the session's: it goes with the connection whatever happens.
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_ID]);
    const { rows } = await client.query<{ there: boolean }>('SELECT to_regclass($1) IS NOT NULL AS there', [
      MIGRATIONS_TABLE,
    ]);
    if (rows[0]?.there) {
      const known = new Set(await knownMigrations(dir));
      const unknown = (await appliedMigrations(client)).filter((name) => !known.has(name));
      if (unknown.length > 0) throw new SchemaTooNew(unknown);
    }
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
  } finally {
    await client.end();
  }
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
