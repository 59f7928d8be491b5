import { execFileSync } from 'node:child_process';
import { accessSync, constants, rmSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerProcess } from '../../../deploy/standalone/services/server-process.js';
import type { GatewayStatus } from '../../../gateway/private-server.js';
import type { Endpoint, LineCalls, Route } from '../protocol.js';
import type { Role } from '../role.js';
import type { DeviceSite } from '../roles/bench-device.js';
import type { Fleet } from './fleet.js';

/** Something that relays, running and ready to be measured. */
export interface RunningSystem {
  /** As in a table: name, version, what it does. */
  readonly label: string;
  readonly route: Route;
  /** Other ways into the same processes, rows of their own where connections are set up; left out: none. */
  readonly otherWays?: ReadonlyArray<{ readonly id: string; readonly label: string; readonly route: Route }>;
  /** Processes that the buyer's side meets; their CPU and memory are the figures of the table. */
  gatewayPids(): number[];
  /** Processes at the device's end; none for systems without a tunnel. */
  agentPids(): number[];
  /** Takes metering and journal out of the running gateway, or puts them back; left out: it can not. */
  switchMetering?(): void;
  /** The line between the device's end and the server's, where there is one. */
  readonly line?: Role<LineCalls>;
  /** Opens tunnels that nobody uses; left out: the system can not. */
  idleTunnels?(count: number): Promise<Fleet>;
  /** What the load phases need of Traffic Share; left out: another system. */
  readonly inside?: Inside;
  stop(): Promise<void>;
}

/** Doors into a running Traffic Share that neither buyers nor devices have. */
export interface Inside {
  readonly site: DeviceSite;
  readonly databaseUrl: string;
  /** What the gateway says of itself. */
  status(): Promise<GatewayStatus>;
  /** How late its event loop is, ms, as it sees it when it decides whether to turn connections away. */
  loopLagMs(): Promise<number>;
}

export interface SystemUnderTest {
  readonly id: string;
  /** Starts it towards the origin; `{absent}` says why it can not run here. */
  start(origin: Endpoint): Promise<RunningSystem | { absent: string }>;
}

/** How long a system may take until its port answers. */
const READY_TIMEOUT_MS = 20_000;

/** Absolute path of a program on PATH or in the folders of system programs; null when it is not installed. */
export function program(name: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];
  for (const folder of folders) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {} // the next folder
  }
  return null;
}

/** The first version-like words of what a program says of itself, on either output. */
export function versionOf(command: string, args: string[]): string {
  const text = execFileSync('sh', ['-c', '"$0" "$@" 2>&1 || true', command, ...args], { encoding: 'utf8' });
  return /v?(\d+(\.\w+)+)/.exec(text)?.[1] ?? '';
}

/** A folder for keys and settings, readable by the daemons' users; removed by `remove`, or else when we end. */
export async function workFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'ts-bench-'));
  await chmod(path, 0o755);
  const atExit = () => rmSync(path, { recursive: true, force: true });
  process.once('exit', atExit);
  return {
    path,
    async remove() {
      process.off('exit', atExit);
      await rm(path, { recursive: true, force: true });
    },
  };
}

/** Waits until something accepts connections on the port. Throws with the server's output when it does not. */
export async function portOpen(port: number, server: ServerProcess): Promise<void> {
  const until = performance.now() + READY_TIMEOUT_MS;
  while (server.running && performance.now() < until) {
    if (await accepts(port)) return;
    await delay(25);
  }
  throw new Error(`nothing listens on port ${port}: ${server.output()}`);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** A route without authentication through a local port. */
export function localRoute(kind: Route['kind'], port: number): Route {
  return { kind, host: '127.0.0.1', port, username: '', password: '' };
}
