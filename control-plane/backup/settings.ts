import { flag, integer, secret, text, type Values } from '../../gateway/runtime/environment.js';

/** Where dumps go, what seals them, how long they are kept, and the programs that make and read them. */
export const backupSettings = {
  backupDir: text(
    'TS_BACKUP_DIR',
    'folder that dumps of the database go to; unset, and no bucket either: no backups',
    null,
  ),
  backupS3Bucket: text('TS_BACKUP_S3_BUCKET', 'bucket that dumps go to, instead of a folder', null),
  backupS3Prefix: text(
    'TS_BACKUP_S3_PREFIX',
    'goes before the names of dumps in the bucket',
    'traffic-share/',
  ),
  backupS3Region: text('TS_BACKUP_S3_REGION', 'region of the bucket', 'us-east-1'),
  backupS3Endpoint: text(
    'TS_BACKUP_S3_ENDPOINT',
    'root of an S3-compatible service, https://…, asked with the bucket in the path; unset: Amazon S3',
    null,
  ),
  backupS3AccessKeyId: text(
    'TS_BACKUP_S3_ACCESS_KEY_ID',
    'key that may list, put, get and delete there; unset: as the AWS SDK finds it (a role of the machine)',
    null,
  ),
  backupS3SecretAccessKey: secret(
    'TS_BACKUP_S3_SECRET_ACCESS_KEY',
    'secret of TS_BACKUP_S3_ACCESS_KEY_ID',
    null,
  ),
  backupKey: secret(
    'TS_BACKUP_KEY',
    'key that dumps are encrypted with, 64 hexadecimal digits (openssl rand -hex 32); without it no dump can be read: keep it elsewhere, too',
    null,
  ),
  backupOldKeys: secret(
    'TS_BACKUP_OLD_KEYS',
    'earlier values of TS_BACKUP_KEY, by commas: their dumps are read and cleared, none is made with them',
    null,
  ),
  backupUnencrypted: flag(
    'TS_BACKUP_UNENCRYPTED',
    'in production: dumps are wanted although TS_BACKUP_KEY is not set; they hold everything that is known of people',
    false,
  ),
  backupKeptDays: integer(
    'TS_BACKUP_KEPT_DAYS',
    'the last dump of each of so many UTC days is kept, and all of the last 24 hours, days',
    { default: 14, min: 1, max: 3_650 },
  ),
  backupKeptWeeks: integer(
    'TS_BACKUP_KEPT_WEEKS',
    'the last dump of each of so many weeks (from Monday, UTC) is kept',
    { default: 4, max: 520 },
  ),
  backupKeptMonths: integer(
    'TS_BACKUP_KEPT_MONTHS',
    'the last dump of each of so many months (UTC) is kept; the newest dump of all always is',
    { default: 3, max: 120 },
  ),
  pgDumpPath: text('TS_PG_DUMP', 'pg_dump, not older than the server: a path or a name on PATH', 'pg_dump'),
  pgRestorePath: text(
    'TS_PG_RESTORE',
    'pg_restore, not older than the pg_dump that made a dump; unset: the one beside TS_PG_DUMP',
    null,
  ),
  restoreTestDatabaseUrl: secret(
    'TS_RESTORE_TEST_DATABASE_URL',
    'a database whose user may create others beside it, for the weekly test of the newest dump; unset: TS_DATABASE_URL',
    null,
  ),
};

export type BackupConfig = Values<typeof backupSettings>;

/** What is wrong with settings that could be read one by one; one line a problem. */
export function backupProblems(c: BackupConfig, production: boolean): string[] {
  const problems: string[] = [];
  if (c.backupDir !== null && c.backupS3Bucket !== null)
    problems.push('TS_BACKUP_DIR and TS_BACKUP_S3_BUCKET exclude each other');
  if ((c.backupS3AccessKeyId === null) !== (c.backupS3SecretAccessKey === null))
    problems.push('TS_BACKUP_S3_ACCESS_KEY_ID and TS_BACKUP_S3_SECRET_ACCESS_KEY go together');
  const scheme = production ? /^https:\/\/[^/]/ : /^https?:\/\/[^/]/;
  if (c.backupS3Endpoint !== null && !scheme.test(c.backupS3Endpoint))
    problems.push(`TS_BACKUP_S3_ENDPOINT must be https://…${production ? '' : ' or http://…'}`);
  if (c.backupKey !== null && !KEY.test(c.backupKey))
    problems.push('TS_BACKUP_KEY must be 64 hexadecimal digits: openssl rand -hex 32');
  if (!oldKeysOf(c).every((key) => KEY.test(key)))
    problems.push('TS_BACKUP_OLD_KEYS must be keys of 64 hexadecimal digits, by commas');
  const configured = c.backupDir !== null || c.backupS3Bucket !== null;
  if (production && configured && c.backupKey === null && !c.backupUnencrypted)
    problems.push('TS_BACKUP_KEY is required in production: or say that you want TS_BACKUP_UNENCRYPTED=1');
  return problems;
}

const KEY = /^[0-9a-fA-F]{64}$/;

/** Keys of earlier dumps, as written. */
export function oldKeysOf({ backupOldKeys }: Pick<BackupConfig, 'backupOldKeys'>): string[] {
  return (backupOldKeys ?? '')
    .split(',')
    .map((key) => key.trim())
    .filter(Boolean);
}
