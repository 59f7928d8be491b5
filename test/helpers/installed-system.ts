import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import type { RunningRedis } from '../../deploy/standalone/services/redis.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { makePeople, type TestBuyer, type TestDevice } from '../faults/people.js';
import { Program } from '../faults/program.js';
import { requireFreshBuild } from './api-processes.js';
import { startLinkCa } from './link-certificates.js';
import { startOwnPostgres, startRedis } from './services.js';
import { testCertificate } from './test-certificate.js';

/** What a unit of deploy/systemd starts, from its own words. */
export function unitCommand(unit: string): { entry: string; args: string[]; killSignal: NodeJS.Signals } {
  const text = readFileSync(projectPath(`deploy/systemd/${unit}.service`), 'utf8');
  const [, script = '', command = ''] =
    /^ExecStart=\/usr\/bin\/node \/opt\/traffic-share\/current\/(\S+) (.+)$/m.exec(text) ?? [];
  const [, killSignal = 'SIGTERM'] = /^KillSignal=(\S+)$/m.exec(text) ?? [];
  return {
    entry: projectPath(script),
    args: command.split(' '),
    killSignal: killSignal as NodeJS.Signals,
  };
}

export interface InstalledGateway {
  program: Program;
  proxyPort: number;
  tunnelPort: number;
  metricsPort: number;
}

/** A built system whose processes are those that the units of deploy/systemd start, each with ports that stay its own. */
export interface InstalledSystem {
  folder: string;
  /** Key and certificate for localhost, in one file: of the proxy ports, and trusted by the agents. */
  pemFile: string;
  /** What the programs wrote. */
  logFile: string;
  logFd: number;
  databaseUrl: string;
  controlPlanes: { program: Program; apiPort: number }[];
  gateways: InstalledGateway[];
  agents: Program[];
  adminToken: string;
  buyers: TestBuyer[];
  devices: TestDevice[];
  jwtSecret: string;
  /** Tunnels that the gateways hold now. */
  tunnels(): Promise<number[]>;
  /** Resolves when so many tunnels are there in all. Throws after 30 s. */
  untilTunnels(count: number): Promise<void>;
}

export interface InstalledOptions {
  /** Addresses that balancers connect from. */
  balancers: readonly string[];
  /** Where devices open tunnels: given to control planes. */
  tunnelUrl: (gateways: readonly InstalledGateway[]) => string;
  /** Of the API, as devices reach it. */
  agentApiUrl: (apiPorts: readonly number[]) => string;
  controlPlanes: number;
  gateways: number;
  devices: number;
  /** `127.0.0.1:port` that devices may dial though it is loopback. */
  destination: string;
  /** One buyer for each, with so much credit in USD; null: none. Left out: one with 100. */
  creditsUsd?: ReadonlyArray<string | null>;
  /** Of a Redis that the caller ends, after the system; left out: a server of the system's own. */
  redisUrl?: string;
  env?: Record<string, string>;
}

/** A test, or a program that ends what was started for it: the last first. */
export type Owner = Pick<Test, 'teardown' | 'passing' | 'comment'>;

const ONLINE_TIMEOUT_MS = 30_000;
const LOG_TAIL_CHARS = 8_000;

/**
 * Starts Postgres, Redis, control planes and gateways, joined by links. Agents are started by the test, once what is in
 * front of the system stands. Everything ends with the test.
 */
export async function startInstalledSystem(t: Owner, options: InstalledOptions): Promise<InstalledSystem> {
  requireFreshBuild();
  const folder = await mkdtemp(join(tmpdir(), 'ts-installed-'));
  await chmod(folder, 0o755);
  const logFile = join(folder, 'programs.log');
  const logFd = openSync(logFile, 'a');
  const pemFile = join(folder, 'certificate.pem');
  await writeFile(pemFile, testCertificate.key + testCertificate.cert);
  const programs: Program[] = [];
  const postgres = await startOwnPostgres();
  const ownRedis = options.redisUrl === undefined ? await startRedis() : null;
  t.teardown(async () => {
    await Promise.all(programs.map((program) => program.stop()));
    await ownRedis?.stop();
    await postgres.stop();
    closeSync(logFd);
    if (!t.passing())
      t.comment(`the programs wrote:\n${readFileSync(logFile, 'utf8').slice(-LOG_TAIL_CHARS)}`);
    await rm(folder, { recursive: true, force: true });
  });
  const databaseUrl = postgres.url;
  const [jwtSecret, bootstrapSecret, internalSecret] = [1, 2, 3].map(() => randomBytes(24).toString('hex'));
  const common = {
    NODE_ENV: 'development',
    TS_LOG_LEVEL: 'info',
    TS_DEV_LOOPBACK_COUNTRY: 'US',
    TS_DEV_ALLOW: options.destination,
    TS_REDIS_URL: options.redisUrl ?? (ownRedis as RunningRedis).url,
    TS_INTERNAL_SECRET: internalSecret as string,
    TS_TRUSTED_PROXIES: options.balancers.join(','),
    ...options.env,
  };
  const start = (unit: string, name: string, env: Record<string, string>) => {
    const program = new Program({
      name,
      ...unitCommand(unit),
      logFd,
      preload: null,
      env: { ...common, ...env },
    });
    programs.push(program);
    return program;
  };

  const apiPorts = await freePorts(options.controlPlanes);
  const gateways: InstalledGateway[] = [];
  const linkCa = await startLinkCa(t);
  for (let n = 1; n <= options.gateways; n++) {
    const [proxyPort, tunnelPort, metricsPort] = (await freePorts(3)) as [number, number, number];
    const dataDir = join(folder, `gateway-${n}`);
    await mkdir(dataDir);
    gateways.push({
      proxyPort,
      tunnelPort,
      metricsPort,
      program: start('traffic-share-gateway@', `gateway-${n}`, {
        TS_GATEWAY_ID: `host-${n}`,
        TS_GATEWAY_DATA_DIR: dataDir,
        TS_CONTROL_PLANE_URL: `http://127.0.0.1:${apiPorts[0]}`,
        TS_PROXY_HOST: '127.0.0.1',
        TS_PROXY_PORT: String(proxyPort),
        TS_PROXY_TLS_CERT: pemFile,
        TS_PROXY_TLS_KEY: pemFile,
        TS_PROXY_PROTOCOL_FROM: options.balancers.join(','),
        TS_TUNNEL_HOST: '127.0.0.1',
        TS_TUNNEL_PORT: String(tunnelPort),
        TS_METRICS_PORT: String(metricsPort),
        ...(await linkCa.settings(`host-${n}`)),
      }),
    });
  }
  const controlPlanes = apiPorts.map((apiPort, n) => ({
    apiPort,
    program: start('traffic-share-control-plane', `control-plane-${n + 1}`, {
      TS_DATABASE_URL: databaseUrl,
      TS_API_HOST: '127.0.0.1',
      TS_API_PORT: String(apiPort),
      TS_CONTROL_METRICS_PORT: '0',
      TS_TUNNEL_URL: options.tunnelUrl(gateways),
      TS_JWT_SECRET: jwtSecret as string,
      TS_BOOTSTRAP_SECRET: bootstrapSecret as string,
      TS_HOLD_TIME_S: '0',
    }),
  }));
  // One after the other: the first one migrates.
  for (const { program } of controlPlanes) await program.start();
  const [people] = await Promise.all([
    makePeople({
      apiUrl: `http://127.0.0.1:${apiPorts[0]}`,
      databaseUrl,
      jwtSecret: jwtSecret as string,
      bootstrapSecret: bootstrapSecret as string,
      devices: options.devices,
      creditsUsd: options.creditsUsd ?? ['100.00'],
    }),
    ...gateways.map(({ program }) => program.start()),
  ]);
  const agents = people.devices.map((device, n) => {
    const program = new Program({
      name: `agent-${n}`,
      entry: projectPath('dist/agent-protocol/agent/main.js'),
      logFd,
      preload: null,
      env: {
        NODE_ENV: 'development',
        TS_LOG_LEVEL: 'warn',
        TS_DEV_ALLOW: options.destination,
        TS_API_URL: options.agentApiUrl(apiPorts),
        TS_DEVICE_ID: device.deviceId,
        TS_DEVICE_KEY: device.deviceKey,
        TS_STATE_DIR: join(folder, `agent-${n}`),
        TS_KEEP_SESSION: '1',
        NODE_EXTRA_CA_CERTS: pemFile,
      },
    });
    programs.unshift(program); // devices leave before what they are connected to
    return program;
  });
  const tunnels = () =>
    Promise.all(
      gateways.map(async ({ metricsPort }) => {
        const answer = await fetch(`http://127.0.0.1:${metricsPort}/status`).catch(() => null);
        return answer === null ? 0 : ((await answer.json()) as { tunnels: number }).tunnels;
      }),
    );
  return {
    folder,
    pemFile,
    logFile,
    logFd,
    databaseUrl,
    controlPlanes,
    gateways,
    agents,
    ...people,
    jwtSecret: jwtSecret as string,
    tunnels,
    async untilTunnels(count) {
      const endMs = performance.now() + ONLINE_TIMEOUT_MS;
      while ((await tunnels()).reduce((sum, n) => sum + n, 0) < count) {
        if (performance.now() > endMs) throw new Error(`${count} tunnels did not come`);
        await delay(50);
      }
    },
  };
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}
