import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startPostgres } from '../../../deploy/standalone/services/postgres.js';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import {
  type ServerProcess,
  startServerProcess,
} from '../../../deploy/standalone/services/server-process.js';
import type { GatewayStatus } from '../../../gateway/private-server.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { commandLine, listenerPid, processTree } from '../processes.js';
import type { Endpoint } from '../protocol.js';
import { fleetRecords, openFleet } from './fleet.js';
import { localRoute, type RunningSystem, type SystemUnderTest, workFolder } from './system.js';

/** What the standalone system writes when everything is ready. */
export interface Standalone {
  api_url: string;
  /** Of the gateway, then of the control plane. */
  metrics_urls: string[];
  proxy_port: number;
  tunnel_url: string;
  buyer: { id: string; username: string; password: string };
  admin: { token: string };
}

const START_TIMEOUT_MS = 120_000;

/**
 * The whole product as `npm start` runs it: authentication, address policy, counting, journal, settlement and money
 * are on; only what limits one demo buyer is raised.
 */
export const trafficShare: SystemUnderTest = {
  id: 'traffic-share',
  start: (origin) =>
    startStandalone(origin, 'Traffic Share (SOCKS with password, tunnel, counting and billing on)', {}),
};

/** The same with a gateway of two processes; the device is at one of them. Measured only when it is named. */
export const trafficShareWorkers: SystemUnderTest = {
  id: 'traffic-share-workers',
  start: (origin) =>
    startStandalone(
      origin,
      'Traffic Share with two gateway workers (SOCKS with password, counting and billing on)',
      {
        TS_WORKERS: '2',
      },
    ),
};

/** The same, and `switchMetering` works: for the phase `metering` alone. See unmetered.ts. */
export const trafficShareSwitched: SystemUnderTest = {
  id: 'traffic-share',
  start: async (origin) => {
    const preload = new URL('../unmetered.js', import.meta.url).href;
    const system = await startStandalone(origin, 'Traffic Share', { NODE_OPTIONS: `--import=${preload}` });
    if ('absent' in system) return system;
    const switchMetering = () => {
      for (const pid of system.gatewayPids()) process.kill(pid, 'SIGUSR2');
    };
    return { ...system, switchMetering };
  },
};

/** Starts the standalone system, with further settings. */
export async function startStandalone(
  origin: Endpoint,
  label: string,
  env: Record<string, string>,
): Promise<RunningSystem | { absent: string }> {
  const cli = projectPath('dist/deploy/cli.js');
  if (!existsSync(cli)) return { absent: 'not built: npm run build' };
  const folder = await workFolder();
  const redis = await startRedis({ prefer: 'auto' });
  // As the system starts its own, for the load phases to look into.
  const postgres = await startPostgres({ dataDir: join(folder.path, 'postgres'), durable: true });
  const server = await startServerProcess([process.execPath, cli, 'start'], {
    stopSignal: 'TERM',
    env: { ...environment(folder.path, redis.url, postgres.url, origin), ...env },
  });
  const stop = async () => {
    await server.stop();
    await postgres.stop();
    await redis.stop();
    await folder.remove();
  };
  try {
    const standalone = await ready(server, join(folder.path, 'standalone.json'));
    await raiseLimits(standalone);
    return runningSystem(standalone, label, server, { redisUrl: redis.url, databaseUrl: postgres.url }, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Settings of the standalone system for the bench. */
export function environment(
  dataDir: string,
  redisUrl: string,
  databaseUrl: string,
  origin: Endpoint,
): Record<string, string> {
  return {
    TS_DATA_DIR: dataDir,
    TS_REDIS_URL: redisUrl,
    TS_DATABASE_URL: databaseUrl,
    // the bench's devices say where they come from
    TS_TRUSTED_PROXIES: '127.0.0.1',
    TS_PROXY_PORT: '0',
    TS_API_PORT: '0',
    TS_CONTROL_METRICS_PORT: '0',
    TS_TUNNEL_PORT: '0',
    TS_METRICS_PORT: '0',
    TS_DEMO_PORT: '0',
    TS_DEV_ALLOW: `${origin.host}:${origin.port}`,
    TS_LOG_LEVEL: 'warn',
    TS_STREAMS_PER_TUNNEL_MAX: '20000',
    // a run moves hundreds of GB: the demo buyer's credit and package must hold them
    TS_OFFER_BYTES: String(1e14),
    TS_BUYER_PRICE_MICROS_PER_GB: '2000',
    TS_PROVIDER_PRICE_MICROS_PER_GB: '1000',
  };
}

/** Waits until the standalone system serves; throws with its output when it does not. */
export async function ready(server: ServerProcess, file: string): Promise<Standalone> {
  const until = performance.now() + START_TIMEOUT_MS;
  while (server.running && performance.now() < until) {
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Standalone;
    await delay(100);
  }
  throw new Error(server.output());
}

/** What limits the demo buyer would be measured, else. It needs no password, if it gives none. */
export async function raiseLimits({
  api_url,
  buyer,
  admin,
}: Pick<Standalone, 'api_url' | 'buyer' | 'admin'>): Promise<void> {
  const answer = await fetch(`${api_url}/api/admin/buyers/${buyer.id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${admin.token}` },
    body: JSON.stringify({
      limits: {
        streams_max: 1_000_000,
        connections_per_second_max: 100_000,
        passwordless_ips: ['127.0.0.1'],
      },
    }),
  });
  if (!answer.ok) throw new Error(`the demo buyer's limits: ${answer.status} ${await answer.text()}`);
}

function runningSystem(
  { proxy_port, buyer, tunnel_url, metrics_urls }: Standalone,
  label: string,
  server: ServerProcess,
  { redisUrl, databaseUrl }: { redisUrl: string; databaseUrl: string },
  stop: () => Promise<void>,
): RunningSystem {
  const gateway = listenerPid(proxy_port);
  if (gateway === null) throw new Error('nobody listens on the proxy port');
  const agents = processTree(server.pid).filter((pid) => /\/agent\/[\w.-]+\.js/.test(commandLine(pid)));
  const site = { tunnelUrl: tunnel_url, redisUrl };
  const get = (path: string) => fetch(new URL(path, metrics_urls[0]));
  const { username, password } = buyer;
  return {
    label,
    route: { ...localRoute('socks5', proxy_port), username, password },
    otherWays: [
      {
        id: 'traffic-share-connect',
        label:
          'Traffic Share, the same by HTTP CONNECT with password: one round trip to the gateway where SOCKS takes three',
        route: { ...localRoute('connect', proxy_port), username, password },
      },
      {
        id: 'traffic-share-address',
        label: "Traffic Share, the same by SOCKS and the client's address: two round trips, as OpenSSH has",
        route: localRoute('socks5', proxy_port),
      },
    ],
    // With workers: the process above them, and them.
    gatewayPids: () => processTree(gateway),
    agentPids: () => agents,
    idleTunnels: (count) => openFleet(site, fleetRecords(count)),
    inside: {
      site,
      databaseUrl,
      status: async () => (await (await get('/status')).json()) as GatewayStatus,
      loopLagMs: async () => {
        const seconds = /^ts_loop_lag_seconds(?:{.*})? (\S+)$/m.exec(await (await get('/metrics')).text());
        return Number(seconds?.[1]) * 1_000;
      },
    },
    stop,
  };
}
