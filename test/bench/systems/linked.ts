/** Traffic Share with two gateways: buyers enter at one, the device is at the other, and the link between is in TLS. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startServerProcess } from '../../../deploy/standalone/services/server-process.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { freePort } from '../../helpers/services.js';
import { processTree } from '../processes.js';
import { localRoute, type SystemUnderTest, workFolder } from './system.js';
import { startStandalone } from './traffic-share.js';

const ENTRY_TIMEOUT_MS = 20_000;

/** CPU of gateways is that of both. Measured only when it is named. */
export const trafficShareLinked: SystemUnderTest = {
  id: 'traffic-share-linked',
  start: async (origin) => {
    const stops: (() => Promise<unknown>)[] = [];
    const stop = async () => {
      for (const end of stops.splice(0).reverse()) await end();
    };
    const ca = await startLinkCa({ teardown: (end) => stops.push(async () => end()) });
    const system = await startStandalone(
      origin,
      'Traffic Share, the device at another gateway (link in TLS; SOCKS with password, counting and billing on)',
      await ca.settings('standalone'),
    );
    if ('absent' in system) return system;
    stops.push(system.stop);
    try {
      const folder = await workFolder();
      stops.push(folder.remove);
      const [proxyPort, metricsPort] = [await freePort(), await freePort()];
      const entry = await startServerProcess([process.execPath, projectPath('dist/gateway/main.js')], {
        stopSignal: 'TERM',
        env: {
          TS_GATEWAY_ID: 'entry',
          TS_GATEWAY_DATA_DIR: join(folder.path, 'gateway'),
          TS_REDIS_URL: system.inside?.site.redisUrl ?? '',
          TS_PROXY_HOST: '127.0.0.1',
          TS_PROXY_PORT: String(proxyPort),
          TS_TUNNEL_HOST: '127.0.0.1',
          TS_TUNNEL_PORT: '0',
          TS_METRICS_PORT: String(metricsPort),
          TS_DEV_ALLOW: `${origin.host}:${origin.port}`,
          TS_LOG_LEVEL: 'warn',
          ...(await ca.settings('entry')),
        },
      });
      stops.push(() => entry.stop());
      const answers = () =>
        fetch(`http://127.0.0.1:${metricsPort}/health`).then(
          ({ ok }) => ok,
          () => false,
        );
      const until = performance.now() + ENTRY_TIMEOUT_MS;
      while (!(await answers())) {
        if (!entry.running || performance.now() > until) throw new Error(entry.output());
        await delay(100);
      }
      // Until each has read what the other has.
      await delay(2_500);
      const { username, password } = system.route;
      const { otherWays: _, inside: __, ...rest } = system;
      return {
        ...rest,
        route: { ...localRoute('socks5', proxyPort), username, password },
        gatewayPids: () => [...system.gatewayPids(), ...processTree(entry.pid)],
        stop,
      };
    } catch (error) {
      await stop();
      throw error;
    }
  },
};
