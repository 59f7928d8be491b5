import { recordAudit } from '../audit/audit.js';
import { migrateJobQueue } from '../db/job-queue.js';
import { knownMigrations, migrate } from '../db/migrate.js';
import { createPool, withTransaction } from '../db/pool.js';
import { verify } from '../ledger/verify.js';
import { invariants } from '../settlement/invariants.js';
import type { BackupArchive } from './archive.js';
import { differences, readContents } from './contents.js';
import type { Manifest } from './manifest.js';
import { outdated, type PgTools, restoreDatabase, toolVersion } from './pg-tools.js';
import { BackupFailed } from './storage.js';
import {
  assertUnused,
  createDatabase,
  dropDatabase,
  scratchName,
  serverMajorOf,
  stateOf,
  takePlace,
  withDatabaseName,
} from './target.js';

/** Steps of a restore, in order, for who waits. */
export type RestoreStep = 'verify' | 'restore' | 'compare' | 'migrate' | 'prove' | 'replace';

export interface RestoreDeps {
  archive: BackupArchive;
  tools: PgTools;
  signal: AbortSignal;
  /** How far a step is; `total` 0: not known. */
  onProgress?: (step: RestoreStep, done: number, total: number) => void;
}

/** What a restored database is. */
export interface Restored {
  file: string;
  made_at: string;
  /** Migrations applied after the restore: the backup was of an older program. */
  migrated: string[];
  /** Accounts of the ledger that were proven. */
  accounts: number;
  /** Name that the database had in whose place it is; null: there was none. */
  replaced: string | null;
}

/** The database was restored and is not as it should be; it stays as it is, for people to look at. */
export class RestoreDiffers extends BackupFailed {
  constructor(
    readonly database: string,
    readonly faults: readonly string[],
  ) {
    super(
      'restore_differs',
      `Restored into ${database}, which is not as it was: ${faults.slice(0, 20).join('; ')}`,
    );
  }
}

/**
 * Whether a backup can be restored on the server of `url`, before anything is read or written: its key is known, its schema is not
 * newer than this program's, server and pg_restore are not older than what made it. Throws BackupFailed.
 */
export async function assertRestorable(
  manifest: Manifest,
  url: string,
  tools: PgTools,
): Promise<{ serverMajor: number }> {
  const { contents, file, key_id } = manifest;
  if (contents === null)
    throw new BackupFailed(
      'backup_key_missing',
      `${file} is sealed with key ${key_id}, which is not known here.`,
    );
  const known = await knownMigrations();
  const unknown = contents.migrations.filter((name) => !known.includes(name));
  if (unknown.length > 0)
    throw new BackupFailed(
      'backup_too_new',
      `${file} is of a newer program: ${unknown.join(', ')}. Run that one.`,
    );
  const madeBy = Math.floor(contents.server_version_num / 10_000);
  const serverMajor = await serverMajorOf(url);
  if (serverMajor < madeBy)
    throw new BackupFailed(
      'restore_server_too_old',
      `${file} is of PostgreSQL ${madeBy}, the server is of version ${serverMajor}.`,
    );
  const tool = await toolVersion(tools.pgRestore, tools);
  if (tool !== null && tool < madeBy)
    throw new BackupFailed('backup_tool_outdated', outdated(tools.pgRestore, tool, madeBy));
  return { serverMajor };
}

/**
 * Restores a backup into the database of `url`. `empty`: the database is empty, or made here; else `restore_target_not_empty`.
 * `replace`: into a new database beside it, which takes its name once it is proven; the old one goes on under another
 * name. Nobody may be connected to it. When it fails there is nothing half done: what was made is dropped, what was empty is
 * empty. Throws BackupFailed; RestoreDiffers once the restored database differs from the manifest or does not add up.
 */
export async function restoreBackup(
  manifest: Manifest,
  url: string,
  into: 'empty' | 'replace',
  deps: RestoreDeps,
): Promise<Restored> {
  const { serverMajor } = await assertRestorable(manifest, url, deps.tools);
  const state = await stateOf(url);
  if (into === 'empty' && state === 'filled')
    throw new BackupFailed(
      'restore_target_not_empty',
      'The database has tables. Name an empty one in TS_DATABASE_URL, or say --replace.',
    );
  const beside = into === 'replace' && state !== 'absent';
  if (beside) await assertUnused(url);
  await verifyBackup(manifest, deps);

  const targetUrl = beside ? withDatabaseName(url, scratchName(url, 'restoring')) : url;
  const made = beside || state === 'absent';
  if (made) await createDatabase(targetUrl);
  try {
    await fill(manifest, targetUrl, serverMajor, deps);
  } catch (error) {
    if (made) await dropDatabase(targetUrl).catch(() => {});
    throw error;
  }
  const proven = await proveRestored(manifest, targetUrl, deps);
  deps.onProgress?.('replace', 0, 0);
  const replaced = beside ? await takePlace(url, targetUrl) : null;
  return { file: manifest.file, made_at: manifest.made_at, ...proven, replaced };
}

/**
 * Restores a backup into a database of its own beside `url`'s, proves it there as after a real restore, and drops it. Throws as
 * `restoreBackup` does.
 */
export async function tryBackup(manifest: Manifest, url: string, deps: RestoreDeps): Promise<Restored> {
  const { serverMajor } = await assertRestorable(manifest, url, deps.tools);
  await verifyBackup(manifest, deps);
  const scratchUrl = withDatabaseName(url, scratchName(url, 'restore_test'));
  await createDatabase(scratchUrl);
  try {
    await fill(manifest, scratchUrl, serverMajor, deps);
    const proven = await proveRestored(manifest, scratchUrl, deps);
    return { file: manifest.file, made_at: manifest.made_at, ...proven, replaced: null };
  } finally {
    await dropDatabase(scratchUrl);
  }
}

/** Read from end to end before the first row is restored: what is damaged is refused, not found out half way. */
async function verifyBackup(manifest: Manifest, { archive, signal, onProgress }: RestoreDeps): Promise<void> {
  await archive.verify(manifest, signal, (bytes) => onProgress?.('verify', bytes, manifest.size_bytes));
}

async function fill(
  manifest: Manifest,
  url: string,
  serverMajor: number,
  { archive, tools, signal, onProgress }: RestoreDeps,
): Promise<void> {
  const dump = await archive.open(manifest, undefined, (bytes) =>
    onProgress?.('restore', bytes, manifest.size_bytes),
  );
  await restoreDatabase(tools, url, dump, serverMajor, signal);
}

/** Compares with the manifest, migrates, proves the books, and writes down that it was restored. */
async function proveRestored(
  { contents, file, made_at, size_bytes, sha256 }: Manifest,
  url: string,
  { archive, signal, onProgress }: RestoreDeps,
): Promise<Pick<Restored, 'migrated' | 'accounts'>> {
  if (contents === null) throw new Error('assertRestorable was not asked');
  const pool = createPool({
    databaseUrl: url,
    applicationName: 'traffic-share-restore',
    connectionsMax: 2,
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  const database = new URL(url).pathname.slice(1);
  try {
    onProgress?.('compare', 0, 0);
    const found = await withTransaction(pool, readContents, 'REPEATABLE READ');
    const faults = differences(contents, found);
    if (faults.length > 0) throw new RestoreDiffers(database, faults);
    signal.throwIfAborted();
    onProgress?.('migrate', 0, 0);
    const migrated = await migrate(url);
    await migrateJobQueue(url);
    const ledger = await verify(pool, (done, total) => onProgress?.('prove', done, total));
    const books = [
      ...new Set([
        ...ledger.faults.map(({ code, detail }) => `${code}: ${detail}`),
        ...(await invariants(pool)),
      ]),
    ];
    if (books.length > 0) throw new RestoreDiffers(database, books);
    await withTransaction(pool, async (client) => {
      // In the snapshot it was being made.
      await client.query(
        `UPDATE backups SET state = 'done', ended_at = now(), file = $2, size_bytes = $3, sha256 = $4, storage = $5,
                            bytes_so_far = NULL WHERE id = ANY ($1::uuid[])`,
        [contents.backup_ids, file, size_bytes, sha256, archive.storage.kind],
      );
      await recordAudit(client, {
        actor: { role: 'system' },
        action: 'database_restored',
        objectType: 'backup',
        objectId: contents.backup_ids[0] ?? null,
        after: { file, made_at },
      });
    });
    return { migrated, accounts: ledger.accounts };
  } finally {
    await pool.end();
  }
}
