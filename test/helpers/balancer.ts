/** Balancers as deploy/balancer has them, in front of an installed system. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { projectPath } from '../../gateway/runtime/project-path.js';
import type { InstalledSystem, Owner } from './installed-system.js';

/** The address of loopback that they connect from: a system behind them is started with it. */
export const BALANCER = '127.0.0.9';
const READY_TIMEOUT_MS = 15_000;
/** Connections at once: tunnels of a small fleet and its buyers. */
const CONNECTIONS_MAX = 4_000;

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  const open = await Promise.race([
    once(socket, 'connect').then(() => true),
    once(socket, 'error').then(() => false),
  ]).catch(() => false);
  socket.destroy();
  return open;
}

/** Runs a balancer until the test is over, and waits for its ports. */
export async function runBalancer(
  t: Pick<Owner, 'teardown'>,
  command: string,
  args: string[],
  ports: number[],
): Promise<void> {
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGTERM');
    await ended;
  });
  const endMs = performance.now() + READY_TIMEOUT_MS;
  for (const port of ports)
    while (!(await answers(port))) {
      if (child.exitCode !== null || performance.now() > endMs) throw new Error(`${command}: ${output}`);
      await delay(50);
    }
}

/** A file of deploy/balancer with the system's ports in the places of the examples, for as many gateways as it has. */
export async function configured(system: InstalledSystem, file: string): Promise<string> {
  const { gateways, controlPlanes } = system;
  const ports: Record<string, number> = {};
  for (const [n, { proxyPort, tunnelPort, metricsPort }] of gateways.entries()) {
    ports[String(18_081 + n)] = proxyPort;
    ports[String(18_441 + n)] = tunnelPort;
    ports[String(19_464 + n)] = metricsPort;
  }
  for (const [n, { apiPort }] of controlPlanes.entries()) ports[String(13_001 + n)] = apiPort;
  const given = await readFile(projectPath(`deploy/balancer/${file}`), 'utf8');
  // As an operator adds a third one: by the pattern of the second.
  const grown = given.replace(/^ *server gateway-2 .*\n/gm, (line) =>
    gateways
      .slice(1)
      .map((_, n) =>
        line.replace('gateway-2', `gateway-${n + 2}`).replace(/\d{5}/g, (port) => String(Number(port) + n)),
      )
      .join(''),
  );
  const seen = new Set<string>();
  const changed = grown.replace(/(127\.0\.0\.1:|check port )(\d+)/g, (_, before: string, port: string) => {
    seen.add(port);
    return before + ports[port];
  });
  for (const port of seen) if (ports[port] === undefined) throw new Error(`nobody listens at ${port}`);
  return changed;
}

/** HAProxy with deploy/balancer's file: buyers at one port of loopback, API and tunnels in TLS at the other. */
export async function startHaproxy(
  t: Pick<Owner, 'teardown'>,
  system: InstalledSystem,
  { buyersPort, webPort }: { buyersPort: number; webPort: number },
): Promise<void> {
  const file = join(system.folder, 'haproxy.cfg');
  const configuration = (await configured(system, 'haproxy.cfg'))
    .replace('maxconn 100000', `maxconn ${CONNECTIONS_MAX}`)
    .replace('bind :8080', `bind 127.0.0.1:${buyersPort}`)
    .replace('bind :443', `bind 127.0.0.1:${webPort}`)
    .replace('/etc/haproxy/certificates/', system.pemFile)
    .replace('default-server ', `default-server source ${BALANCER} `);
  await writeFile(file, configuration);
  await runBalancer(t, 'haproxy', ['-db', '-f', file], [buyersPort, webPort]);
}
