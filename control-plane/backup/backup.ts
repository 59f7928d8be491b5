import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';
import type { Job } from '../jobs/job.js';

export interface BackupOptions {
  databaseUrl: string;
  /** Folder of the files; null: none is configured, and there are no backups. */
  folder: string | null;
  /** The program, a path or a name on PATH. */
  pgDump: string;
  /** Environment of the program: PATH and the like. */
  environment: Readonly<Record<string, string>>;
  /** Files older than so many days are removed, never the newest. */
  keptDays: number;
}

export interface BackupDeps extends BackupOptions {
  pool: pg.Pool;
  log: Log;
}

export interface BackupRow {
  id: string;
  state: 'queued' | 'running' | 'done' | 'failed' | 'removed';
  requested_by: string | null;
  file: string | null;
  size_bytes: bigint | null;
  error_code: string | null;
  detail: string | null;
  created_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
}

/** Of what pg_dump says, the last of it is kept. */
const OUTPUT_LENGTH_MAX = 2_000;

/** A backup that did not come about. */
class BackupFailed extends Error {
  constructor(
    readonly code: 'backup_tool_missing' | 'backup_failed' | 'backup_folder_unusable',
    message: string,
  ) {
    super(message);
  }
}

/**
 * Dumps of the whole database by pg_dump, in its custom format (`pg_restore` reads it, in parts and in parallel), into a
 * folder. A file has its name only when it is whole.
 */
export class Backups {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  /** Throws `backup_not_configured` or `backup_tool_missing` when none can be made here. */
  async assertPossible(): Promise<void> {
    const { folder } = this.#deps;
    if (folder === null) throw new Problem('backup_not_configured', 'Set TS_BACKUP_DIR to a folder.');
    try {
      await this.#pgDump(['--version'], {}, new AbortController().signal);
    } catch (error) {
      throw new Problem(
        'backup_tool_missing',
        'Install the PostgreSQL client, or name pg_dump in TS_PG_DUMP.',
        {},
        {
          cause: error,
        },
      );
    }
  }

  /** Asks for one; the job `backup` makes it. */
  async request(client: Queryable, requestedBy: string | null): Promise<string> {
    const id = randomUUID();
    await client.query('INSERT INTO backups (id, requested_by) VALUES ($1, $2)', [id, requestedBy]);
    return id;
  }

  /** The job: what was asked for, or, when nothing was, the one of the schedule; then old files go. */
  job(): Job {
    return {
      name: 'backup',
      description: 'Dumps the database into the configured folder, and removes old dumps.',
      schedule: '30 2 * * *',
      attemptsMax: 3,
      run: async ({ signal }) => {
        if (this.#deps.folder === null) return { skipped: 'backup_not_configured' };
        let asked = await this.#takeUp();
        if (asked.length === 0) asked = [await this.request(this.#deps.pool, null)];
        // One dump answers all who asked before it began.
        const size = await this.#make(asked, signal);
        return { size_bytes: Number(size), removed: await this.#removeOld() };
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

  async #make(ids: readonly string[], signal: AbortSignal): Promise<bigint> {
    const { pool, log, folder } = this.#deps;
    await pool.query(`UPDATE backups SET state = 'running', started_at = now() WHERE id = ANY ($1)`, [ids]);
    const stamp = new Date().toISOString().replace(/[-:]/g, '').slice(0, 15);
    const file = `traffic-share-${stamp}-${(ids[0] as string).slice(0, 8)}.dump`;
    try {
      const size = await this.#dump(folder as string, file, signal);
      await pool.query(
        `UPDATE backups SET state = 'done', ended_at = now(), file = $2, size_bytes = $3 WHERE id = ANY ($1)`,
        [ids, file, size],
      );
      log.info({ file, size_bytes: Number(size) }, 'backup_done');
      return size;
    } catch (error) {
      const code = error instanceof BackupFailed ? error.code : 'backup_failed';
      await pool.query(
        `UPDATE backups SET state = 'failed', ended_at = now(), error_code = $2, detail = $3 WHERE id = ANY ($1)`,
        [ids, code, (error as Error).message.slice(0, OUTPUT_LENGTH_MAX)],
      );
      throw error;
    }
  }

  async #dump(folder: string, file: string, signal: AbortSignal): Promise<bigint> {
    const part = join(folder, `${file}.part`);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await (await open(part, 'wx', 0o600)).close();
    } catch (error) {
      throw new BackupFailed('backup_folder_unusable', (error as Error).message);
    }
    try {
      // The password goes by environment: arguments are for all to see.
      const url = new URL(this.#deps.databaseUrl);
      const password = decodeURIComponent(url.password);
      url.password = '';
      await this.#pgDump(
        ['--format=custom', '--no-password', `--file=${part}`, `--dbname=${url.href}`],
        { PGPASSWORD: password },
        signal,
      );
      const handle = await open(part, 'r');
      await handle.sync();
      await handle.close();
      const { size } = await stat(part);
      await rename(part, join(folder, file));
      return BigInt(size);
    } finally {
      await rm(part, { force: true });
    }
  }

  async #pgDump(args: string[], secrets: Record<string, string>, signal: AbortSignal): Promise<void> {
    const child: ChildProcess = spawn(this.#deps.pgDump, args, {
      env: { ...this.#deps.environment, LC_ALL: 'C', ...secrets },
      stdio: ['ignore', 'ignore', 'pipe'],
      signal,
    });
    let output = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_LENGTH_MAX);
    });
    let code: number | null;
    try {
      [code] = (await once(child, 'close')) as [number | null];
    } catch (error) {
      const { code: why } = error as { code?: string };
      if (why === 'ENOENT' || why === 'EACCES')
        throw new BackupFailed('backup_tool_missing', `${this.#deps.pgDump} can not be started (${why})`);
      throw error;
    }
    signal.throwIfAborted();
    if (code !== 0) throw new BackupFailed('backup_failed', output.trim() || `pg_dump ended with ${code}`);
  }

  /** Files past their time, but never the last good one. */
  async #removeOld(): Promise<number> {
    const { pool, log, folder, keptDays } = this.#deps;
    const { rows } = await pool.query<{ file: string }>(
      `SELECT DISTINCT file FROM backups
        WHERE state = 'done' AND ended_at < now() - make_interval(days => $1)
          AND file <> (SELECT file FROM backups WHERE state = 'done' ORDER BY ended_at DESC LIMIT 1)`,
      [keptDays],
    );
    for (const { file } of rows) {
      await rm(join(folder as string, file), { force: true });
      await pool.query(`UPDATE backups SET state = 'removed' WHERE state = 'done' AND file = $1`, [file]);
      log.info({ file }, 'backup_removed');
    }
    return rows.length;
  }
}

/** Backups, latest first, after the row. */
export async function listBackups(
  db: Queryable,
  after: { createdAt: string; id: string } | null,
  limit: number,
): Promise<BackupRow[]> {
  const { rows } = await db.query<BackupRow>(
    `SELECT id, state, requested_by, file, size_bytes, error_code, detail, created_at, started_at, ended_at
       FROM backups
      WHERE $1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid)
      ORDER BY created_at DESC, id DESC LIMIT $3`,
    [after?.createdAt ?? null, after?.id ?? null, limit],
  );
  return rows;
}
