import { pathToFileURL } from 'node:url';
import { type GatewayConfig, readGatewayConfig } from './config.js';
import { type Gateway, startGateway } from './gateway.js';
import { allocateYoung } from './runtime/garbage.js';
import { createLog, type Log } from './runtime/logging.js';
import { STOP_GRACE_MS, stopOnSignal } from './runtime/signals.js';
import { startTracing } from './runtime/tracing.js';
import { WorkersParent } from './workers/parent.js';
import { leftBehind } from './workers/seat.js';

/**
 * Runs a gateway until SIGTERM, SIGINT or an admin's drain. Says `{ready: true, proxyPort, tunnelPort, metricsPort}` over
 * IPC when it serves, and stops without drain when its parent goes away. `settings`: environment variables that go before
 * those of the process. Throws EnvironmentError for bad settings.
 */
export async function runGateway(settings: Readonly<Record<string, string>> = {}): Promise<void> {
  allocateYoung();
  const config = readGatewayConfig(undefined, settings);
  const log = createLog('gateway', config.logLevel);
  const ending = stopOnSignal(config.drainMs + STOP_GRACE_MS, (error) =>
    log.error({ error: String(error) }, 'stopping_failed'),
  );
  const stopTracing = await startTracing(config, 'gateway', log);
  const gateway = await start(config, log, ending.begin);
  ending.by((why) => gateway.stop(why === 'disconnect' ? 0 : config.drainMs).then(stopTracing));
  const { proxyPort, tunnelPort, metricsPort } = gateway;
  process.send?.({ ready: true, proxyPort, tunnelPort, metricsPort });
}

/** One process; more when that is configured, or when workers of an earlier start have left something to settle. */
async function start(
  config: GatewayConfig,
  log: Log,
  onDrain: () => void,
): Promise<Pick<Gateway, 'proxyPort' | 'tunnelPort' | 'metricsPort' | 'stop'>> {
  if (config.workers === 1 && leftBehind(config).length === 0) return startGateway(config, log, { onDrain });
  const parent = new WorkersParent(config, log, onDrain);
  return { ...(await parent.start()), stop: (drainMs) => parent.stop(drainMs) };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  runGateway().catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
}
