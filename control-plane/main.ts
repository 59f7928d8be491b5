import { pathToFileURL } from 'node:url';
import { createLog } from '../gateway/runtime/logging.js';
import { stopOnSignal } from '../gateway/runtime/signals.js';
import { startTracing } from '../gateway/runtime/tracing.js';
import { startControlPlane } from './app.js';
import { readControlPlaneConfig } from './config.js';
import { RecentLog } from './system/recent-log.js';

/** Extra time over TS_STOP_GRACE_MS before the process gives up on a clean stop. */
const STOP_MARGIN_MS = 5_000;

/**
 * The control plane as a process: settings from the environment, stops on SIGTERM and SIGINT, tells a parent over
 * IPC `{ready: true, port}` when it listens.
 */
export async function runControlPlane(): Promise<void> {
  const config = readControlPlaneConfig();
  const recentLog = new RecentLog(config.recentLogLines);
  const log = createLog('control-plane', config.logLevel, undefined, (line) => recentLog.push(line));
  const ending = stopOnSignal(config.stopGraceMs + STOP_MARGIN_MS, (error) =>
    log.error({ stack: (error as Error).stack }, 'stop_failed'),
  );
  const stopTracing = await startTracing(config, 'control-plane', log);
  const controlPlane = await startControlPlane(config, log, undefined, recentLog);
  ending.by(async (why) => {
    log.info({ why }, 'stopping');
    await controlPlane.stop();
    await stopTracing();
  });
  process.send?.({ ready: true, port: controlPlane.port });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  runControlPlane().catch((error: unknown) => {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(1);
  });
