import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { type Queryable, withLock } from '../db/pool.js';
import { Problem } from '../errors.js';
import type { Job } from '../jobs/job.js';
import type { BackupArchive, OnBytes } from './archive.js';
import { type DatabaseContents, readContents, withSnapshot } from './contents.js';
import { fileNameOf, type Manifest } from './manifest.js';
import { dumpDatabase, OUTPUT_LENGTH_MAX, outdated, type PgTools, toolVersion } from './pg-tools.js';
import type { Retention } from './retention.js';
import { BackupFailed } from './storage.js';

export interface BackupDeps {
  pool: pg.Pool;
  log: Log;
  databaseUrl: string;
  tools: PgTools;
  /** Null: no storage is configured, and there are no backups. */
  archive: BackupArchive | null;
  retention: Retention;
}

/** What one making of a backup came to. */
export interface BackupMade {
  manifest: Manifest;
  /** Names of older ones whose time was over. */
  removed: string[];
  /** What kept older ones from being cleared; null: nothing. The backup is good all the same. */
  notCleared: string | null;
}

export interface BackupRow {
  id: string;
  state: 'queued' | 'running' | 'done' | 'failed' | 'removed';
  storage: 'folder' | 's3';
  requested_by: string | null;
  file: string | null;
  size_bytes: bigint | null;
  bytes_so_far: bigint | null;
  sha256: string | null;
  error_code: string | null;
  detail: string | null;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
}

/** How often a dump under way says how far it is. */
const PROGRESS_MS = 1_000;
/** Whoever holds it makes a backup; nobody else does then, on any machine. */
const LOCK = 'backup';

/**
 * Backups of the whole database by pg_dump, in its custom format, into the archive: by schedule, by the API and by the command
 * alike. Each has a row in `backups`.
 */
export class Backups {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  /**
   * Throws `backup_not_configured`, `backup_tool_missing` or `backup_tool_outdated` when none can be made
   * here.
   */
  async assertPossible(): Promise<void> {
    if (this.#deps.archive === null)
      throw new Problem('backup_not_configured', 'Set TS_BACKUP_DIR to a folder, or TS_BACKUP_S3_BUCKET.');
    try {
      await this.serverMajor();
    } catch (error) {
      if (!(error instanceof BackupFailed)) throw error;
      if (error.code === 'backup_tool_outdated')
        throw new Problem('backup_tool_outdated', error.message, {}, { cause: error });
      const advice = 'Install the PostgreSQL client, or name pg_dump in TS_PG_DUMP.';
      throw new Problem('backup_tool_missing', advice, {}, { cause: error });
    }
  }

  /** Asks for one; the job `backup` makes it. */
  async request(client: Queryable, requestedBy: string | null): Promise<string> {
    const id = randomUUID();
    await client.query('INSERT INTO backups (id, requested_by, storage) VALUES ($1, $2, $3)', [
      id,
      requestedBy,
      this.#deps.archive?.storage.kind ?? 'folder',
    ]);
    return id;
  }

  /** The job: what was asked for, or, when nothing was, the one of the schedule; then old files go. */
  job(): Job {
    return {
      name: 'backup',
      description: 'Dumps the database into the configured storage, and removes old dumps.',
      schedule: '30 2 * * *',
      attemptsMax: 3,
      run: async ({ signal }) => {
        const { archive } = this.#deps;
        if (archive === null) return { skipped: 'backup_not_configured' };
        const { manifest, removed, notCleared } = await this.make(signal);
        const { file, size_bytes, sha256 } = manifest;
        return {
          ...{ file, size_bytes, sha256, storage: archive.storage.kind, removed: removed.length },
          ...(notCleared !== null && { not_cleared: notCleared }),
        };
      },
    };
  }

  /**
   * Makes a backup now, for all who have asked for one, and clears those past their time. Throws BackupFailed:
   * `backup_under_way` while another is being made.
   */
  async make(signal: AbortSignal, onBytes: OnBytes = () => {}): Promise<BackupMade> {
    const { archive, pool } = this.#deps;
    if (archive === null)
      throw new BackupFailed(
        'backup_not_configured',
        'Set TS_BACKUP_DIR to a folder, or TS_BACKUP_S3_BUCKET.',
      );
    const made = await withLock(pool, LOCK, async () => {
      let asked = await this.#takeUp();
      if (asked.length === 0) asked = [await this.request(pool, null)];
      // One dump answers all who asked before it began.
      const manifest = await this.#record(archive, asked, signal, onBytes);
      return { manifest, ...(await this.#clear(archive)) };
    });
    if (made === null) throw new BackupFailed('backup_under_way', 'Another backup is being made.');
    return made.result;
  }

  /** The server's major version. Throws when this pg_dump can not dump it. */
  async serverMajor(): Promise<number> {
    const { pool, tools } = this.#deps;
    const version = await toolVersion(tools.pgDump, tools);
    const { rows } = await pool.query<{ major: number }>(
      "SELECT current_setting('server_version_num')::int / 10000 AS major",
    );
    const { major } = rows[0] as { major: number };
    if (version !== null && version < major)
      throw new BackupFailed('backup_tool_outdated', outdated(tools.pgDump, version, major));
    return major;
  }

  /** Never rejects for the storage's sake: a backup that was made must not be made again for this. */
  async #clear(archive: BackupArchive): Promise<Pick<BackupMade, 'removed' | 'notCleared'>> {
    const { pool, retention, log } = this.#deps;
    let removed: string[];
    try {
      removed = await archive.prune(retention, Date.now());
    } catch (error) {
      if (!(error instanceof BackupFailed)) throw error;
      log.error({ err: error }, 'backups_not_cleared');
      return { removed: [], notCleared: `${error.code}: ${error.message}` };
    }
    await pool.query(`UPDATE backups SET state = 'removed' WHERE state = 'done' AND file = ANY ($1)`, [
      removed,
    ]);
    return { removed, notCleared: null };
  }

  /** What waits, and what a control plane that went away had begun. */
  async #takeUp(): Promise<string[]> {
    const { pool } = this.#deps;
    await pool.query(
      `UPDATE backups SET state = 'failed', ended_at = now(), error_code = 'interrupted' WHERE state = 'running'`,
    );
    const { rows } = await pool.query<{ id: string }>(
      `SELECT id FROM backups WHERE state = 'queued' ORDER BY created_at, id`,
    );
    return rows.map((row) => row.id);
  }

  async #record(
    archive: BackupArchive,
    ids: readonly string[],
    signal: AbortSignal,
    onBytes: OnBytes,
  ): Promise<Manifest> {
    const { pool, log } = this.#deps;
    const storage = archive.storage.kind;
    await pool.query(
      `UPDATE backups SET state = 'running', started_at = now(), storage = $2, bytes_so_far = 0 WHERE id = ANY ($1)`,
      [ids, storage],
    );
    try {
      const manifest = await this.#dump(archive, ids, signal, onBytes);
      const { file, size_bytes, sha256 } = manifest;
      await pool.query(
        `UPDATE backups SET state = 'done', ended_at = now(), file = $2, size_bytes = $3, sha256 = $4,
                            bytes_so_far = NULL WHERE id = ANY ($1)`,
        [ids, file, size_bytes, sha256],
      );
      log.info({ file, size_bytes, storage, key_id: manifest.key_id }, 'backup_done');
      return manifest;
    } catch (error) {
      const code = error instanceof BackupFailed ? error.code : 'backup_failed';
      await pool.query(
        `UPDATE backups SET state = 'failed', ended_at = now(), error_code = $2, detail = $3, bytes_so_far = NULL
          WHERE id = ANY ($1)`,
        [ids, code, (error as Error).message.slice(0, OUTPUT_LENGTH_MAX)],
      );
      throw error;
    }
  }

  async #dump(
    archive: BackupArchive,
    ids: readonly string[],
    signal: AbortSignal,
    onBytes: OnBytes,
  ): Promise<Manifest> {
    const { pool, tools, databaseUrl } = this.#deps;
    await archive.storage.tidy();
    const major = await this.serverMajor();
    let bytes = 0;
    const progress = setInterval(() => {
      pool.query('UPDATE backups SET bytes_so_far = $2 WHERE id = ANY ($1)', [ids, bytes]).catch(() => {}); // of no weight
    }, PROGRESS_MS);
    try {
      return await withSnapshot(pool, async (client, snapshot) => {
        const contents: DatabaseContents = await readContents(client);
        const madeAt = new Date();
        const label = {
          format: 1 as const,
          file: fileNameOf(madeAt, ids[0] as string, archive.keys.current !== null),
          made_at: madeAt.toISOString(),
          schema_version: contents.migrations.at(-1) ?? '',
        };
        const dump = dumpDatabase(tools, databaseUrl, snapshot, major);
        return archive.write(dump, label, { ...contents, backup_ids: [...ids] }, signal, (n) => {
          bytes = n;
          onBytes(n);
        });
      });
    } finally {
      clearInterval(progress);
    }
  }
}

/** Backups, latest first, after the row. */
export async function listBackups(
  db: Queryable,
  after: { createdAt: string; id: string } | null,
  limit: number,
): Promise<BackupRow[]> {
  const { rows } = await db.query<BackupRow>(
    `SELECT id, state, storage, requested_by, file, size_bytes, bytes_so_far, sha256, error_code, detail, created_at,
            started_at, ended_at
       FROM backups
      WHERE $1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid)
      ORDER BY created_at DESC, id DESC LIMIT $3`,
    [after?.createdAt ?? null, after?.id ?? null, limit],
  );
  return rows;
}
