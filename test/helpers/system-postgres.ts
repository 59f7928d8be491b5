import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { appendFile, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import { hasProgram } from './programs.js';

const run = promisify(execFile);

/** Where Debian puts each version of PostgreSQL. */
const VERSIONS = '/usr/lib/postgresql';

export interface SystemPostgres {
  /** Major version. */
  version: number;
  /** `postgres://…` of its database `postgres`. */
  url: string;
  /** Path of one of its programs, such as `pg_dump`. */
  program(name: string): string;
  /** Its data lies in `data` of it; the server's user may write here. */
  home: string;
  /** Whom the server runs as; null: as this process. */
  user: { uid: number; gid: number } | null;
}

/**
 * The PostgreSQL that the system's packages brought, newest version, server and client programs, started for
 * this test on a free port; `more`: further settings of the server. Null, with a word about it, where there is none
 * (`hasProgram`).
 */
export async function startSystemPostgres(
  t: Test,
  more: (home: string) => Record<string, string> = () => ({}),
): Promise<SystemPostgres | null> {
  const version = existsSync(VERSIONS)
    ? Math.max(
        0,
        ...readdirSync(VERSIONS)
          .map(Number)
          .filter((n) => existsSync(`${VERSIONS}/${n}/bin/postgres`)),
      )
    : 0;
  const program = (name: string) => `${VERSIONS}/${version}/bin/${name}`;
  if (!(await hasProgram(t, 'postgresql', [program('pg_dump'), '--version']))) return null;
  const user = process.getuid?.() === 0 ? postgresUser() : null;
  const home = await mkdtemp(join(tmpdir(), 'ts-pg-system-'));
  if (user !== null) await chown(home, user.uid, user.gid);
  const data = join(home, 'data');
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C' };
  // The test's own server on loopback, for as long as the test lasts.
  const flags = [
    '--username=postgres',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
    '-D',
    data,
  ];
  await run(program('initdb'), flags, { env, cwd: '/', ...user });
  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'off',
    timezone: 'UTC',
    ...more(home),
  };
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  );
  await appendFile(join(data, 'postgresql.conf'), lines.join(''));
  const server = spawn(program('postgres'), ['-D', data, '-p', String(port)], {
    env,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    ...user,
  });
  const exited = once(server, 'exit');
  t.teardown(async () => {
    server.kill('SIGQUIT');
    await exited;
    await rm(home, { recursive: true, force: true });
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    server.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('database system is ready to accept connections')) resolve();
    });
    exited.then(() => reject(new Error(`PostgreSQL did not start:\n${said}`)), reject);
  });
  return { version, url: `postgres://postgres@127.0.0.1:${port}/postgres`, program, home, user };
}

/** PostgreSQL does not run as root. */
function postgresUser(): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((l) => l.startsWith('postgres:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  return { uid: Number(uid), gid: Number(gid) };
}
