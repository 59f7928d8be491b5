import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import type { BackupContents } from './manifest.js';

/** Everything about a database but who asked for its backup. */
export type DatabaseContents = Omit<BackupContents, 'backup_ids'>;

/**
 * What is in the database: migrations, sums of the ledger, rows by table. Reads all of it, in the caller's transaction, whose
 * snapshot it is of.
 */
export async function readContents(client: Queryable): Promise<DatabaseContents> {
  const version = await client.query<{ version: number }>(
    "SELECT current_setting('server_version_num')::int AS version",
  );
  const migrations = await client.query<{ name: string }>('SELECT name FROM schema_migrations ORDER BY id');
  const ledger = await client.query<{ kind: string; accounts: number; balance: string }>(
    `SELECT kind, count(*)::int AS accounts, coalesce(sum(balance_micros), 0)::text AS balance
       FROM ledger_accounts GROUP BY kind ORDER BY kind`,
  );
  const tables = await client.query<{ name: string; quoted: string }>(
    `SELECT c.relname AS name, quote_ident(c.relname) AS quoted FROM pg_class c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1`,
  );
  const rows: Record<string, number> = {};
  for (const { name, quoted } of tables.rows) {
    const counted = await client.query<{ n: string }>(`SELECT count(*)::text AS n FROM public.${quoted}`);
    rows[name] = Number(counted.rows[0]?.n);
  }
  return {
    server_version_num: version.rows[0]?.version ?? 0,
    migrations: migrations.rows.map(({ name }) => name),
    ledger: Object.fromEntries(
      ledger.rows.map(({ kind, accounts, balance }) => [kind, { accounts, balance_micros: balance }]),
    ),
    rows,
  };
}

/**
 * Runs `work` while a transaction shows one snapshot of the database, which others can take by its name: what it reads with
 * `client` and what pg_dump dumps are the same to the row.
 */
export async function withSnapshot<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient, snapshot: string) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  const onError = (error: Error) => {
    broken = error;
  };
  client.on('error', onError);
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    // Both may take as long as they need: it is idle while pg_dump works.
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0');
    await client.query('SET LOCAL statement_timeout = 0');
    const { rows } = await client.query<{ id: string }>('SELECT pg_export_snapshot() AS id');
    const done = await work(client, (rows[0] as { id: string }).id);
    await client.query('COMMIT');
    return done;
  } catch (error) {
    await client.query('ROLLBACK').catch(onError);
    throw error;
  } finally {
    client.removeListener('error', onError);
    client.release(broken);
  }
}

/** What differs, one sentence each; none: they are the same. */
export function differences(backup: DatabaseContents, restored: DatabaseContents): string[] {
  const found: string[] = [];
  const names = (a: object, b: object) => [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  if (backup.migrations.join() !== restored.migrations.join())
    found.push('the migrations are not those of the backup');
  for (const kind of names(backup.ledger, restored.ledger)) {
    const a = backup.ledger[kind] ?? { accounts: 0, balance_micros: '0' };
    const b = restored.ledger[kind] ?? { accounts: 0, balance_micros: '0' };
    if (a.accounts !== b.accounts || a.balance_micros !== b.balance_micros)
      found.push(
        `accounts ${kind}: ${a.accounts} with ${a.balance_micros} micro-dollars in the backup, ` +
          `${b.accounts} with ${b.balance_micros} restored`,
      );
  }
  for (const table of names(backup.rows, restored.rows)) {
    const [a, b] = [backup.rows[table] ?? 0, restored.rows[table] ?? 0];
    if (a !== b) found.push(`table ${table}: ${a} rows in the backup, ${b} restored`);
  }
  return found;
}
