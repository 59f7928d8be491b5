import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BackupFailed, type BackupFailure } from './storage.js';

/** Of what a tool says, the last of it is kept. */
export const OUTPUT_LENGTH_MAX = 2_000;

/** pg_dump's own word for a server newer than it is, and pg_restore's for a dump of a newer pg_dump. */
const MISMATCH = /server version mismatch|unsupported version \(/;

/** The programs of a PostgreSQL client. */
export interface PgTools {
  /** Paths, or names on PATH. */
  pgDump: string;
  pgRestore: string;
  /** PATH and the like: no secret of ours. */
  environment: Readonly<Record<string, string>>;
}

/** The pg_restore that came with a pg_dump: beside it when that is a path. */
export function pgRestoreBeside(pgDump: string): string {
  return pgDump.includes('/') ? join(dirname(pgDump), 'pg_restore') : 'pg_restore';
}

/**
 * A tool's major version, `pg_dump (PostgreSQL) 15.18` → 15; null when it says something else. Throws
 * `backup_tool_missing` when it does not start.
 */
export async function toolVersion(program: string, tools: PgTools): Promise<number | null> {
  const child = start(program, ['--version'], tools, 'ignore', {});
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, 200);
  });
  await ended(program, child, 'backup_failed', () => '');
  const major = /\(PostgreSQL\) (\d{1,3})/.exec(said)?.[1];
  return major === undefined ? null : Number(major);
}

/** What to do about a tool that is older than what it must work with. */
export function outdated(program: string, version: number | null, needed: number): string {
  const its = version === null ? 'older' : `of version ${version}`;
  const setting = program.endsWith('pg_restore') ? 'pg_restore in TS_PG_RESTORE' : 'pg_dump in TS_PG_DUMP';
  return (
    `${program} is ${its}, the server of version ${needed}: install the PostgreSQL client ${needed} or a newer ` +
    `one, and name its ${setting}.`
  );
}

/**
 * A dump of the whole database in pg_dump's custom format, of a snapshot that a transaction has exported. The stream
 * ends only after pg_dump ended well: when it fails, however late, the stream fails. Destroying the stream ends pg_dump.
 */
export function dumpDatabase(
  tools: PgTools,
  databaseUrl: string,
  snapshot: string,
  serverMajor: number,
): Readable {
  const { url, password } = withoutPassword(databaseUrl);
  const args = ['--format=custom', '--no-password', `--snapshot=${snapshot}`, `--dbname=${url}`];
  const child = start(tools.pgDump, args, tools, 'ignore', { PGPASSWORD: password });
  const end = ended(tools.pgDump, child, 'backup_failed', wordsOf(child, password));
  const dump = new PassThrough();
  child.stdout?.pipe(dump, { end: false });
  end.then(
    () => dump.end(),
    (error: Error) => dump.destroy(olderThan(error, tools.pgDump, serverMajor)),
  );
  dump.once('close', () => {
    child.kill('SIGTERM');
    child.stdout?.destroy();
  });
  return dump;
}

/**
 * Restores a dump into an empty database, in one transaction: all of it or, when anything fails, nothing. Owners and rights
 * are those of the user that restores. Rejects with what went wrong first, the source or pg_restore.
 */
export async function restoreDatabase(
  tools: PgTools,
  databaseUrl: string,
  dump: Readable,
  serverMajor: number,
  signal: AbortSignal,
): Promise<void> {
  const { url, password } = withoutPassword(databaseUrl);
  const args = [
    ...['--no-owner', '--no-privileges', '--exit-on-error', '--single-transaction', '--no-password'],
    `--dbname=${url}`,
  ];
  const child = start(tools.pgRestore, args, tools, 'pipe', { PGPASSWORD: password });
  child.stdout?.resume();
  const end = ended(tools.pgRestore, child, 'restore_failed', wordsOf(child, password));
  let sourceError: Error | null = null;
  dump.once('error', (error: Error) => {
    sourceError = error;
  });
  // Killed before its input ends: it must not take what was cut for the whole.
  const stop = () => child.kill('SIGKILL');
  const written = (child.stdin === null ? Promise.resolve() : pipeline(dump, child.stdin, { signal })).catch(
    (error: unknown) => {
      if (sourceError !== null || signal.aborted) stop();
      return error;
    },
  );
  const failure = await end.then(
    () => null,
    (error: Error) => error,
  );
  dump.destroy();
  const unwritten = await written;
  signal.throwIfAborted();
  if (sourceError !== null) throw sourceError;
  if (failure !== null) throw olderThan(failure, tools.pgRestore, serverMajor);
  if (unwritten !== undefined)
    throw new BackupFailed('restore_failed', 'pg_restore ended before it had read everything', {
      cause: unwritten,
    });
}

/** The password goes by environment: arguments are for all to see. */
function withoutPassword(databaseUrl: string): { url: string; password: string } {
  const url = new URL(databaseUrl);
  const password = decodeURIComponent(url.password);
  url.password = '';
  return { url: url.href, password };
}

function olderThan(error: Error, program: string, serverMajor: number): Error {
  const mismatch = error instanceof BackupFailed && MISMATCH.test(error.message);
  return mismatch ? new BackupFailed('backup_tool_outdated', outdated(program, null, serverMajor)) : error;
}

function start(
  program: string,
  args: string[],
  { environment }: PgTools,
  input: 'ignore' | 'pipe',
  secrets: Record<string, string>,
): ChildProcess {
  return spawn(program, args, {
    env: { ...environment, LC_ALL: 'C', ...secrets },
    stdio: [input, 'pipe', 'pipe'],
  });
}

/** What it says on stderr, the last of it, without the password. */
function wordsOf(child: ChildProcess, password: string): () => string {
  let output = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_LENGTH_MAX);
  });
  return () => (password === '' ? output : output.replaceAll(password, '***')).trim();
}

/** Resolves when it ended well. */
async function ended(
  program: string,
  child: ChildProcess,
  failure: BackupFailure,
  said: () => string,
): Promise<void> {
  child.stdin?.on('error', () => {}); // whoever writes hears of it
  let code: number | null;
  let killedBy: string | null;
  try {
    [code, killedBy] = (await once(child, 'close')) as [number | null, string | null];
  } catch (cause) {
    const { code: why = 'unknown' } = cause as { code?: string };
    throw new BackupFailed('backup_tool_missing', `${program} can not be started (${why})`, { cause });
  }
  if (code !== 0) throw new BackupFailed(failure, said() || `${program} ended with ${killedBy ?? code}`);
}
