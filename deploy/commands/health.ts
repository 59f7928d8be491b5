import { controlPlaneSettings } from '../../control-plane/config.js';
import { gatewaySettings } from '../../gateway/config.js';
import type { LinksStatus } from '../../gateway/links/gateway-links.js';
import { readEnvironment } from '../../gateway/runtime/environment.js';
import { commandEnvironment } from '../standalone/config.js';

/** Processes with a private port, and the settings that say where it is. */
const PROCESSES = {
  gateway: { host: gatewaySettings.metricsHost, port: gatewaySettings.metricsPort },
  'control-plane': { host: controlPlaneSettings.metricsHost, port: controlPlaneSettings.metricsPort },
} as const;

export type HealthProcess = keyof typeof PROCESSES;
const HEALTH_PROCESSES = Object.keys(PROCESSES) as HealthProcess[];

/** Time an answer may take. */
const ANSWER_MS = 4_000;

/** Where a private port that listens on `host` is reached from the same machine. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

/** What is wrong with it; empty: nothing. Null: nobody listens. */
async function ailmentsOf(process: HealthProcess): Promise<readonly string[] | null> {
  const { host, port } = readEnvironment(PROCESSES[process], commandEnvironment());
  let response: Response;
  try {
    response = await fetch(`http://${reachable(host)}:${port}/health`, {
      signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as { code?: unknown };
    return code === 'ECONNREFUSED' ? null : ['gives no answer'];
  }
  const body = (await response.json().catch(() => ({}))) as { ailments?: string[] };
  return response.ok ? [] : (body.ailments ?? [`answers ${response.status}`]);
}

/** Of a gateway with links: which others it is linked with. */
async function linksOf(process: HealthProcess): Promise<string> {
  if (process !== 'gateway') return '';
  const { host, port } = readEnvironment(PROCESSES.gateway, commandEnvironment());
  const response = await fetch(`http://${reachable(host)}:${port}/status`, {
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch(() => null);
  const body: unknown = await response?.json().catch(() => undefined);
  const { links } = (body ?? {}) as { links?: LinksStatus };
  if (links === undefined) return '';
  const named = (gatewayIds: readonly string[]) => gatewayIds.join(' ') || 'none';
  return `; links to ${named(links.to)}, from ${named(links.from)}`;
}

/**
 * `traffic-share health`: asks the private port of the process on this machine; of all that are there without a name.
 * Says on stdout what is wrong. Resolves to the exit code: 0 when it is well, 1 when it is not or nobody listens.
 */
export async function runHealth(process_: HealthProcess | undefined): Promise<number> {
  const asked = process_ === undefined ? HEALTH_PROCESSES : [process_];
  const answers = await Promise.all(asked.map(async (name) => ({ name, ailments: await ailmentsOf(name) })));
  const there = answers.filter(({ ailments }) => ailments !== null);
  for (const { name, ailments } of there)
    process.stdout.write(
      `${name}: ${ailments?.length === 0 ? 'well' : ailments?.join(', ')}${await linksOf(name)}\n`,
    );
  if (there.length === 0) process.stdout.write(`${asked.join(', ')}: not running here\n`);
  return there.length > 0 && there.every(({ ailments }) => ailments?.length === 0) ? 0 : 1;
}
