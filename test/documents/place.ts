import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { freePort, startRedis } from '../helpers/services.js';
import type { StandaloneFile } from '../helpers/standalone.js';
import type { SystemPostgres } from '../helpers/system-postgres.js';
import { writeStandIns } from './stand-ins.js';

/** How long anything may take that is waited for. */
const WAIT_MS = 60_000;
const PORTS = ['PROXY', 'API', 'TUNNEL', 'METRICS', 'CONTROL_METRICS', 'DEMO'].map(
  (name) => `TS_${name}_PORT`,
);

/** Where the commands of documents run: a checkout, and around it what an operator has. */
export interface Place {
  /** The checkout. */
  folder: string;
  /** Around it. */
  home: string;
  /** What is /etc/traffic-share elsewhere. */
  etc: string;
  databaseUrl: string;
  redisUrl: string;
  /** Of every shell: no settings but ports, since a person's shell has none. */
  env: Readonly<Record<string, string>>;
  /** Calls of stand-ins are written there. */
  record: string;
  /** Resolves when the system that `npm start` starts here is ready. */
  untilStarted: () => Promise<StandaloneFile>;
  /** The system that runs here. Throws when none does. */
  system: () => StandaloneFile;
  /** Its API; throws unless the answer is 2xx. */
  call: (
    method: string,
    path: string,
    token: string | null,
    body?: object,
  ) => Promise<Record<string, unknown>>;
  /** Resolves when so many devices share. */
  untilTunnels: (count: number) => Promise<unknown>;
  /** The code that the system's log shows for a Telegram id once `action` has made it ask for one. */
  loginCode: (telegramId: number, action: () => Promise<unknown>) => Promise<string>;
}

/** A place with nothing running but Postgres and Redis. `npm start` there runs on them, on free ports. */
export async function preparePlace(t: Test, postgres: SystemPostgres): Promise<Place> {
  const home = await mkdtemp(join(tmpdir(), 'ts-documents-'));
  const redis = await startRedis();
  t.teardown(async () => {
    await redis.stop();
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
  });
  const [folder, bin, record] = [join(home, 'traffic-share'), join(home, 'bin'), join(home, 'calls')];
  await makeCheckout(folder);
  await writeStandIns(bin, folder, record);
  // As deploy/install.sh writes it
  const program = `#!/bin/sh\nexec ${process.execPath} ${projectPath('dist/deploy/cli.js')} "$@"\n`;
  await writeFile(join(bin, 'traffic-share'), program, { mode: 0o755 });
  await writeFile(join(home, '.curlrc'), 'fail-with-body\nsilent\nshow-error\n');

  const ports: Record<string, string> = {};
  for (const name of PORTS) ports[name] = String(await freePort());
  const etc = join(home, 'etc');
  await mkdir(etc);
  const settings = {
    TS_DATABASE_URL: postgres.url,
    TS_REDIS_URL: redis.url,
    TS_BACKUP_DIR: join(home, 'dumps'),
    TS_BACKUP_KEY: 'ab'.repeat(32),
    TS_TUNNEL_URL: 'wss://tunnel.example.org',
    TS_JWT_SECRET: 'cd'.repeat(32),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(join(etc, 'control-plane.env'), lines.join(''));

  const ready = join(folder, '.data/standalone.json');
  const system = () => JSON.parse(readFileSync(ready, 'utf8')) as StandaloneFile;
  return {
    folder,
    home,
    etc,
    record,
    databaseUrl: postgres.url,
    redisUrl: redis.url,
    env: {
      ...ports,
      PATH: [bin, join(postgres.program('x'), '..'), process.env.PATH].join(':'),
      HOME: home,
      LC_ALL: 'C.UTF-8',
      TS_DEV_ALLOW: `127.0.0.1:${ports.TS_DEMO_PORT}`, // also of a second device
      TS_PAGE_PORT: '0',
    },
    system,
    untilStarted: async () => {
      await until('npm start', async () => existsSync(ready));
      return system();
    },
    call: async (method, path, token, body) => {
      const response = await fetch(system().api_url + path, {
        method,
        headers: {
          ...(token !== null && { authorization: `Bearer ${token}` }),
          ...(body && { 'content-type': 'application/json' }),
        },
        ...(body && { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
      return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
    },
    untilTunnels: (count) =>
      until(`${count} tunnels`, async () => {
        const answer = await fetch(new URL('/status', system().metrics_urls[0]));
        return ((await answer.json()) as { tunnels: number }).tunnels === count;
      }),
    loginCode: async (telegramId, action) => {
      const log = join(folder, '.data/standalone.log');
      const begin = (await readFile(log, 'utf8')).length;
      await action();
      return until('a login code', async () => {
        const fresh = (await readFile(log, 'utf8')).slice(begin).split('\n');
        const line = fresh.find((text) => text.includes(`"telegram_id":${telegramId},`));
        return /"login_code_for_development":"(\d{6})"/.exec(line ?? '')?.[1];
      });
    },
  };
}

/** Ends the system of `npm start`, if it was started. */
export async function stopSystem({ folder }: Place): Promise<void> {
  const file = join(folder, '.data/standalone.pid');
  if (!existsSync(file)) return;
  process.kill(Number((await readFile(file, 'utf8')).split(' ')[0]), 'SIGINT');
  await until('the end of what npm start began', async () => !existsSync(file));
}

/** The project's files by links, but for folders that the documents' commands write into. */
async function makeCheckout(folder: string): Promise<void> {
  const link = (path: string) => symlink(projectPath(path), join(folder, path));
  await mkdir(join(folder, 'deploy'), { recursive: true });
  for (const name of readdirSync(projectPath('.')))
    if (!name.startsWith('.') && name !== 'deploy') await link(name);
  for (const name of readdirSync(projectPath('deploy')))
    if (!['compose', 'install.sh'].includes(name)) await link(`deploy/${name}`);
  await cp(projectPath('deploy/compose'), join(folder, 'deploy/compose'), { recursive: true });
}

async function until<T>(what: string, look: () => Promise<T | null | undefined | false>): Promise<T> {
  const endMs = performance.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > endMs) throw new Error(`${what}: not within ${WAIT_MS} ms`);
    await delay(50);
  }
}
