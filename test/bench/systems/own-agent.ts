/**
 * Traffic Share with the device's agent started here instead of by the standalone system, which tells its own agent to
 * dial the gateway right away and without TLS. All else is the same: the demo's people, and a session and a ticket from
 * the control plane.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DeviceApi } from '../../../agent-protocol/agent/api.js';
import { AGENT_VERSION } from '../../../agent-protocol/agent/version.js';
import type { Secrets } from '../../../deploy/standalone/data-folder.js';
import { seedDemo } from '../../../deploy/standalone/demo-people.js';
import { startPostgres } from '../../../deploy/standalone/services/postgres.js';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import {
  type ServerProcess,
  startServerProcess,
} from '../../../deploy/standalone/services/server-process.js';
import { developmentCertificate } from '../../../gateway/runtime/development-certificate.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { listenerPid } from '../processes.js';
import type { Endpoint } from '../protocol.js';
import { localRoute, type RunningSystem, type SystemUnderTest, workFolder } from './system.js';
import { environment, raiseLimits, ready, type Standalone } from './traffic-share.js';

/** Time the agent has until its tunnel is up. */
const TUNNEL_TIMEOUT_MS = 20_000;

/** The tunnel in TLS, as OpenSSH's is. */
export const trafficShareTls: SystemUnderTest = {
  id: 'traffic-share-tls',
  start: (origin) =>
    startWithOwnAgent(origin, {
      label: 'Traffic Share, tunnel in TLS (SOCKS with password, counting and billing on)',
      tls: true,
      dialled: async (port) => port,
    }),
};

export interface OwnAgentOptions {
  label: string;
  /** The tunnel port speaks TLS, with a certificate that the agent is told to trust. */
  tls: boolean;
  /** Which port the agent dials instead of the gateway's tunnel port. */
  dialled: (port: number) => Promise<number>;
}

/** Starts it; resolves when the agent's tunnel is up. */
export async function startWithOwnAgent(
  origin: Endpoint,
  { label, tls, dialled }: OwnAgentOptions,
): Promise<RunningSystem | { absent: string }> {
  const cli = projectPath('dist/deploy/cli.js');
  if (!existsSync(cli)) return { absent: 'not built: npm run build' };
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  try {
    const folder = await workFolder();
    stops.push(() => folder.remove());
    const redis = await startRedis({ prefer: 'auto' });
    stops.push(() => redis.stop());
    const postgres = await startPostgres({ dataDir: join(folder.path, 'postgres'), durable: true });
    stops.push(() => postgres.stop());
    const certificate = tls ? await developmentCertificate(folder.path, Date.now()) : null;
    const env = {
      ...environment(folder.path, redis.url, postgres.url, origin),
      TS_DEMO: '0',
      ...(certificate && {
        TS_TUNNEL_TLS_CERT: certificate.certPath,
        TS_TUNNEL_TLS_KEY: certificate.keyPath,
      }),
    };
    const server = await startServerProcess([process.execPath, cli, 'start'], { stopSignal: 'TERM', env });
    stops.push(() => server.stop());
    const standalone = await ready(server, join(folder.path, 'standalone.json'));
    const demo = await seedDemo({
      apiUrl: standalone.api_url,
      databaseUrl: postgres.url,
      secrets: JSON.parse(readFileSync(join(folder.path, 'secrets.json'), 'utf8')) as Secrets,
      save: () => {},
    });
    await raiseLimits({ ...standalone, ...demo });

    const port = await dialled(Number(new URL(standalone.tunnel_url).port));
    const agent = await startServerProcess(
      [process.execPath, projectPath('dist/agent-protocol/agent/main.js')],
      {
        stopSignal: 'TERM',
        env: {
          NODE_ENV: 'development',
          TS_LOG_LEVEL: 'warn',
          TS_DEV_ALLOW: `${origin.host}:${origin.port}`,
          TS_TUNNEL_URL: `${tls ? 'wss' : 'ws'}://127.0.0.1:${port}/tunnel`,
          TS_TICKET: await ticketOf(standalone, demo.provider.device_id, demo.deviceKey),
          TS_STATE_DIR: join(folder.path, 'agent'),
          ...(certificate && { NODE_EXTRA_CA_CERTS: certificate.certPath }),
        },
      },
    );
    stops.push(() => agent.stop());
    await tunnelUp(standalone, agent);
    const gateway = listenerPid(standalone.proxy_port);
    if (gateway === null) throw new Error('nobody listens on the proxy port');
    const { username, password } = demo.buyer;
    return {
      label,
      route: { ...localRoute('socks5', standalone.proxy_port), username, password },
      gatewayPids: () => [gateway],
      agentPids: () => [agent.pid],
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Begins a session of the device, as its agent would. */
async function ticketOf({ api_url: apiUrl }: Standalone, deviceId: string, deviceKey: string) {
  const api = new DeviceApi({ apiUrl, deviceId, deviceKey, clientVersion: AGENT_VERSION });
  const started = await api.start(AbortSignal.timeout(TUNNEL_TIMEOUT_MS));
  if (!started.ok) throw new Error(`the device was not let in: ${started.code}`);
  return started.tunnel.ticket;
}

async function tunnelUp({ metrics_urls }: Standalone, agent: ServerProcess): Promise<void> {
  const statusUrl = new URL('/status', metrics_urls[0]);
  const until = performance.now() + TUNNEL_TIMEOUT_MS;
  while (agent.running && performance.now() < until) {
    const { tunnels } = (await (await fetch(statusUrl)).json()) as { tunnels: number };
    if (tunnels > 0) return;
    await delay(50);
  }
  throw new Error(`no tunnel: ${agent.output()}`);
}
