import { openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { developmentCertificateFiles } from '../../gateway/runtime/development-certificate.js';
import { createLog, type Log } from '../../gateway/runtime/logging.js';
import { stopOnSignal } from '../../gateway/runtime/signals.js';
import { Child } from './child.js';
import { inheritedEnvironment, readStandaloneConfig, type StandaloneConfig } from './config.js';
import { DataFolder } from './data-folder.js';
import { type DemoDestination, startDemoDestination } from './demo-destination.js';
import { type Demo, seedDemo } from './demo-people.js';
import { LiveBytes } from './live-bytes.js';
import { choosePorts, type Ports } from './ports.js';
import { startPostgres } from './services/postgres.js';
import { startRedis } from './services/redis.js';
import { tunnelUrlOf, writeTrust } from './tunnel-url.js';

/** Time a part gets to say that it is ready. */
const READY_TIMEOUT_MS = 60_000;
/** Time the gateway gives live streams at Ctrl-C: a person waits. */
const DRAIN_MS = 2_000;
const STOP_TIMEOUT_MS = 8_000;

/**
 * Everything on one machine: Postgres, Redis, gateway, control plane, and the demo's people, device and destination.
 * Serves until Ctrl-C. When it can not start it says why and what to do, and ends the process with 1.
 */
export async function runStandalone(): Promise<void> {
  const { config, folder } = prepare();
  const logFd = openSync(folder.file('standalone.log'), 'a');
  const log = createLog('standalone', config.logLevel, logFd);
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const stops: Array<() => Promise<unknown> | unknown> = [() => folder.release()];
  const stopAll = async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
  };
  stopOnSignal(30_000, (error) => log.error({ error: String(error) }, 'stopping_failed')).by(async () => {
    folder.removeReadyFile();
    say('\nstopping …');
    await stopAll();
  });

  try {
    const system = await startSystem({ config, folder, log, logFd, say, stops });
    folder.writeReadyFile(system.description);
    announce(say, system.description, folder);
    const live = new LiveBytes(`${system.gatewayUrl}/status`, process.stdout);
    stops.push(() => live.stop());
  } catch (error) {
    await stopAll();
    giveUp(error, `The log is ${folder.file('standalone.log')}\n`);
  }
}

function prepare(): { config: StandaloneConfig; folder: DataFolder } {
  try {
    const config = readStandaloneConfig();
    return { config, folder: new DataFolder(config.dataDir) };
  } catch (error) {
    return giveUp(error);
  }
}

function giveUp(error: unknown, more = ''): never {
  process.stderr.write(`\nTraffic Share did not start: ${(error as Error).message}\n${more}`);
  process.exit(1);
}

interface StartContext {
  config: StandaloneConfig;
  folder: DataFolder;
  log: Log;
  logFd: number;
  say: (line: string) => void;
  /** What was started, in order; stopped in reverse. */
  stops: Array<() => Promise<unknown> | unknown>;
}

async function startSystem(context: StartContext) {
  const { config, folder, say, stops } = context;
  await folder.untilEarlierRunEnded(() => say('waiting for the last run to end …'));
  const secrets = folder.secrets();
  const ports = await choosePorts(config);
  const tunnelUrl = tunnelUrlOf(config.tunnelTlsCert, ports.tunnel);

  say('starting Postgres and Redis …');
  const databaseUrl = config.databaseUrl ?? (await startDatabase(context));
  const redisUrl = config.redisUrl ?? config.redisUrlPlain ?? (await startLiveState(context));
  const destination = config.demo ? await startDemoDestination(ports.demo) : null;
  if (destination) stops.push(() => destination.stop());

  say('starting control plane and gateway …');
  const env: Record<string, string> = {
    ...childEnvironment(config, ports, destination, { databaseUrl, redisUrl, dataDir: folder.path }),
    TS_TUNNEL_URL: tunnelUrl,
    TS_INTERNAL_SECRET: secrets.internalSecret,
  };
  const controlPlane = startChild(context, 'control-plane', 'control-plane/main.js', {
    ...env,
    TS_JWT_SECRET: secrets.jwtSecret,
    TS_BOT_SECRET: secrets.botSecret,
    TS_BOOTSTRAP_SECRET: secrets.bootstrapSecret,
  });
  const gateway = startChild(context, 'gateway', 'gateway/main.js', env);
  await Promise.all([controlPlane, gateway]);

  const apiUrl = `http://127.0.0.1:${ports.api}`;
  const gatewayUrl = `http://127.0.0.1:${ports.metrics}`;
  let demo: Demo | null = null;
  if (config.demo) {
    say('setting up the demo …');
    demo = await seedDemo({ apiUrl, databaseUrl, secrets, save: () => folder.saveSecrets(secrets) });
    // Only what an agent needs: some settings of the others have the same names (TS_TUNNEL_URL is direct mode).
    await startChild(context, 'agent', 'agent-protocol/agent/main.js', {
      ...inheritedEnvironment(),
      ...(config.tunnelTlsCert !== null && {
        NODE_EXTRA_CA_CERTS: writeTrust(
          folder.file('device-trust.pem'),
          config.tunnelTlsCert,
          inheritedEnvironment().NODE_EXTRA_CA_CERTS,
        ),
      }),
      NODE_ENV: 'development',
      TS_LOG_LEVEL: config.logLevel,
      TS_DEV_ALLOW: env.TS_DEV_ALLOW ?? '',
      TS_API_URL: apiUrl,
      TS_DEVICE_ID: demo.provider.device_id,
      TS_DEVICE_KEY: demo.deviceKey,
      TS_STATE_DIR: folder.file('agent'),
      TS_KEEP_SESSION: '1',
    });
    await untilDeviceOnline(gatewayUrl);
  }
  const certPath = config.proxyTlsCert ?? developmentCertificateFiles(gatewayFolder(folder.path)).certPath;
  return { gatewayUrl, description: describe(ports, tunnelUrl, destination, demo, certPath) };
}

async function startDatabase({ folder, stops }: StartContext): Promise<string> {
  const postgres = await startPostgres({ dataDir: folder.file('postgres'), durable: true });
  stops.push(() => postgres.stop());
  return postgres.url;
}

async function startLiveState({ say, stops }: StartContext): Promise<string> {
  const redis = await startRedis({ prefer: 'auto' });
  stops.push(() => redis.stop());
  if (redis.kind === 'valkey') say('  (no redis-server on PATH: the embedded Valkey does for trying)');
  return redis.url;
}

/** What every part is told; each reads what concerns it. */
function childEnvironment(
  config: StandaloneConfig,
  ports: Ports,
  destination: DemoDestination | null,
  services: { databaseUrl: string; redisUrl: string; dataDir: string },
): Record<string, string> {
  const devAllow = [...config.devAllow, ...(destination ? [`127.0.0.1:${destination.port}`] : [])];
  return {
    // Defaults that whoever starts it may override.
    TS_DEV_LOOPBACK_COUNTRY: 'US',
    TS_HOLD_TIME_S: '0',
    TS_ACCESS_TOKEN_TTL_S: String(30 * 86_400),
    TS_DRAIN_MS: String(DRAIN_MS),
    TS_PROXY_TLS_DEV: '1',
    // All clients come from this machine's one address: what bounds an address would bound all of them.
    TS_STRANGERS_SOFT_MAX: '20000',
    TS_STRANGERS_HARD_MAX: '40000',
    ...inheritedEnvironment(),
    NODE_ENV: 'development',
    TS_LOG_LEVEL: config.logLevel,
    TS_DATABASE_URL: services.databaseUrl,
    TS_REDIS_URL: services.redisUrl,
    TS_API_HOST: '127.0.0.1',
    TS_API_PORT: String(ports.api),
    TS_PROXY_HOST: '127.0.0.1',
    TS_PROXY_PORT: String(ports.proxy),
    TS_TUNNEL_HOST: '127.0.0.1',
    TS_TUNNEL_PORT: String(ports.tunnel),
    TS_METRICS_HOST: '127.0.0.1',
    TS_METRICS_PORT: String(ports.metrics),
    TS_CONTROL_METRICS_HOST: '127.0.0.1',
    TS_CONTROL_METRICS_PORT: String(ports.controlMetrics),
    TS_PUBLIC_PROXY_HOST: '127.0.0.1',
    TS_PUBLIC_PROXY_PORT: String(ports.proxy),
    TS_GATEWAY_ID: 'standalone',
    TS_CONTROL_PLANE_URL: `http://127.0.0.1:${ports.api}`,
    TS_GATEWAY_DATA_DIR: gatewayFolder(services.dataDir),
    TS_DEV_ALLOW: devAllow.join(','),
  };
}

function gatewayFolder(dataDir: string): string {
  return join(dataDir, 'gateway');
}

async function startChild(
  { folder, log, logFd, stops }: StartContext,
  name: string,
  entry: string,
  env: Record<string, string>,
): Promise<void> {
  const child = new Child(
    {
      name,
      entry: fileURLToPath(new URL(`../../${entry}`, import.meta.url)),
      env,
      logFd,
      onPid: (pid) => folder.noteProcess(pid),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    },
    log,
  );
  stops.push(() => child.stop());
  await child.start();
}

async function untilDeviceOnline(gatewayUrl: string): Promise<void> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const status = (await (await fetch(`${gatewayUrl}/status`)).json()) as { tunnels: number };
    if (status.tunnels > 0) return;
    if (performance.now() > deadlineMs) throw new Error('the demo device did not connect; the log says why');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The content of `standalone.json`: addresses and secrets for scripts. */
function describe(
  ports: Ports,
  tunnelUrl: string,
  destination: DemoDestination | null,
  demo: Demo | null,
  proxyTlsCertPath: string,
) {
  const apiUrl = `http://127.0.0.1:${ports.api}`;
  return {
    api_url: apiUrl,
    console_url: `${apiUrl}/`,
    proxy_url: demo
      ? `http://${demo.buyer.username}:${demo.buyer.password}@127.0.0.1:${ports.proxy}`
      : `http://127.0.0.1:${ports.proxy}`,
    proxy_host: '127.0.0.1',
    proxy_port: ports.proxy,
    proxy_tls_cert_path: proxyTlsCertPath,
    tunnel_url: tunnelUrl,
    metrics_urls: [ports.metrics, ports.controlMetrics].map((port) => `http://127.0.0.1:${port}/metrics`),
    demo_destination_url: destination?.url ?? null,
    buyer: demo?.buyer ?? null,
    admin: demo?.admin ?? null,
    provider: demo?.provider ?? null,
  };
}

function announce(
  say: (line: string) => void,
  system: ReturnType<typeof describe>,
  folder: DataFolder,
): void {
  say(`
Traffic Share is running.

  proxy     ${system.proxy_host}:${system.proxy_port}   (SOCKS5, HTTP, both in TLS too)
  API       ${system.api_url}   documents at ${system.api_url}/docs
  console   ${system.console_url}   tokens to sign in with are in standalone.json
  tunnels   ${system.tunnel_url}
  metrics   ${system.metrics_urls.join('  ')}
  scripts   ${folder.file('standalone.json')}
  log       ${folder.file('standalone.log')}
`);
  if (system.demo_destination_url) {
    say('Fetch a page through the demo device:\n');
    say(`  curl -x ${system.proxy_url} ${system.demo_destination_url}\n`);
  }
  say('Ctrl-C stops everything; the data stays.\n');
}
