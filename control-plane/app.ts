/**
 * Starts the whole control plane. With `collaborators.ts` (what it works with), `services.ts` and `bot-services.ts`
 * (what works in the background) and `api.ts` (the API) the composition root: nowhere else is anything constructed.
 */
import type { AddressInfo } from 'node:net';
import { type Clock, systemClock } from '../gateway/runtime/clock.js';
import type { Log } from '../gateway/runtime/logging.js';
import { startPrivateServer } from '../gateway/runtime/private-server.js';
import { buildApp } from './api.js';
import { createCollaborators } from './collaborators.js';
import type { ControlPlaneConfig } from './config.js';
import { migrateJobQueue } from './db/job-queue.js';
import { migrate } from './db/migrate.js';
import { ControlPlaneMetrics } from './metrics.js';
import { createServices, startServices } from './services.js';
import type { RecentLog } from './system/recent-log.js';
import { TelegramQueue } from './telegram/telegram-queue.js';

export interface ControlPlane {
  /** Where the API listens, `http://host:port`. */
  url: string;
  port: number;
  /** Of `/metrics`, `/health` and `/status`. */
  metricsPort: number;
  stop(): Promise<void>;
}

/** Starts everything the control plane is. Throws when Postgres cannot be reached or has a newer schema. */
export async function startControlPlane(
  config: ControlPlaneConfig,
  log: Log,
  clock: Clock = systemClock,
  recentLog?: RecentLog,
): Promise<ControlPlane> {
  const stops: (() => unknown)[] = [];
  /** What was started last stops first. */
  const stop = async () => {
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    if (config.migrateAtStart) {
      const applied = await migrate(config.databaseUrl);
      if (applied.length > 0) log.info({ applied }, 'migrated');
      await migrateJobQueue(config.databaseUrl);
    }
    const collaborators = await createCollaborators(config, log, clock, stops, recentLog);
    const services = createServices(collaborators);
    await startServices(services, stops);

    const app = await buildApp(collaborators, services);
    stops.push(() => app.close());
    const { telegram } = collaborators;
    const telegramQueue = telegram instanceof TelegramQueue ? telegram : null;
    const metrics = new ControlPlaneMetrics({ ...collaborators, ...services, telegramQueue });
    const privateServer = await startPrivateServer({
      host: config.metricsHost,
      port: config.metricsPort,
      metrics: metrics.registry,
      status: () => metrics.status(),
      ailments: () => metrics.ailments(),
    });
    stops.push(() => privateServer.stop());

    await app.listen({ host: config.apiHost, port: config.apiPort });
    const { port, address } = app.server.address() as AddressInfo;
    const host = address.includes(':') ? `[${address}]` : address;
    log.info({ host: address, port }, 'listening');
    return { url: `http://${host}:${port}`, port, metricsPort: privateServer.port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
