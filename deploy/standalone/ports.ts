import { once } from 'node:events';
import { createServer } from 'node:net';
import type { StandaloneConfig } from './config.js';
import { freePort } from './services/free-port.js';

export interface Ports {
  proxy: number;
  api: number;
  tunnel: number;
  metrics: number;
  controlMetrics: number;
  demo: number;
}

/** The ports of this run: 0 becomes a free one; throws when a wanted one is taken, naming the setting to change. */
export async function choosePorts(config: StandaloneConfig): Promise<Ports> {
  const choose = async (wanted: number, setting: string) => {
    if (wanted === 0) return freePort();
    const server = createServer();
    server.listen(wanted, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      throw new Error(`port ${wanted} is taken: set ${setting} to another one (0 = any free)`);
    }
    server.close();
    await once(server, 'close');
    return wanted;
  };
  return {
    proxy: await choose(config.proxyPort, 'TS_PROXY_PORT'),
    api: await choose(config.apiPort, 'TS_API_PORT'),
    tunnel: await choose(config.tunnelPort, 'TS_TUNNEL_PORT'),
    metrics: await choose(config.metricsPort, 'TS_METRICS_PORT'),
    controlMetrics: await choose(config.controlMetricsPort, 'TS_CONTROL_METRICS_PORT'),
    demo: await choose(config.demoPort, 'TS_DEMO_PORT'),
  };
}
