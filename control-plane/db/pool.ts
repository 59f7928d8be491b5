import pg from 'pg';

/** Type numbers of Postgres (pg_type.dat). */
const INT8 = 20;
const INT8_ARRAY = 1016;
const DATE = 1082;

/** Reads of this pool only: int8 → bigint, date → 'YYYY-MM-DD' (not a Date in the server's own time zone). */
const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (format !== 'binary') {
      if (oid === INT8) return BigInt;
      if (oid === DATE) return (text: string) => text;
      if (oid === INT8_ARRAY)
        return (text: string) => text.slice(1, -1).split(',').filter(Boolean).map(BigInt);
    }
    return pg.types.getTypeParser(oid, format as 'text');
  },
} as pg.CustomTypesConfig;

/** Postgres could not be reached or gave no connection in time. The API answers `database_unavailable`. */
export class DatabaseUnavailable extends Error {
  readonly code = 'DATABASE_UNAVAILABLE';
}

/** SQLSTATEs that say the server is away or going away, not that the query is wrong. */
const AWAY = /^(08...|53300|57P0[1-3])$/;

/** What pg says of a connection that is gone: these have no code. */
const CONNECTION_LOST: ReadonlySet<string> = new Set([
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable',
]);

/** Whether the error means "Postgres is away, try again", whatever was asked of it. */
export function isDatabaseAway(error: unknown): boolean {
  if (error instanceof DatabaseUnavailable) return true;
  if (error instanceof Error && CONNECTION_LOST.has(error.message)) return true;
  const code = (error as { code?: unknown } | null)?.code;
  return (
    typeof code === 'string' &&
    (AWAY.test(code) || code === 'ECONNREFUSED' || code === 'ECONNRESET' || code === 'EPIPE')
  );
}

type ConnectCallback = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: (release?: boolean | Error) => void,
) => void;

/** pg's pool, with one class of error for "no connection": pg itself tells them apart by message only. */
class DatabasePool extends pg.Pool {
  override connect(): Promise<pg.PoolClient>;
  override connect(callback: ConnectCallback): void;
  override connect(callback?: ConnectCallback): Promise<pg.PoolClient> | undefined {
    const away = (cause: unknown) => new DatabaseUnavailable('no connection to Postgres', { cause });
    if (callback === undefined)
      return super.connect().catch((error) => {
        throw away(error);
      });
    super.connect((error, client, done) => callback(error ? away(error) : undefined, client, done));
    return undefined;
  }
}

export interface PoolOptions {
  /** `postgres://user:password@host:port/database` */
  databaseUrl: string;
  /** Connections at once; above it requests wait up to connectTimeoutMs. Default 10. */
  connectionsMax?: number;
  /** Time to get a connection; then DatabaseUnavailable. Default 5 s. */
  connectTimeoutMs?: number;
  /** Time one statement may take; then Postgres cancels it (57014). Default 10 s. */
  statementTimeoutMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName: string;
  /** An idle connection broke; the pool replaces it. */
  onIdleError?: (error: Error) => void;
}

/** A pool whose int8 is bigint, whose dates are text and whose sessions run in UTC. */
export function createPool(options: PoolOptions): pg.Pool {
  const pool = new DatabasePool({
    connectionString: options.databaseUrl,
    max: options.connectionsMax ?? 10,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    statement_timeout: options.statementTimeoutMs ?? 10_000,
    idle_in_transaction_session_timeout: 60_000,
    application_name: options.applicationName,
    options: '-c TimeZone=UTC',
    keepAlive: true,
    types,
  });
  pool.on('error', (error) => options.onIdleError?.(error));
  // Whoever has a connection hears by his next query that it is gone. The event alone, unheard, would end the process.
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

/** What a function needs that reads or writes inside or outside a transaction. */
export type Queryable = Pick<pg.ClientBase, 'query'>;

/** Tries of a transaction that loses against a concurrent one. */
const TRIES_MAX = 5;
const SERIALIZATION_FAILURE = '40001';
const DEADLOCK = '40P01';

/**
 * Runs `fn` in one transaction: commits what it returns, rolls back when it throws. After a serialization failure
 * or deadlock it runs again (at most 5 times), so `fn` must keep its effects inside the transaction or repeatable.
 */
export async function withTransaction<T>(
  pool: pg.Pool,
  fn: (client: pg.PoolClient) => Promise<T>,
  isolation: 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE' = 'READ COMMITTED',
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const done = await withClient(pool, async (client, drop): Promise<{ result: T } | null> => {
      try {
        await client.query(`BEGIN ISOLATION LEVEL ${isolation}`);
        const result = await fn(client);
        await client.query('COMMIT');
        return { result };
      } catch (error) {
        await client.query('ROLLBACK').catch(drop);
        const code = (error as { code?: unknown }).code;
        if ((code !== SERIALIZATION_FAILURE && code !== DEADLOCK) || attempt >= TRIES_MAX) throw error;
        return null;
      }
    });
    if (done !== null) return done.result;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20 * 2 ** attempt));
  }
}

/**
 * Runs `fn` with a connection of its own. `drop`: the connection is of no more use, nobody gets it after this; so it is
 * when it dies by itself, which `broken` tells.
 */
async function withClient<T>(
  pool: pg.Pool,
  fn: (client: pg.PoolClient, drop: (why: Error) => void, broken: () => boolean) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let why: Error | undefined;
  const drop = (error: Error) => {
    why = error;
  };
  // A connection that dies during `fn` reports it here.
  client.on('error', drop);
  try {
    return await fn(client, drop, () => why !== undefined);
  } finally {
    client.removeListener('error', drop);
    client.release(why);
  }
}

/**
 * Runs `fn` while holding the advisory lock of this name; nobody else does then, in any process. Null: somebody holds it,
 * and `fn` was not called. The lock is lost with its connection: `lost` tells, for work that takes long.
 */
export async function withLock<T>(
  pool: pg.Pool,
  name: string,
  fn: (lost: () => boolean) => Promise<T>,
): Promise<{ result: T } | null> {
  return withClient(pool, async (client, drop, broken) => {
    const { rows } = await client.query<{ mine: boolean }>(
      'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS mine',
      [name],
    );
    if (!rows[0]?.mine) return null;
    try {
      return { result: await fn(broken) };
    } finally {
      await client.query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [name]).catch(drop);
    }
  });
}

const UNIQUE_VIOLATION = '23505';

/** Whether the error is a violation of this unique constraint or index. */
export function isUniqueViolation(error: unknown, constraint: string): boolean {
  const e = error as { code?: unknown; constraint?: unknown } | null;
  return e?.code === UNIQUE_VIOLATION && e.constraint === constraint;
}
