import { pathToFileURL } from 'node:url';
import { readGatewayConfig } from './config.js';
import { startGateway } from './gateway.js';
import { createLog } from './runtime/logging.js';
import { stopOnSignal } from './runtime/signals.js';

/** Time beyond the drain that stopping may take before the process gives up. */
const STOP_GRACE_MS = 10_000;

/**
 * Runs a gateway until SIGTERM, SIGINT or an admin's drain. Says `{ready: true, proxyPort, tunnelPort, metricsPort}` over IPC when it
 * serves, and stops without drain when its parent goes away. Throws EnvironmentError for bad settings.
 */
export async function runGateway(): Promise<void> {
  const config = readGatewayConfig();
  const log = createLog('gateway', config.logLevel);
  let drain = () => {};
  const gateway = await startGateway(config, log, () => drain());
  drain = stopOnSignal(
    (why) => gateway.stop(why === 'disconnect' ? 0 : config.drainMs),
    config.drainMs + STOP_GRACE_MS,
    (error) => log.error({ error: String(error) }, 'stopping_failed'),
  );
  const { proxyPort, tunnelPort, metricsPort } = gateway;
  process.send?.({ ready: true, proxyPort, tunnelPort, metricsPort });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  runGateway().catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
}
