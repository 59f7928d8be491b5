/** Programs whose parent is gone while they wait, at their start, for a server that does not answer: they end as well. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { ANY_PORTS } from '../helpers/any-ports.js';

/** Takes connections and never answers. */
interface Mute {
  server: Server;
  port: number;
}

async function startMute(t: Test): Promise<Mute> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

async function start(t: Test, entry: string, env: Record<string, string>): Promise<ChildProcess> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ts-parent-gone-'));
  const child = spawn(process.execPath, [projectPath(entry)], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH ?? '',
      TS_GATEWAY_DATA_DIR: dataDir,
      ...ANY_PORTS,
      TS_LOG_LEVEL: 'silent',
      ...env,
    },
  });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await rm(dataDir, { recursive: true, force: true });
  });
  return child;
}

/** Exit code and signal. */
async function ended(child: ChildProcess): Promise<unknown[]> {
  return child.exitCode === null ? once(child, 'exit') : [child.exitCode, child.signalCode];
}

const GATEWAY = 'dist/gateway/main.js';
const gatewayOn = ({ port }: Mute) => ({ TS_REDIS_URL: `redis://127.0.0.1:${port}` });

t.test('workers end when the process above them is killed', async (t) => {
  const redis = await startMute(t);
  const parent = await start(t, GATEWAY, { ...gatewayOn(redis), TS_WORKERS: '2' });
  // The first worker asks Redis where it is; the others wait for it.
  await once(redis.server, 'connection');
  const workers = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim().split(' ');
  t.equal(workers.length, 1);
  let isOver = false;
  t.teardown(() => {
    if (!isOver) for (const pid of workers) process.kill(Number(pid), 'SIGKILL');
  });
  parent.kill('SIGKILL');
  // Whoever inherited it has ended.
  await once(parent.stdout?.resume() as NodeJS.EventEmitter, 'end');
  isOver = true;
});

t.test('a gateway ends with whoever started it, and at a signal', async (t) => {
  const redis = await startMute(t);
  const gateway = await start(t, GATEWAY, gatewayOn(redis));
  await once(redis.server, 'connection');
  gateway.disconnect();
  t.same(await ended(gateway), [0, null]);
  const other = await start(t, GATEWAY, gatewayOn(redis));
  await once(redis.server, 'connection');
  other.kill('SIGTERM');
  t.same(await ended(other), [0, null]);
});

t.test('it had gone before the gateway could notice', async (t) => {
  const redis = await startMute(t);
  const gateway = await start(t, GATEWAY, gatewayOn(redis));
  gateway.disconnect();
  t.same(await ended(gateway), [0, null]);
});

t.test('a control plane ends with whoever started it', async (t) => {
  const postgres = await startMute(t);
  const controlPlane = await start(t, 'dist/control-plane/main.js', {
    TS_DATABASE_URL: `postgres://u@127.0.0.1:${postgres.port}/db`,
    TS_REDIS_URL: `redis://127.0.0.1:${postgres.port}`,
    TS_API_HOST: '127.0.0.1',
    TS_API_PORT: '0',
    TS_CONTROL_METRICS_PORT: '0',
    TS_TUNNEL_URL: 'ws://127.0.0.1:1/tunnel',
    TS_JWT_SECRET: randomBytes(24).toString('hex'),
    TS_BOOTSTRAP_SECRET: randomBytes(24).toString('hex'),
  });
  await once(postgres.server, 'connection');
  controlPlane.disconnect();
  t.same(await ended(controlPlane), [0, null]);
});
