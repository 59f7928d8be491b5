import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Readable, Transform } from 'node:stream';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';
import type { Job } from '../jobs/job.js';
import { dumpDatabase, OUTPUT_LENGTH_MAX, outdated, type PgDumpSettings, pgDumpVersion } from './pg-dump.js';
import { BackupFailed, type BackupStorage } from './storage.js';

export interface BackupDeps {
  pool: pg.Pool;
  log: Log;
  pgDump: PgDumpSettings;
  /** Null: none is configured, and there are no backups. */
  storage: BackupStorage | null;
  /** Files older than so many days are removed, never the newest. */
  keptDays: number;
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
/** Of the file that stands beside a dump once it was read back and is whole: `sha256sum -c` takes it. */
const CHECKSUM = '.sha256';

/**
 * Dumps of the whole database by pg_dump, in its custom format (`pg_restore` reads it, in parts and in
 * parallel), into a storage. A file has its name only when it is whole, and its checksum beside it only when
 * it was read back from the storage and is what pg_dump wrote.
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
    if (this.#deps.storage === null)
      throw new Problem('backup_not_configured', 'Set TS_BACKUP_DIR to a folder, or TS_BACKUP_S3_BUCKET.');
    try {
      await this.#serverMajor();
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
      this.#deps.storage?.kind ?? 'folder',
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
        const { storage } = this.#deps;
        if (storage === null) return { skipped: 'backup_not_configured' };
        let asked = await this.#takeUp();
        if (asked.length === 0) asked = [await this.request(this.#deps.pool, null)];
        // One dump answers all who asked before it began.
        const made = await this.#make(storage, asked, signal);
        return { ...made, storage: storage.kind, removed: await this.#removeOld(storage) };
      },
    };
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

  async #make(
    storage: BackupStorage,
    ids: readonly string[],
    signal: AbortSignal,
  ): Promise<{ file: string; size_bytes: number; sha256: string }> {
    const { pool, log } = this.#deps;
    await pool.query(
      `UPDATE backups SET state = 'running', started_at = now(), storage = $2, bytes_so_far = 0 WHERE id = ANY ($1)`,
      [ids, storage.kind],
    );
    const stamp = new Date().toISOString().replace(/[-:]/g, '').slice(0, 15);
    const file = `traffic-share-${stamp}-${(ids[0] as string).slice(0, 8)}.dump`;
    try {
      await storage.tidy();
      const { sizeBytes, sha256 } = await this.#dump(storage, file, ids, signal);
      await pool.query(
        `UPDATE backups SET state = 'done', ended_at = now(), file = $2, size_bytes = $3, sha256 = $4,
                            bytes_so_far = NULL WHERE id = ANY ($1)`,
        [ids, file, sizeBytes, sha256],
      );
      log.info({ file, size_bytes: sizeBytes, storage: storage.kind }, 'backup_done');
      return { file, size_bytes: sizeBytes, sha256 };
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
    storage: BackupStorage,
    file: string,
    ids: readonly string[],
    signal: AbortSignal,
  ): Promise<{ sizeBytes: number; sha256: string }> {
    const { pool, log, pgDump } = this.#deps;
    const written = new Tally();
    const dump = dumpDatabase(pgDump, await this.#serverMajor());
    let failure: Error | null = null;
    dump.once('error', (error) => {
      failure = error;
      written.destroy(error);
    });
    // The storage may not read it yet when pg_dump fails: an error that nobody hears would end the process.
    written.on('error', () => {});
    written.once('close', () => dump.destroy());
    const progress = setInterval(() => {
      pool
        .query('UPDATE backups SET bytes_so_far = $2 WHERE id = ANY ($1)', [ids, written.sizeBytes])
        .catch(() => {}); // of no weight
    }, PROGRESS_MS);
    try {
      await storage.put(file, dump.pipe(written), signal);
    } catch (error) {
      throw failure ?? error;
    } finally {
      clearInterval(progress);
    }
    try {
      const stored = await tallyOf(await storage.read(file), signal);
      if (stored.sizeBytes !== written.sizeBytes || stored.sha256 !== written.sha256)
        throw new BackupFailed(
          'backup_not_verified',
          `${written.sizeBytes} bytes were written, ${stored.sizeBytes} others read back`,
        );
      await storage.put(file + CHECKSUM, Readable.from([Buffer.from(`${stored.sha256}  ${file}\n`)]), signal);
      return stored;
    } catch (error) {
      await storage
        .remove(file)
        .catch((removal: unknown) => log.warn({ file, err: removal }, 'backup_not_removed'));
      throw error;
    }
  }

  /** The server's major version. Throws when this pg_dump can not dump it. */
  async #serverMajor(): Promise<number> {
    const { pool, pgDump } = this.#deps;
    const version = await pgDumpVersion(pgDump);
    const { rows } = await pool.query<{ major: number }>(
      "SELECT current_setting('server_version_num')::int / 10000 AS major",
    );
    const { major } = rows[0] as { major: number };
    if (version !== null && version < major)
      throw new BackupFailed('backup_tool_outdated', outdated(pgDump.program, version, major));
    return major;
  }

  /**
   * Files past their time, but never the last good one. Those of another storage stay: they can not be
   * reached.
   */
  async #removeOld(storage: BackupStorage): Promise<number> {
    const { pool, log, keptDays } = this.#deps;
    const { rows } = await pool.query<{ file: string }>(
      `SELECT DISTINCT file FROM backups
        WHERE state = 'done' AND storage = $2 AND ended_at < now() - make_interval(days => $1)
          AND file <> (SELECT file FROM backups WHERE state = 'done' AND storage = $2 ORDER BY ended_at DESC LIMIT 1)`,
      [keptDays, storage.kind],
    );
    for (const { file } of rows) {
      await storage.remove(file);
      await storage.remove(file + CHECKSUM);
      await pool.query(`UPDATE backups SET state = 'removed' WHERE state = 'done' AND file = $1`, [file]);
      log.info({ file }, 'backup_removed');
    }
    return rows.length;
  }
}

/** Passes bytes on and takes their size and checksum. */
class Tally extends Transform {
  readonly #hash = createHash('sha256');
  sizeBytes = 0;
  /** Hexadecimal; empty before the end. */
  sha256 = '';

  override _transform(piece: Buffer, _encoding: string, done: (error: null, piece: Buffer) => void): void {
    this.sizeBytes += piece.length;
    this.#hash.update(piece);
    done(null, piece);
  }

  override _flush(done: () => void): void {
    this.sha256 = this.#hash.digest('hex');
    done();
  }
}

async function tallyOf(
  source: Readable,
  signal: AbortSignal,
): Promise<{ sizeBytes: number; sha256: string }> {
  const tally = new Tally();
  source.once('error', (error) => tally.destroy(error));
  source.pipe(tally).resume();
  try {
    await once(tally, 'end', { signal });
  } catch (cause) {
    signal.throwIfAborted();
    throw new BackupFailed('backup_not_verified', 'what was stored can not be read back', { cause });
  } finally {
    source.destroy();
  }
  return { sizeBytes: tally.sizeBytes, sha256: tally.sha256 };
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
