import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { BackupFailed } from './storage.js';

/*
 * Databases that are restored into. Statements here can have no parameters: names are quoted.
 */

const UNKNOWN_DATABASE = '3D000';
const OBJECT_IN_USE = '55006';
const INSUFFICIENT_PRIVILEGE = '42501';
/** Names of Postgres are cut beyond this, bytes. */
const NAME_BYTES_MAX = 63;

/** Name of the database that a URL leads to. */
export function databaseNameOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1));
}

/** The same server and user, another database. */
export function withDatabaseName(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(name)}`;
  return changed.href;
}

/** A name that is free beside `url`'s database: `<name>_<what>_<random>`. */
export function scratchName(url: string, what: string): string {
  const tail = `_${what}_${randomBytes(4).toString('hex')}`;
  return databaseNameOf(url).slice(0, NAME_BYTES_MAX - tail.length) + tail;
}

/** Runs `work` with a connection to the URL's database. Its statements may take as long as they need. */
export async function withClientOf<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'traffic-share-restore',
    connectionTimeoutMillis: 10_000,
  });
  client.on('error', () => {}); // whoever uses it hears of it
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

/** With a connection to a database that is always there: the one that is restored may not be, or be renamed. */
async function asMaintainer<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  try {
    return await withClientOf(withDatabaseName(url, 'postgres'), work);
  } catch (cause) {
    const { code, message } = cause as pg.DatabaseError;
    if (code === INSUFFICIENT_PRIVILEGE)
      throw new BackupFailed('restore_not_permitted', `Postgres: ${message}`, { cause });
    if (code === OBJECT_IN_USE)
      throw new BackupFailed('restore_target_in_use', `Postgres: ${message}`, { cause });
    throw cause;
  }
}

/** Whether the database is there and holds anything of anybody's. */
export async function stateOf(url: string): Promise<'absent' | 'empty' | 'filled'> {
  try {
    return await withClientOf(url, async (client) => {
      const { rows } = await client.query<{ filled: boolean }>(
        `SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                           AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
             OR EXISTS (SELECT 1 FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('public', 'information_schema'))
             AS filled`,
      );
      return rows[0]?.filled ? 'filled' : 'empty';
    });
  } catch (error) {
    if ((error as pg.DatabaseError).code === UNKNOWN_DATABASE) return 'absent';
    throw error;
  }
}

/** Major version of the server that the URL leads to, whether its database is there or not. */
export async function serverMajorOf(url: string): Promise<number> {
  const ask = async (client: pg.Client) => {
    const { rows } = await client.query<{ major: number }>(
      "SELECT current_setting('server_version_num')::int / 10000 AS major",
    );
    return (rows[0] as { major: number }).major;
  };
  try {
    return await withClientOf(url, ask);
  } catch (error) {
    if ((error as pg.DatabaseError).code !== UNKNOWN_DATABASE) throw error;
    return asMaintainer(url, ask);
  }
}

/** Makes an empty database. Throws `restore_not_permitted`. */
export function createDatabase(url: string): Promise<void> {
  return asMaintainer(url, async (client) => {
    const name = client.escapeIdentifier(databaseNameOf(url));
    await client.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'UTF8'`);
  });
}

/** Drops a database that this program has made, whoever is connected to it; one that is not there is no error. */
export function dropDatabase(url: string): Promise<void> {
  return asMaintainer(url, async (client) => {
    const name = client.escapeIdentifier(databaseNameOf(url));
    await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  });
}

/** Throws `restore_target_in_use` while anybody is connected to the URL's database. */
export function assertUnused(url: string): Promise<void> {
  return asMaintainer(url, async (client) => {
    const { rows } = await client.query<{ who: string; n: number }>(
      `SELECT coalesce(nullif(application_name, ''), usename::text, 'somebody') AS who, count(*)::int AS n
         FROM pg_stat_activity WHERE datname = $1 GROUP BY 1 ORDER BY 1`,
      [databaseNameOf(url)],
    );
    if (rows.length === 0) return;
    const who = rows.map(({ who, n }) => `${who} (${n})`).join(', ');
    throw new BackupFailed('restore_target_in_use', `Still connected to it: ${who}. Stop them first.`);
  });
}

/**
 * Puts the database of `freshUrl` in the place of `url`'s, which goes on under another name; returns that. Both or neither.
 * Throws `restore_target_in_use`.
 */
export async function takePlace(url: string, freshUrl: string): Promise<string> {
  const before = scratchName(url, 'before');
  await asMaintainer(url, async (client) => {
    const [old, aside, fresh] = [databaseNameOf(url), before, databaseNameOf(freshUrl)].map((name) =>
      client.escapeIdentifier(name),
    );
    await client.query('BEGIN');
    await client.query(`ALTER DATABASE ${old} RENAME TO ${aside}`);
    await client.query(`ALTER DATABASE ${fresh} RENAME TO ${old}`);
    await client.query('COMMIT');
  });
  return before;
}
