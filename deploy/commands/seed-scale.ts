import { readDatabaseUrl, readIsProduction } from '../../control-plane/config.js';
import { createPool, isDatabaseAway } from '../../control-plane/db/pool.js';
import { type Scale, SEEDED_TELEGRAM_ID_MIN, seedScale } from '../seed/scale.js';
import { Progress } from './progress.js';

/** What the command was asked for. */
export interface SeedScaleOptions extends Scale {
  /** Also where it does not look like a database for development. */
  yes: boolean;
  dryRun: boolean;
  json: boolean;
}

/** Telegram ids up to here are the demo's. */
const DEMO_TELEGRAM_ID_MAX = 100;

/**
 * `traffic-share seed --scale`: fills the database of TS_DATABASE_URL, which must be migrated, for measurements. Refuses
 * a database that does not look like one for development unless told `--yes`: one of a production system, on another
 * machine, or with people in it. Progress goes to stderr. Resolves to the exit code.
 */
export async function runSeedScale(options: SeedScaleOptions): Promise<number> {
  const databaseUrl = readDatabaseUrl();
  const pool = createPool({
    databaseUrl,
    applicationName: 'traffic-share-seed',
    connectionsMax: 2,
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  let progress: Progress | null = null;
  let shown = '';
  try {
    const why = options.yes ? null : await whyNot(pool, databaseUrl);
    if (why !== null) {
      process.stderr.write(`${why}: not seeded. With --yes it is all the same.\n`);
      return 1;
    }
    const { users, packages, entries } = options;
    const said = { dry_run: options.dryRun, users, packages, entries };
    if (options.dryRun) {
      process.stdout.write(
        options.json
          ? `${JSON.stringify(said, null, 2)}\n`
          : `${users} users, ${packages} packages and at least ${entries} entries would be written\n`,
      );
      return 0;
    }
    await seedScale(pool, options, (what, done, total) => {
      if (what !== shown) {
        progress?.end();
        progress = new Progress(process.stderr, what);
        shown = what;
      }
      progress?.update(done, total);
    });
    process.stdout.write(
      options.json ? `${JSON.stringify(said, null, 2)}\n` : 'seeded; traffic-share ledger verify proves it\n',
    );
    return 0;
  } catch (error) {
    if (!isDatabaseAway(error)) throw error;
    process.stderr.write('Postgres at TS_DATABASE_URL can not be reached\n');
    return 1;
  } finally {
    (progress as Progress | null)?.end();
    await pool.end();
  }
}

/** Why the database does not look like one for development; null: it does. */
async function whyNot(pool: ReturnType<typeof createPool>, databaseUrl: string): Promise<string | null> {
  if (readIsProduction()) return 'This is a production system (NODE_ENV, TS_PRODUCTION)';
  const { hostname } = new URL(databaseUrl);
  if (!['localhost', '127.0.0.1', '[::1]', ''].includes(hostname)) return `${hostname} is another machine`;
  const { rowCount } = await pool.query(
    'SELECT 1 FROM telegram_accounts WHERE telegram_id > $1 AND telegram_id < $2 LIMIT 1',
    [DEMO_TELEGRAM_ID_MAX, SEEDED_TELEGRAM_ID_MIN],
  );
  return rowCount === 0 ? null : 'There are people in this database';
}
