import type { Log } from '../../gateway/runtime/logging.js';
import { BackupArchive } from './archive.js';
import { FolderStorage } from './folder-storage.js';
import { type PgTools, pgRestoreBeside } from './pg-tools.js';
import type { Retention } from './retention.js';
import { S3Storage } from './s3-storage.js';
import { BackupKey } from './sealing.js';
import { type BackupConfig, oldKeysOf } from './settings.js';
import type { BackupStorage } from './storage.js';

/** Where backups go and how they are sealed; null while no storage is configured. */
export function createArchive(config: BackupConfig, log: Log): BackupArchive | null {
  const storage = storageOf(config);
  if (storage === null) return null;
  const current = config.backupKey === null ? null : new BackupKey(config.backupKey);
  return new BackupArchive(
    storage,
    { current, old: oldKeysOf(config).map((hex) => new BackupKey(hex)) },
    log,
  );
}

/** The programs that dump and restore. */
export function pgToolsOf(config: BackupConfig, environment: Readonly<Record<string, string>>): PgTools {
  const { pgDumpPath: pgDump, pgRestorePath } = config;
  return { pgDump, pgRestore: pgRestorePath ?? pgRestoreBeside(pgDump), environment };
}

export function retentionOf(config: BackupConfig): Retention {
  return {
    days: config.backupKeptDays,
    weeks: config.backupKeptWeeks,
    months: config.backupKeptMonths,
  };
}

function storageOf(config: BackupConfig): BackupStorage | null {
  const { backupDir, backupS3Bucket: bucket } = config;
  const { backupS3AccessKeyId: accessKeyId, backupS3SecretAccessKey: secretAccessKey } = config;
  if (backupDir !== null) return new FolderStorage(backupDir);
  if (bucket === null) return null;
  return new S3Storage({
    bucket,
    prefix: config.backupS3Prefix,
    region: config.backupS3Region,
    endpoint: config.backupS3Endpoint,
    credentials: accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey },
  });
}
