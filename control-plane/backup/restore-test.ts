import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { withLock } from '../db/pool.js';
import type { Job } from '../jobs/job.js';
import type { BackupArchive } from './archive.js';
import type { Manifest } from './manifest.js';
import { OUTPUT_LENGTH_MAX, type PgTools } from './pg-tools.js';
import { type RestoreDeps, type Restored, tryBackup } from './restore.js';
import { BackupFailed } from './storage.js';

export interface RestoreTestDeps {
  /** Where the outcome is written down. */
  pool: pg.Pool;
  log: Log;
  archive: BackupArchive | null;
  tools: PgTools;
  /** Beside this database it is restored; its user may create databases. */
  databaseUrl: string;
}

/**
 * Tests of backups: the newest one is restored into a database of its own, compared with its manifest, proven, and dropped. The
 * outcome is a row in `restore_tests`, whichever it is, and a metric.
 */
export class RestoreTests {
  readonly #deps: RestoreTestDeps;

  constructor(deps: RestoreTestDeps) {
    this.#deps = deps;
  }

  job(): Job {
    return {
      name: 'restore_test',
      description: 'Restores the newest backup into a database of its own, proves it there, and drops it.',
      schedule: '30 4 * * 0',
      attemptsMax: 2,
      run: async ({ signal }) => {
        if (this.#deps.archive === null) return { skipped: 'backup_not_configured' };
        return { ...(await this.run(null, signal)) };
      },
    };
  }

  /**
   * Tests a backup, or (null) the newest. Throws what keeps it from being restored, after it was written down.
   */
  async run(
    file: string | null,
    signal: AbortSignal,
    onProgress?: RestoreDeps['onProgress'],
  ): Promise<Restored> {
    const { archive, pool, tools, databaseUrl, log } = this.#deps;
    if (archive === null)
      throw new BackupFailed(
        'backup_not_configured',
        'Set TS_BACKUP_DIR to a folder, or TS_BACKUP_S3_BUCKET.',
      );
    const ran = await withLock(pool, 'restore_test', async () => {
      const startedAt = new Date();
      let manifest: Manifest | null = null;
      try {
        manifest = await archive.find(file);
        const restored = await tryBackup(manifest, databaseUrl, {
          archive,
          tools,
          signal,
          ...(onProgress && { onProgress }),
        });
        await this.#record(startedAt, manifest, null);
        log.info({ file: restored.file, accounts: restored.accounts }, 'restore_test_passed');
        return restored;
      } catch (error) {
        await this.#record(startedAt, manifest, error as Error);
        throw error;
      }
    });
    if (ran === null) throw new BackupFailed('backup_under_way', 'Another test of a backup is under way.');
    return ran.result;
  }

  async #record(startedAt: Date, manifest: Manifest | null, error: Error | null): Promise<void> {
    const code = error === null ? null : error instanceof BackupFailed ? error.code : 'restore_failed';
    await this.#deps.pool.query(
      `INSERT INTO restore_tests (started_at, file, made_at, error_code, detail) VALUES ($1, $2, $3, $4, $5)`,
      [
        startedAt,
        manifest?.file ?? null,
        manifest?.made_at ?? null,
        code,
        error?.message.slice(0, OUTPUT_LENGTH_MAX) ?? null,
      ],
    );
  }
}
