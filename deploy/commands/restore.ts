import {
  assertRestorable,
  type Restored,
  type RestoreStep,
  restoreBackup,
} from '../../control-plane/backup/restore.js';
import { RestoreTests } from '../../control-plane/backup/restore-test.js';
import { BackupFailed } from '../../control-plane/backup/storage.js';
import { databaseNameOf, stateOf } from '../../control-plane/backup/target.js';
import { connectLive } from '../../gateway/live/connection.js';
import { forgetControlPlaneState } from '../../gateway/live/forget.js';
import { type BackupTools, EXIT, withArchive, withBackupTools, withPool } from './backup-command.js';
import { print } from './database-command.js';
import { Progress } from './progress.js';

export interface RestoreOptions {
  intoEmpty: boolean;
  replace: boolean;
  test: boolean;
  clearLiveState: boolean;
  dryRun: boolean;
  json: boolean;
}

const WORDS: Readonly<Record<RestoreStep, string>> = {
  verify: 'bytes of the backup read and found right',
  restore: 'bytes of the backup restored',
  compare: 'comparing with the manifest',
  migrate: 'migrating',
  prove: 'accounts proven',
  replace: 'taking the place of the database',
};

/**
 * `traffic-share restore`: restores a backup (`file`; without: the newest) into the database of TS_DATABASE_URL and proves it.
 * `test`: into a database beside it, which is dropped again. Resolves to the exit code (`EXIT`).
 */
export function runRestore(file: string | undefined, options: RestoreOptions): Promise<number> {
  const { intoEmpty, replace, test, clearLiveState } = options;
  if (clearLiveState && !intoEmpty && !replace && !test && !options.dryRun)
    return withBackupTools(options.json, async (tools) => {
      const cleared = await clear(tools);
      print(options.json, { ok: true, live_state_keys_cleared: cleared }, [clearedLine(cleared)]);
      return EXIT.done;
    });
  return withArchive(options.json, async (tools) => {
    if ([intoEmpty, replace, test].filter(Boolean).length !== 1) {
      process.stderr.write(
        'say --into-empty, --replace or --test, one of them, or --clear-live-state alone\n',
      );
      return EXIT.notPossible;
    }
    if (test && clearLiveState) {
      process.stderr.write('--test leaves the live state alone: --clear-live-state does not go with it\n');
      return EXIT.notPossible;
    }
    if (options.dryRun) return dryRun(tools, file ?? null, options);
    const steps = new Steps();
    const done = await (test ? testOne : restoreOne)(tools, file ?? null, options, steps).finally(() =>
      steps.end(),
    );
    const cleared = clearLiveState ? await clear(tools) : null;
    print(options.json, { ok: true, test, ...done, live_state_keys_cleared: cleared }, [
      `${test ? 'tested' : 'restored'} ${done.file} of ${done.made_at}: as in its manifest, ${done.accounts} accounts, everything adds up`,
      ...done.migrated.map((name) => `applied ${name}`),
      ...(done.replaced === null
        ? []
        : [`the database before is ${done.replaced}: drop it when you are sure`]),
      ...(cleared === null ? [] : [clearedLine(cleared)]),
    ]);
    return EXIT.done;
  });
}

async function dryRun(
  { config, archive, tools }: BackupTools,
  file: string | null,
  options: RestoreOptions,
): Promise<number> {
  const manifest = await archive.find(file);
  const url = options.test ? (config.restoreTestDatabaseUrl ?? config.databaseUrl) : config.databaseUrl;
  await assertRestorable(manifest, url, tools);
  const state = await stateOf(url);
  if (options.intoEmpty && state === 'filled')
    throw new BackupFailed(
      'restore_target_not_empty',
      'The database has tables: --replace would replace it.',
    );
  const database = databaseNameOf(url);
  print(options.json, { dry_run: true, file: manifest.file, made_at: manifest.made_at, database, state }, [
    options.test
      ? `would restore ${manifest.file} of ${manifest.made_at} beside ${database}, prove it, and drop it`
      : `would restore ${manifest.file} of ${manifest.made_at} into ${database}, which is ${state}`,
  ]);
  return EXIT.done;
}

async function restoreOne(
  { config, archive, tools, signal }: BackupTools,
  file: string | null,
  { replace }: RestoreOptions,
  steps: Steps,
): Promise<Restored> {
  const manifest = await archive.find(file);
  return restoreBackup(manifest, config.databaseUrl, replace ? 'replace' : 'empty', {
    archive,
    tools,
    signal,
    onProgress: (...step) => steps.update(...step),
  });
}

function testOne(
  { config, log, archive, tools, signal }: BackupTools,
  file: string | null,
  _options: RestoreOptions,
  steps: Steps,
): Promise<Restored> {
  return withPool(config.databaseUrl, 'traffic-share-restore-test', (pool) => {
    const databaseUrl = config.restoreTestDatabaseUrl ?? config.databaseUrl;
    const tests = new RestoreTests({ pool, log, archive, tools, databaseUrl });
    return tests.run(file, signal, (...step) => steps.update(...step));
  });
}

const clearedLine = (keys: number) => `cleared ${keys} keys of the live state`;

/** The control plane tells Redis everything anew; what Redis says was committed is more than the restored record knows. */
async function clear({ config, log }: Pick<BackupTools, 'config' | 'log'>): Promise<number> {
  const redis = connectLive({ url: config.redisUrl, log, connectionName: 'traffic-share-restore' });
  try {
    return await forgetControlPlaneState(redis);
  } catch (cause) {
    throw new BackupFailed(
      'restore_failed',
      'The database is as it should be, and Redis (TS_REDIS_URL) could not be cleared: it must be before any control plane starts.',
      { cause },
    );
  } finally {
    redis.disconnect();
  }
}

/** Progress of one step after the other, on stderr. */
class Steps {
  #step: RestoreStep | null = null;
  #progress: Progress | null = null;

  update(step: RestoreStep, done: number, total: number): void {
    if (step !== this.#step) {
      this.end();
      this.#step = step;
      if (total === 0) process.stderr.write(`${WORDS[step]}\n`);
      else this.#progress = new Progress(process.stderr, WORDS[step]);
    }
    if (total > 0) this.#progress?.update(done, total);
  }

  end(): void {
    this.#progress?.end();
    this.#progress = null;
  }
}
