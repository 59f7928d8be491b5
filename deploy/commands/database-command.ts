import type pg from 'pg';
import { readDatabaseUrl } from '../../control-plane/config.js';
import { createPool, isDatabaseAway } from '../../control-plane/db/pool.js';

/**
 * Runs a command on the database of TS_DATABASE_URL; its statements may take as long as they need. Resolves to what `run`
 * resolves to, the exit code, or to 1 when Postgres can not be reached, which it says on stderr.
 */
export async function withDatabase(name: string, run: (pool: pg.Pool) => Promise<number>): Promise<number> {
  const pool = createPool({
    databaseUrl: readDatabaseUrl(),
    applicationName: `traffic-share-${name}`,
    connectionsMax: 2,
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  try {
    return await run(pool);
  } catch (error) {
    if (!isDatabaseAway(error)) throw error;
    process.stderr.write('Postgres at TS_DATABASE_URL can not be reached\n');
    return 1;
  } finally {
    await pool.end();
  }
}

/** Writes JSON, or lines, to stdout. */
export function print(json: boolean, value: object, lines: readonly string[]): void {
  process.stdout.write(
    json ? `${JSON.stringify(value, null, 2)}\n` : lines.map((line) => `${line}\n`).join(''),
  );
}
