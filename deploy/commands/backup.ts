import type { ArchiveList } from '../../control-plane/backup/archive.js';
import { Backups } from '../../control-plane/backup/backup.js';
import { retentionOf } from '../../control-plane/backup/create.js';
import type { Manifest } from '../../control-plane/backup/manifest.js';
import { outlived } from '../../control-plane/backup/retention.js';
import { BackupFailed } from '../../control-plane/backup/storage.js';
import { type BackupTools, EXIT, withArchive, withPool } from './backup-command.js';
import { print } from './database-command.js';
import { Progress } from './progress.js';

export interface BackupOptions {
  list: boolean;
  /** Name of a backup; true: the newest. */
  verify?: string | true;
  dryRun: boolean;
  json: boolean;
}

/**
 * `traffic-share backup`: makes one as the scheduled job does, into the configured storage, and clears those past their time;
 * or lists them, or reads one from end to end. Resolves to the exit code (`EXIT`).
 */
export function runBackup(options: BackupOptions): Promise<number> {
  return withArchive(options.json, async (tools) => {
    if (options.list && options.verify !== undefined) {
      process.stderr.write('--list and --verify exclude each other\n');
      return EXIT.notPossible;
    }
    if (options.list) return list(tools, options.json);
    if (options.verify !== undefined) return verify(tools, options.verify, options.json);
    return make(tools, options);
  });
}

async function make(
  { config, log, archive, tools, signal }: BackupTools,
  options: BackupOptions,
): Promise<number> {
  return withPool(config.databaseUrl, 'traffic-share-backup', async (pool) => {
    const retention = retentionOf(config);
    const backups = new Backups({ pool, log, databaseUrl: config.databaseUrl, tools, archive, retention });
    if (options.dryRun) {
      await backups.serverMajor();
      const { backups: there } = await archive.list();
      const removed = outlived(
        [{ made_at: new Date().toISOString(), file: '' }, ...there],
        retention,
        Date.now(),
      );
      const files = removed.map(({ file }) => file);
      print(options.json, { dry_run: true, storage: archive.storage.kind, would_remove: files }, [
        `would dump the database into the ${archive.storage.kind}`,
        ...files.map((file) => `would remove ${file}`),
      ]);
      return EXIT.done;
    }
    if (archive.keys.current === null)
      process.stderr.write('TS_BACKUP_KEY is not set: whoever gets the dump can read everything\n');
    const progress = new MegabytesDone();
    const { manifest, removed, notCleared } = await backups
      .make(signal, (bytes) => progress.update(bytes))
      .finally(() => progress.end());
    if (notCleared !== null) process.stderr.write(`older ones were not cleared: ${notCleared}\n`);
    print(options.json, { ok: true, ...manifest, removed, not_cleared: notCleared }, [
      `made ${manifest.file}, ${manifest.size_bytes} bytes`,
      ...removed.map((file) => `removed ${file}`),
    ]);
    return EXIT.done;
  });
}

async function list({ archive }: BackupTools, json: boolean): Promise<number> {
  const found: ArchiveList = await archive.list();
  print(json, found, [
    ...found.backups.map(lineOf),
    ...found.unfinished.map((file) => `${file}  UNFINISHED: it has no manifest`),
    ...found.damaged.map(({ file, why }) => `${file}  DAMAGED: ${why}`),
  ]);
  return found.damaged.length === 0 ? EXIT.done : EXIT.badBackup;
}

function lineOf({ file, made_at, size_bytes, schema_version, key_id, contents }: Manifest): string {
  const key =
    key_id === null ? 'not encrypted' : `key ${key_id}${contents === null ? ', not known here' : ''}`;
  return `${file}  ${made_at}  ${size_bytes} bytes  schema ${schema_version}  ${key}`;
}

async function verify({ archive, signal }: BackupTools, file: string | true, json: boolean): Promise<number> {
  const manifest = await archive.find(file === true ? null : file);
  const progress = new Progress(process.stderr, 'bytes read');
  await archive
    .verify(manifest, signal, (bytes) => progress.update(bytes, manifest.size_bytes))
    .finally(() => progress.end());
  if (manifest.contents === null)
    throw new BackupFailed('backup_key_missing', `The key ${manifest.key_id} is not known here.`);
  print(json, { ok: true, ...manifest }, [`${manifest.file} is whole`]);
  return EXIT.done;
}

const STEP_BYTES = 2 ** 26;

/** How far a dump is: nobody knows how long it will be. */
class MegabytesDone {
  #said = 0;
  #shown = false;

  update(bytes: number): void {
    if (bytes - this.#said < STEP_BYTES) return;
    this.#said = bytes;
    this.#shown = true;
    const words = `${Math.floor(bytes / 1_000_000)} MB dumped`;
    process.stderr.write(process.stderr.isTTY ? `\r${words}` : `${words}\n`);
  }

  end(): void {
    if (this.#shown && process.stderr.isTTY) process.stderr.write('\n');
  }
}
