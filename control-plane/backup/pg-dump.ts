import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { BackupFailed } from './storage.js';

/** Of what pg_dump says, the last of it is kept. */
export const OUTPUT_LENGTH_MAX = 2_000;

/** pg_dump's own word for a server newer than it is. */
const MISMATCH = /server version mismatch/;

export interface PgDumpSettings {
  /** A path or a name on PATH. */
  program: string;
  /** PATH and the like: no secret of ours. */
  environment: Readonly<Record<string, string>>;
  databaseUrl: string;
}

/**
 * Its major version, `pg_dump (PostgreSQL) 15.18` → 15; null when it says something else. Throws when it does
 * not start.
 */
export async function pgDumpVersion(settings: PgDumpSettings): Promise<number | null> {
  const child = start(settings, ['--version'], {});
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, 200);
  });
  await ended(settings, child, () => '');
  const major = /\(PostgreSQL\) (\d{1,3})/.exec(said)?.[1];
  return major === undefined ? null : Number(major);
}

/** What to do about a pg_dump that is older than the server. */
export function outdated(program: string, version: number | null, serverMajor: number): string {
  const its = version === null ? 'older' : `of version ${version}`;
  return (
    `${program} is ${its}, the server of version ${serverMajor}: install the PostgreSQL client ${serverMajor} or a newer ` +
    'one, and name its pg_dump in TS_PG_DUMP.'
  );
}

/**
 * A dump of the whole database in pg_dump's custom format, which pg_restore reads. The stream ends only after
 * pg_dump ended well: when it fails, however late, the stream fails. Destroying the stream ends pg_dump.
 */
export function dumpDatabase(settings: PgDumpSettings, serverMajor: number): Readable {
  const url = new URL(settings.databaseUrl);
  const password = decodeURIComponent(url.password);
  url.password = '';
  const args = ['--format=custom', '--no-password', `--dbname=${url.href}`];
  // The password goes by environment: arguments are for all to see.
  const child = start(settings, args, { PGPASSWORD: password });
  let output = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_LENGTH_MAX);
  });
  const end = ended(settings, child, () => {
    const words = output.trim();
    return password === '' ? words : words.replaceAll(password, '***');
  });
  const dump = new PassThrough();
  child.stdout?.pipe(dump, { end: false });
  end.then(
    () => dump.end(),
    (error: Error) => {
      const mismatch = error instanceof BackupFailed && MISMATCH.test(error.message);
      const why = mismatch ? outdated(settings.program, null, serverMajor) : null;
      dump.destroy(why === null ? error : new BackupFailed('backup_tool_outdated', why));
    },
  );
  dump.once('close', () => {
    child.kill('SIGTERM');
    child.stdout?.destroy();
  });
  return dump;
}

function start(settings: PgDumpSettings, args: string[], secrets: Record<string, string>): ChildProcess {
  return spawn(settings.program, args, {
    env: { ...settings.environment, LC_ALL: 'C', ...secrets },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Resolves when it ended well. */
async function ended(settings: PgDumpSettings, child: ChildProcess, said: () => string): Promise<void> {
  let code: number | null;
  let killedBy: string | null;
  try {
    [code, killedBy] = (await once(child, 'close')) as [number | null, string | null];
  } catch (cause) {
    const { code: why = 'unknown' } = cause as { code?: string };
    throw new BackupFailed('backup_tool_missing', `${settings.program} can not be started (${why})`, {
      cause,
    });
  }
  if (code !== 0) throw new BackupFailed('backup_failed', said() || `pg_dump ended with ${killedBy ?? code}`);
}
