import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startPostgres } from '../../../deploy/standalone/services/postgres.js';
import { type RunningRedis, startRedis } from '../../../deploy/standalone/services/redis.js';
import {
  type ServerProcess,
  startServerProcess,
} from '../../../deploy/standalone/services/server-process.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import type { TicketRecord } from '../../../gateway/live/records.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { commandLine, listenerPid, processTree } from '../processes.js';
import type { Endpoint } from '../protocol.js';
import { startRole } from '../role.js';
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

export interface TunnelsCalls {
  /** Opens idle tunnels, one a ticket; resolves when each was welcomed. */
  open(url: string, tickets: string[]): Promise<void>;
  close(): Promise<void>;
}

const START_TIMEOUT_MS = 120_000;
/** Time a device has to use its ticket; the bench opens thousands in a row. */
const TICKET_TTL_MS = 120_000;

/**
 * The whole product as `npm start` runs it: authentication, address policy, counting, journal, settlement and money
 * are on; only what limits one demo buyer is raised.
 */
export const trafficShare: SystemUnderTest = {
  id: 'traffic-share',
  start: (origin) =>
    startStandalone(origin, 'Traffic Share (SOCKS with password, tunnel, counting and billing on)', {}),
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

async function startStandalone(
  origin: Endpoint,
  label: string,
  env: Record<string, string>,
): Promise<RunningSystem | { absent: string }> {
  const cli = projectPath('dist/deploy/cli.js');
  if (!existsSync(cli)) return { absent: 'not built: npm run build' };
  const folder = await workFolder();
  const redis = await startRedis({ prefer: 'auto' });
  // As the system starts its own.
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
    return runningSystem(standalone, label, server, redis, stop);
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

/** What limits the demo buyer would be measured, else. */
export async function raiseLimits({
  api_url,
  buyer,
  admin,
}: Pick<Standalone, 'api_url' | 'buyer' | 'admin'>): Promise<void> {
  const answer = await fetch(`${api_url}/api/admin/buyers/${buyer.id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${admin.token}` },
    body: JSON.stringify({ limits: { streams_max: 1_000_000, connections_per_second_max: 100_000 } }),
  });
  if (!answer.ok) throw new Error(`the demo buyer's limits: ${answer.status} ${await answer.text()}`);
}

function runningSystem(
  { proxy_port, buyer, tunnel_url }: Standalone,
  label: string,
  server: ServerProcess,
  redis: RunningRedis,
  stop: () => Promise<void>,
): RunningSystem {
  const gateway = listenerPid(proxy_port);
  if (gateway === null) throw new Error('nobody listens on the proxy port');
  const agents = processTree(server.pid).filter((pid) => /\/agent\/[\w.-]+\.js/.test(commandLine(pid)));
  return {
    label,
    route: { ...localRoute('socks5', proxy_port), username: buyer.username, password: buyer.password },
    gatewayPids: () => [gateway],
    agentPids: () => agents,
    idleTunnels: (count) => openIdleTunnels(tunnel_url, redis.url, count),
    stop,
  };
}

/** Tunnels of devices that nobody uses; their tickets are written where the gateway looks for them. */
async function openIdleTunnels(
  url: string,
  redisUrl: string,
  count: number,
): Promise<{ close(): Promise<void> }> {
  const tickets = Array.from({ length: count }, () => randomBytes(24).toString('base64url'));
  const redis = new Redis(redisUrl);
  const batch = redis.pipeline();
  for (const ticket of tickets) {
    const key = liveKeys.ticket(createHash('sha256').update(ticket).digest('hex'));
    batch.set(key, JSON.stringify(ticketRecord()), 'PX', TICKET_TTL_MS);
  }
  await batch.exec();
  redis.disconnect();
  const role = startRole<TunnelsCalls>('tunnels');
  await role.call.open(url, tickets);
  return {
    async close() {
      await role.call.close();
      await role.stop();
    },
  };
}

function ticketRecord(): TicketRecord {
  return {
    sessionId: randomUUID(),
    deviceId: randomUUID(),
    providerId: randomUUID(),
    exitIp: '127.0.0.1',
    country: 'US',
    city: null,
    asn: null,
    networkType: 'wifi',
    offerBytes: 1e9,
    capBytesPerDay: null,
    termsVersion: '1',
    clientVersion: '0.1.0',
  };
}
