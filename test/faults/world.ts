import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { openSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import { type RunningPostgres, startPostgres } from '../../deploy/standalone/services/postgres.js';
import { signalProcess } from '../../deploy/standalone/services/server-process.js';
import type { GatewayStatus } from '../../gateway/private-server.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { claimKeys } from './holders.js';
import { Link } from './link.js';
import { COUNTRIES, type LinkDoor, openLinkCa, openLinkDoor } from './linked.js';
import { callApi, makePeople, type TestBuyer } from './people.js';
import { Program } from './program.js';
import { launchRedis, type RedisServer } from './redis.js';
import { Origin, type ProxyAddress } from './traffic.js';

/** One gateway, the control plane that sends devices to it, and its devices: one for each buyer. */
export interface Site {
  gateway: Program;
  controlPlane: Program;
  agents: Program[];
  proxyPort: number;
  metricsPort: number;
  apiUrl: string;
  /** Gateway to Redis, control plane to Redis, control plane to Postgres. */
  links: { gatewayRedis: Link; controlRedis: Link; controlPostgres: Link };
  /** What the other gateway reaches this one by, when they are linked. */
  door: LinkDoor;
  /** Of its devices. */
  country: string;
  /** The folder of the gateway's journal. */
  journalDir: string;
  /** Since when all its devices are connected, as far as anyone looked; null: unknown. */
  onlineSinceMs: number | null;
}

/** What ends what was started, in order of starting; each step may be taken twice. */
type Undo = Array<() => unknown>;

/** Bytes of the file system that the journal of the first gateway lies on, when it has one of its own. */
const JOURNAL_DISK_BYTES = 2 * 1024 * 1024;
const READY_TIMEOUT_MS = 30_000;
/** Above the agent's own measure of a connection that held (10 s). */
const AT_EASE_MS = 10_500;
const BUYERS = 3;
/** The last buyer has little money, and less from case to case than it would like to use. */
const THIN = BUYERS - 1;
export const BUYER_PRICE_MICROS_PER_GB = 2_000_000;

/**
 * A whole system in processes of its own: Postgres, Redis, two gateways, two control planes (settlers), a device on
 * each gateway, with a link that can be disturbed wherever two of them talk, and a destination in this process.
 */
export class World {
  readonly sites: [Site, Site];
  readonly buyers: TestBuyer[];
  readonly origin: Origin;
  readonly adminToken: string;
  readonly folder: string;
  /** Straight to the database, past every link. */
  readonly databaseUrl: string;
  readonly redisPort: number;
  /** Whether the first gateway's journal has a small file system of its own. */
  readonly smallJournalDisk: boolean;
  #postgres: RunningPostgres;
  #redis: RedisServer;
  readonly #undo: Undo;

  private constructor(parts: {
    sites: [Site, Site];
    buyers: TestBuyer[];
    origin: Origin;
    adminToken: string;
    folder: string;
    postgres: RunningPostgres;
    redis: RedisServer;
    redisPort: number;
    smallJournalDisk: boolean;
    undo: Undo;
  }) {
    this.sites = parts.sites;
    this.buyers = parts.buyers;
    this.origin = parts.origin;
    this.adminToken = parts.adminToken;
    this.folder = parts.folder;
    this.databaseUrl = parts.postgres.url;
    this.redisPort = parts.redisPort;
    this.smallJournalDisk = parts.smallJournalDisk;
    this.#postgres = parts.postgres;
    this.#redis = parts.redis;
    this.#undo = parts.undo;
    // The servers may be others by then: faults start them again.
    this.#undo.push(() => this.#redis.stop());
    this.#undo.push(() => this.#postgres.stop());
    this.#undo.push(() =>
      Promise.all(this.sites.flatMap((s) => [...s.agents, s.gateway, s.controlPlane]).map((p) => p.stop())),
    );
  }

  /** Throws when a part does not start; nothing is left behind then. */
  static async start(): Promise<World> {
    const undo: Undo = [];
    try {
      return await World.#start(undo);
    } catch (error) {
      await undoAll(undo);
      throw error;
    }
  }

  static async #start(undo: Undo): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'ts-faults-'));
    await chmod(folder, 0o755);
    undo.push(() => rm(folder, { recursive: true, force: true }));
    const logFd = openSync(join(folder, 'programs.log'), 'a');
    const postgres = await startPostgres({ dataDir: join(folder, 'postgres'), durable: true });
    undo.push(() => postgres.stop());
    const redisPort = await freePort();
    const redis = await launchRedis(folder, redisPort);
    undo.push(() => redis.stop());
    const origin = await Origin.start();
    undo.push(() => origin.stop());
    const jwtSecret = randomBytes(24).toString('hex');
    const bootstrapSecret = randomBytes(24).toString('hex');
    const internalSecret = randomBytes(24).toString('hex');
    const smallJournalDisk = await mountSmall(join(folder, 'gateway-a'));
    if (smallJournalDisk) undo.push(() => execFileSync('umount', [join(folder, 'gateway-a')]));

    const ca = await openLinkCa(undo);
    const sites: Site[] = [];
    for (const [i, name] of ['a', 'b'].entries()) {
      const [apiPort, proxyPort, tunnelPort, metricsPort] = [
        await freePort(),
        await freePort(),
        await freePort(),
        await freePort(),
      ];
      const links = {
        gatewayRedis: await Link.to(redisPort),
        controlRedis: await Link.to(redisPort),
        controlPostgres: await Link.to(postgres.port),
      };
      undo.push(() => Promise.all(Object.values(links).map((link) => link.close())));
      const database = new URL(postgres.url);
      database.port = String(links.controlPostgres.port);
      const door = await openLinkDoor(`gateway-${name}`, ca, undo);
      const country = COUNTRIES[i] as string;
      const journalDir = join(folder, `gateway-${name}`);
      await mkdir(journalDir, { recursive: true });
      const common = {
        NODE_ENV: 'development',
        TS_LOG_LEVEL: 'warn',
        TS_DEV_LOOPBACK_COUNTRY: 'US',
        TS_DEV_ALLOW: `127.0.0.1:${origin.port}`,
      };
      const preload = projectPath('test/faults/preload/disturb.mjs');
      const controlPlane = new Program({
        name: `control-plane-${name}`,
        entry: projectPath('dist/control-plane/main.js'),
        logFd,
        preload,
        env: {
          ...common,
          TS_DATABASE_URL: database.href,
          TS_REDIS_URL: `redis://127.0.0.1:${links.controlRedis.port}`,
          TS_API_HOST: '127.0.0.1',
          TS_API_PORT: String(apiPort),
          TS_CONTROL_METRICS_PORT: '0',
          TS_TUNNEL_URL: `ws://127.0.0.1:${tunnelPort}/tunnel`,
          TS_JWT_SECRET: jwtSecret,
          TS_BOOTSTRAP_SECRET: bootstrapSecret,
          TS_INTERNAL_SECRET: internalSecret,
          TS_HOLD_TIME_S: '0',
          // A case moves little; it must be able to see every micro-dollar of it.
          TS_BUYER_PRICE_MICROS_PER_GB: String(BUYER_PRICE_MICROS_PER_GB),
          TS_OFFER_BYTES: '1000000000000',
        },
      });
      const gateway = new Program({
        name: `gateway-${name}`,
        entry: projectPath('dist/gateway/main.js'),
        logFd,
        preload,
        env: {
          ...common,
          TS_REDIS_URL: `redis://127.0.0.1:${links.gatewayRedis.port}`,
          TS_CONTROL_PLANE_URL: `http://127.0.0.1:${apiPort}`,
          TS_INTERNAL_SECRET: internalSecret,
          TS_PROXY_HOST: '127.0.0.1',
          TS_PROXY_PORT: String(proxyPort),
          TS_TUNNEL_HOST: '127.0.0.1',
          TS_TUNNEL_PORT: String(tunnelPort),
          TS_METRICS_PORT: String(metricsPort),
          TS_GATEWAY_ID: `gateway-${name}`,
          TS_GATEWAY_DATA_DIR: journalDir,
          TS_DRAIN_MS: '3000',
          TS_ALLOCATION_IDLE_MS: '3000',
          TS_JOURNAL_SLOTS: '32',
          TS_JOURNAL_EXTENT_SLOTS: '32',
          TS_JOURNAL_RESERVE_SLOTS: '8',
          TS_DEV_LOOPBACK_COUNTRY: country,
        },
      });
      sites.push({
        gateway,
        controlPlane,
        agents: [],
        proxyPort,
        metricsPort,
        apiUrl: `http://127.0.0.1:${apiPort}`,
        links,
        door,
        country,
        journalDir,
        onlineSinceMs: null,
      });
    }
    undo.push(() =>
      Promise.all(sites.flatMap((s) => [...s.agents, s.gateway, s.controlPlane]).map((p) => p.stop())),
    );
    // One after the other: the first one migrates.
    for (const site of sites) await site.controlPlane.start();
    await Promise.all(sites.map((site) => site.gateway.start()));
    const people = await makePeople({
      apiUrl: (sites[0] as Site).apiUrl,
      databaseUrl: postgres.url,
      jwtSecret,
      bootstrapSecret,
      devices: sites.length * BUYERS,
      creditsUsd: ['10000.00', '10000.00', null],
    });
    for (const [n, device] of people.devices.entries()) {
      const site = sites[n % sites.length] as Site;
      const agent = new Program({
        name: `agent-${n}`,
        entry: projectPath('dist/agent-protocol/agent/main.js'),
        logFd,
        preload: null,
        env: {
          NODE_ENV: 'development',
          TS_LOG_LEVEL: 'warn',
          TS_DEV_ALLOW: `127.0.0.1:${origin.port}`,
          TS_API_URL: site.apiUrl,
          TS_DEVICE_ID: device.deviceId,
          TS_DEVICE_KEY: device.deviceKey,
          TS_STATE_DIR: join(folder, `agent-${n}`),
          TS_KEEP_SESSION: '1',
        },
      });
      site.agents.push(agent);
      await agent.start();
    }
    const world = new World({
      sites: sites as [Site, Site],
      buyers: people.buyers,
      adminToken: people.adminToken,
      origin,
      folder,
      postgres,
      redis,
      redisPort,
      smallJournalDisk,
      undo,
    });
    for (const site of sites) await world.untilDevicesOnline(site);
    return world;
  }

  /** What all programs wrote. */
  get logFile(): string {
    return join(this.folder, 'programs.log');
  }

  /** The buyer with little money. */
  readonly thinBuyer = THIN;
  get thinBuyerId(): string {
    return (this.buyers[THIN] as TestBuyer).id;
  }
  /** What that buyer was given in all, micro-dollars. */
  thinFundedMicros = 0;
  /** What it has relayed in all, bytes. */
  thinRelayedBytes = 0;

  /** Gives the thin buyer money for so many bytes. */
  async fundThin(bytes: number): Promise<void> {
    const micros = Math.ceil((bytes * BUYER_PRICE_MICROS_PER_GB) / 1e9);
    const buyer = this.buyers[THIN] as TestBuyer;
    await callApi(this.sites[0].apiUrl, '/api/admin/credits', this.adminToken, {
      buyer_id: buyer.id,
      amount: (micros / 1e6).toFixed(6),
      reason: 'a little more',
    });
    this.thinFundedMicros += micros;
  }

  proxy(site: Site, buyer: number): ProxyAddress {
    const { username, password } = this.buyers[buyer % this.buyers.length] as TestBuyer;
    return { proxyPort: site.proxyPort, username, password };
  }

  /** In at the site, out through a device of the other one: for linked gateways. */
  proxyAcross(site: Site, buyer: number): ProxyAddress {
    const { country } = site === this.sites[0] ? this.sites[1] : this.sites[0];
    const proxy = this.proxy(site, buyer);
    return { ...proxy, username: `${proxy.username}-cc-${country.toLowerCase()}` };
  }

  /** Null: it does not answer. With a worker that stands still it takes some time. */
  async gatewayStatus(site: Site): Promise<GatewayStatus | null> {
    const answer = await fetch(`http://127.0.0.1:${site.metricsPort}/status`, {
      signal: AbortSignal.timeout(3_000),
    }).catch(() => null);
    return answer === null ? null : ((await answer.json()) as GatewayStatus);
  }

  statuses(): Promise<Array<GatewayStatus | null>> {
    return Promise.all(this.sites.map((site) => this.gatewayStatus(site)));
  }

  async claims(): Promise<number> {
    return claimKeys(this.redisPort).length;
  }

  /** Programs that have ended by themselves, in words. */
  ended(): string[] {
    return this.sites
      .flatMap((site) => [site.gateway, site.controlPlane, ...site.agents])
      .filter(({ running }) => !running)
      .map(({ spec }) => `${spec.name} is not running`);
  }

  /** Makes it a gateway of so many processes, linked with the other or not; nothing happens when it is one. */
  async withShape(site: Site, workers: number, linked: boolean): Promise<void> {
    const { env } = site.gateway.spec;
    const isLinked = env.TS_GATEWAY_LINK_PORT !== undefined;
    if ((env.TS_WORKERS ?? '1') === String(workers) && isLinked === linked) return;
    await site.gateway.stop();
    env.TS_WORKERS = String(workers);
    for (const [name, value] of Object.entries(site.door.env))
      if (linked) env[name] = value;
      else delete env[name];
    await site.gateway.start();
    site.onlineSinceMs = null;
  }

  /** Whether the gateway's journal takes new meters, as its metrics say. */
  async journalAdmits(site: Site): Promise<boolean> {
    const answer = await fetch(`http://127.0.0.1:${site.metricsPort}/metrics`);
    return /^ts_journal_admits\S* 1$/m.test(await answer.text());
  }

  /**
   * Waits until the devices have been connected for so long that they take the next loss for a first one: those that
   * lose their gateway again and again come back ever later, which is not what a case is about.
   */
  async untilDevicesAtEase(site: Site): Promise<void> {
    const sinceMs = site.onlineSinceMs ?? performance.now();
    await delay(Math.max(0, AT_EASE_MS - (performance.now() - sinceMs)));
    await this.untilDevicesOnline(site);
  }

  async untilDevicesOnline(site: Site): Promise<void> {
    const until = performance.now() + READY_TIMEOUT_MS;
    while (((await this.gatewayStatus(site))?.tunnels ?? 0) < site.agents.length) {
      if (performance.now() > until) throw new Error('the devices did not connect');
      await delay(50);
    }
    site.onlineSinceMs ??= performance.now();
  }

  get postgresPid(): number {
    return this.#postgres.pid;
  }

  get redisPid(): number {
    return this.#redis.pid;
  }

  /** Resolves when Redis and Postgres have ended. */
  async serversGone(): Promise<void> {
    await Promise.all([this.#redis.exited, this.#postgres.exited]);
  }

  /** Ends Postgres at once, as a crash does (immediate shutdown: no checkpoint, transactions are lost). */
  async crashPostgres(): Promise<void> {
    signalProcess(this.#postgres.pid, 'SIGQUIT');
    await this.#postgres.exited;
  }

  async startPostgresAgain(): Promise<void> {
    this.#postgres = await startPostgres({
      dataDir: join(this.folder, 'postgres'),
      durable: true,
      port: this.#postgres.port,
    });
  }

  async killRedis(): Promise<void> {
    signalProcess(this.#redis.pid, 'SIGKILL');
    await this.#redis.exited;
  }

  /** Comes back with what is in the snapshot file: everything of the moment it was made, or nothing. */
  async startRedisAgain(from: 'empty' | 'snapshot'): Promise<void> {
    if (from === 'empty') await rm(join(this.folder, 'dump.rdb'), { force: true });
    this.#redis = await launchRedis(this.folder, this.redisPort);
  }

  async stop(): Promise<void> {
    await undoAll(this.#undo);
  }
}

async function undoAll(undo: Undo): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step();
}

/** A small file system for a journal: needs the right to mount, else false and the disk is not filled. */
async function mountSmall(folder: string): Promise<boolean> {
  await mkdir(folder, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${JOURNAL_DISK_BYTES}`, 'tmpfs', folder], {
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}
