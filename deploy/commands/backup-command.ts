import pg from 'pg';
import type { BackupArchive } from '../../control-plane/backup/archive.js';
import { createArchive, pgToolsOf } from '../../control-plane/backup/create.js';
import type { PgTools } from '../../control-plane/backup/pg-tools.js';
import { BackupFailed, type BackupFailure } from '../../control-plane/backup/storage.js';
import { programEnvironment, readBackupConfig } from '../../control-plane/config.js';
import { createPool, isDatabaseAway } from '../../control-plane/db/pool.js';
import { createLog, type Log } from '../../gateway/runtime/logging.js';

/** How `backup` and `restore` end, for ever the same; other codes than these are Node's own. */
export const EXIT = {
  done: 0,
  /** On the way: Postgres or the storage away, no room, pg_dump or pg_restore failed, interrupted. */
  failed: 1,
  /** Not possible here: nothing configured, a tool is missing or too old, the key is not known, options do not fit. */
  notPossible: 2,
  /** The backup is not there, or is not what was written. */
  badBackup: 3,
  /** The target is not empty, in use, too old, or the backup is of a newer program. */
  refused: 4,
  /** Restored, and it differs from the manifest or does not add up. */
  differs: 5,
} as const;

const EXIT_OF: Readonly<Record<BackupFailure, number>> = {
  backup_not_configured: EXIT.notPossible,
  backup_tool_missing: EXIT.notPossible,
  backup_tool_outdated: EXIT.notPossible,
  backup_key_missing: EXIT.notPossible,
  restore_not_permitted: EXIT.notPossible,
  backup_under_way: EXIT.failed,
  backup_storage_unusable: EXIT.failed,
  backup_no_space: EXIT.failed,
  backup_not_verified: EXIT.failed,
  backup_failed: EXIT.failed,
  restore_failed: EXIT.failed,
  backup_not_found: EXIT.badBackup,
  backup_damaged: EXIT.badBackup,
  backup_too_new: EXIT.refused,
  restore_server_too_old: EXIT.refused,
  restore_target_not_empty: EXIT.refused,
  restore_target_in_use: EXIT.refused,
  restore_differs: EXIT.differs,
};

/** What both commands work with. */
export interface BackupTools {
  config: ReturnType<typeof readBackupConfig>;
  log: Log;
  archive: BackupArchive;
  tools: PgTools;
  /** Aborted by SIGINT and SIGTERM. */
  signal: AbortSignal;
}

/**
 * Runs a command on the configured archive. What it throws is said on stderr, or as JSON on stdout with `json`: a stable code
 * and words. Resolves to the exit code.
 */
export function withArchive(json: boolean, work: (tools: BackupTools) => Promise<number>): Promise<number> {
  return withBackupTools(json, ({ archive, ...tools }) => {
    if (archive === null)
      throw new BackupFailed(
        'backup_not_configured',
        'Set TS_BACKUP_DIR to a folder, or TS_BACKUP_S3_BUCKET.',
      );
    return work({ ...tools, archive });
  });
}

/** The same, whether an archive is configured or not. */
export async function withBackupTools(
  json: boolean,
  work: (tools: Omit<BackupTools, 'archive'> & { archive: BackupArchive | null }) => Promise<number>,
): Promise<number> {
  const config = readBackupConfig();
  const log = createLog('backup', 'warn');
  const stop = new AbortController();
  const onSignal = () => stop.abort(new BackupFailed('backup_failed', 'interrupted by a signal'));
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, onSignal);
  try {
    const tools = pgToolsOf(config, programEnvironment());
    return await work({ config, log, archive: createArchive(config, log), tools, signal: stop.signal });
  } catch (thrown) {
    const error = stop.signal.aborted ? stop.signal.reason : thrown;
    const { code, message, exit } = failureOf(error);
    if (json)
      process.stdout.write(`${JSON.stringify({ ok: false, error: code, detail: message }, null, 2)}\n`);
    else process.stderr.write(`${code}: ${message}\n`);
    return exit;
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.removeListener(name, onSignal);
  }
}

function failureOf(error: unknown): { code: string; message: string; exit: number } {
  if (error instanceof BackupFailed)
    return { code: error.code, message: error.message, exit: EXIT_OF[error.code] };
  if (isDatabaseAway(error))
    return {
      code: 'database_unavailable',
      message: 'Postgres at TS_DATABASE_URL can not be reached',
      exit: EXIT.failed,
    };
  const { code, message } = error as { code?: string; message: string };
  if (code === 'SCHEMA_TOO_NEW') return { code: 'schema_too_new', message, exit: EXIT.refused };
  // Postgres's own: wrong password, no such database and the like.
  if (error instanceof pg.DatabaseError)
    return { code: 'database_refused', message: `Postgres: ${message} (${code})`, exit: EXIT.failed };
  throw error;
}

/** A pool for one command: its statements may take as long as they need. */
export async function withPool<T>(
  databaseUrl: string,
  applicationName: string,
  work: (pool: pg.Pool) => Promise<T>,
): Promise<T> {
  const pool = createPool({
    databaseUrl,
    applicationName,
    connectionsMax: 5,
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}
