import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import { connectLive, type LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { readPresencesOf } from '../../gateway/live/presence.js';
import { readSticky } from '../../gateway/live/sticky.js';
import type { GatewayStatus } from '../../gateway/private-server.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { Books } from '../faults/books.js';
import { callApi, type TestBuyer } from '../faults/people.js';
import { Program } from '../faults/program.js';
import { Origin, type ProxyAddress } from '../faults/traffic.js';
import { BALANCER, startHaproxy } from '../helpers/balancer.js';
import {
  type InstalledGateway,
  type InstalledSystem,
  type Owner,
  startInstalledSystem,
} from '../helpers/installed-system.js';
import { type RedisGroup, startRedisCluster } from '../helpers/redis-groups.js';
import type { HostOrder, HostStatus } from './agent-host.js';

/** How large a fleet is. */
export interface FleetSize {
  gateways: number;
  agents: number;
}

/** Buyers whose traffic runs all the time. */
export const LOAD_BUYERS = 4;
/** The buyer who is suspended and whose tokens are revoked, and the one who is suspended while Redis is away. */
export const SWITCHED_BUYER = LOAD_BUYERS;
export const AWAY_BUYER = LOAD_BUYERS + 1;

/** Settings of this fleet that are not the defaults: what a test can wait for. */
export const FLEET_SETTINGS = {
  TS_LOG_LEVEL: 'warn',
  TS_DRAIN_MS: '20000',
  TS_SNAPSHOT_TERM_MS: '6000',
  TS_WALLET_TERM_MS: '10000',
  TS_ALLOCATION_IDLE_MS: '5000',
  // All devices and admins of the fleet have one address here.
  TS_API_REQUESTS_PER_MINUTE: '1000000',
  // A machine that does other things as well makes event loops late; what sheds load then is not what is tested.
  TS_LOOP_LAG_MS_MAX: '0',
} as const;

const AGENTS_A_PROCESS = 100;
const ONLINE_TIMEOUT_MS = 60_000;
const WELL_TIMEOUT_MS = 30_000;
const LOOK_INTERVAL_MS = 50;
const STATUS_TIMEOUT_MS = 3_000;

/**
 * A fleet as an operator has one, on loopback: gateways joined by links, two control planes, a Redis Cluster, Postgres, HAProxy
 * with deploy/balancer's file in front, each a process of its own, and devices' agents, a hundred a process.
 */
export class Fleet {
  readonly #hosts: Program[] = [];
  readonly #answers = new Map<number, (status: HostStatus) => void>();
  #asked = 0;
  #live: LiveRedis | null = null;

  private constructor(
    readonly system: InstalledSystem,
    readonly redis: RedisGroup,
    readonly origin: Origin,
    readonly books: Books,
    /** Of buyers, at HAProxy. */
    readonly buyersPort: number,
  ) {}

  /** Everything ends with `owner`. Throws when a part does not come. */
  static async start(owner: Owner, { gateways, agents }: FleetSize): Promise<Fleet> {
    const redis = await startRedisCluster(liveKeys.commands());
    owner.teardown(() => redis.stop());
    const origin = await Origin.start();
    owner.teardown(() => origin.stop());
    const [buyersPort, webPort] = [await freePort(), await freePort()];
    const destination = `127.0.0.1:${origin.port}`;
    const system = await startInstalledSystem(owner, {
      balancers: [BALANCER],
      tunnelUrl: () => `wss://localhost:${webPort}/tunnel`,
      agentApiUrl: () => `https://localhost:${webPort}`,
      controlPlanes: 2,
      gateways,
      devices: agents,
      destination,
      creditsUsd: Array.from({ length: AWAY_BUYER + 1 }, () => '10000.00'),
      redisUrl: redis.url,
      env: FLEET_SETTINGS,
    });
    await startHaproxy(owner, system, { buyersPort, webPort });
    const books = new Books(system.databaseUrl);
    owner.teardown(() => books.stop());
    books.watch();
    const fleet = new Fleet(system, redis, origin, books, buyersPort);
    owner.teardown(() => fleet.#live?.disconnect());
    owner.teardown(() => fleet.#stopHosts());
    fleet.#live = connectLive({ url: redis.url, log: silentLog });
    await fleet.#startHosts({ apiUrl: `https://localhost:${webPort}`, devAllow: destination });
    return fleet;
  }

  async #startHosts(order: Omit<HostOrder, 'devices'>): Promise<void> {
    const { devices, pemFile, logFd } = this.system;
    for (let n = 0; n < devices.length; n += AGENTS_A_PROCESS) {
      const host = new Program({
        name: `agents-${n}`,
        entry: projectPath('dist-programs/test/real-fleet/agent-host.js'),
        logFd,
        preload: null,
        env: { NODE_ENV: 'development', NODE_EXTRA_CA_CERTS: pemFile },
        onMessage: (message) => {
          const status = message as HostStatus;
          this.#answers.get(status.asked)?.(status);
        },
      });
      this.#hosts.push(host);
      await host.start();
      host.tell({ ...order, devices: devices.slice(n, n + AGENTS_A_PROCESS) } satisfies HostOrder);
    }
    await this.untilOnline(devices.length);
  }

  async #stopHosts(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.stop()));
  }

  /** What all agents say of themselves now. */
  async agents(): Promise<Omit<HostStatus, 'asked'>> {
    const statuses = await Promise.all(
      this.#hosts.map((host) => {
        if (!host.running) throw new Error(`${host.spec.name} ended`);
        const asked = ++this.#asked;
        return new Promise<HostStatus>((resolve) => {
          this.#answers.set(asked, resolve);
          host.tell({ ask: asked });
        }).finally(() => this.#answers.delete(asked));
      }),
    );
    const sum = (of: (status: HostStatus) => number) => statuses.reduce((total, one) => total + of(one), 0);
    return {
      online: sum(({ online }) => online),
      ended: Object.assign({}, ...statuses.map(({ ended }) => ended)),
      streamsOpen: sum(({ streamsOpen }) => streamsOpen),
      tunnelsTotal: sum(({ tunnelsTotal }) => tunnelsTotal),
    };
  }

  /** Resolves when so many devices hold a tunnel, to how long that took, ms. Throws after a minute. */
  async untilOnline(count: number): Promise<number> {
    const startMs = performance.now();
    for (;;) {
      const { online, ended } = await this.agents();
      if (online >= count) return performance.now() - startMs;
      if (performance.now() - startMs > ONLINE_TIMEOUT_MS)
        throw new Error(`${online} of ${count} devices are online; ended: ${JSON.stringify(ended)}`);
      await delay(LOOK_INTERVAL_MS);
    }
  }

  gateway(n: number): InstalledGateway {
    return this.system.gateways[n] as InstalledGateway;
  }

  /** `TS_GATEWAY_ID` of a gateway. */
  gatewayId(n: number): string {
    return `host-${n + 1}`;
  }

  buyer(n: number): TestBuyer {
    return this.system.buyers[n] as TestBuyer;
  }

  /** Where a buyer asks: at HAProxy, or past it at one gateway. `options`: of the username, `-session-x`. */
  proxy(buyer: number, options = '', gateway?: number): ProxyAddress {
    const { username, password } = this.buyer(buyer);
    const proxyPort = gateway === undefined ? this.buyersPort : this.gateway(gateway).proxyPort;
    return { protocol: 'connect', proxyPort, username: username + options, password };
  }

  /** Calls the API as the admin, at the first control plane that answers. */
  async asAdmin(
    path: string,
    body?: object,
    method?: 'POST' | 'PATCH' | 'DELETE',
    token = this.system.adminToken,
  ): Promise<Record<string, unknown>> {
    const [first, second] = this.system.controlPlanes.map(({ apiPort }) => `http://127.0.0.1:${apiPort}`);
    const call = (apiUrl: string) => callApi(apiUrl, path, token, body, method);
    return call(first as string).catch((error: TypeError) => {
      if (error.cause === undefined) throw error;
      return call(second as string);
    });
  }

  /** Of each gateway; null: it does not answer. */
  statuses(): Promise<Array<GatewayStatus | null>> {
    return Promise.all(
      this.system.gateways.map(async ({ metricsPort }) => {
        const answer = await fetch(`http://127.0.0.1:${metricsPort}/status`, {
          signal: AbortSignal.timeout(STATUS_TIMEOUT_MS),
        }).catch(() => null);
        return answer === null ? null : ((await answer.json()) as GatewayStatus);
      }),
    );
  }

  async untilWell(n: number): Promise<void> {
    const endMs = performance.now() + WELL_TIMEOUT_MS;
    const url = `http://127.0.0.1:${this.gateway(n).metricsPort}/health`;
    for (;;) {
      const answer = await fetch(url, { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) }).catch(() => null);
      const text = await answer?.text();
      if (answer?.ok) return;
      if (performance.now() > endMs) throw new Error(`gateway ${n + 1} is not well: ${text}`);
      await delay(LOOK_INTERVAL_MS);
    }
  }

  /** The device that a named session keeps, and the gateway that has it; null: it keeps none, or nobody has it. */
  async placeOf(buyer: number, session: string): Promise<{ deviceId: string; gatewayId: string } | null> {
    const redis = this.#live as LiveRedis;
    const sticky = await readSticky(redis, this.buyer(buyer).username, session);
    if (sticky === null) return null;
    const [presence] = await readPresencesOf(redis, [sticky.deviceId]);
    return presence ? { deviceId: sticky.deviceId, gatewayId: presence.gatewayId } : null;
  }

  get databaseUrl(): string {
    return this.system.databaseUrl;
  }

  async agentStreams(): Promise<number> {
    return (await this.agents()).streamsOpen;
  }

  /** Claims in Redis. */
  async claims(): Promise<number> {
    let count = 0;
    for (const { redis } of this.redis.nodes) {
      if (!(await redis.info('replication')).includes('role:master')) continue;
      count += (await redis.keys('ts:claim:*')).length;
    }
    return count;
  }

  /** Ends every node of the cluster, as kill -9 does. */
  async killRedis(): Promise<void> {
    await Promise.all(this.redis.nodes.map((node) => node.kill()));
  }

  /** Starts them again: empty. */
  async startRedis(): Promise<void> {
    await Promise.all(this.redis.nodes.map((node) => node.start()));
  }
}

/** Ends what is given to it, the last first: what a test does for itself, for a program. */
export class Undo implements Owner {
  readonly #steps: Array<() => unknown> = [];
  /** What went wrong while ending. */
  readonly troubles: string[] = [];
  failed = false;

  teardown(step: () => unknown): void {
    this.#steps.push(step);
  }

  passing(): boolean {
    return !this.failed;
  }

  comment(...text: unknown[]): void {
    process.stderr.write(`${text.join(' ')}\n`);
  }

  async all(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse())
      try {
        await step();
      } catch (error) {
        this.troubles.push(String(error));
      }
  }
}

/** Resolves with the next of the signals that end a program by hand. */
export async function interrupted(): Promise<string> {
  return Promise.race(['SIGINT', 'SIGTERM'].map((signal) => once(process, signal).then(() => signal)));
}
