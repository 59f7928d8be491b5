import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../deploy/standalone/services/free-port.js';
import { type RunningRedis, startRedis } from '../../deploy/standalone/services/redis.js';
import { connectLive, type LiveRedis } from '../../gateway/live/connection.js';
import {
  markReady,
  writeAccount,
  writeLiveSettings,
  writeProviderPrice,
  writeTicket,
} from '../../gateway/live/store.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { ticketRecord } from '../helpers/ticket-record.js';
import { startWalletBank, type WalletBank } from '../helpers/wallet-bank.js';
import { type DeviceCounts, FuzzDevice } from './device.js';
import { GatewayProcess } from './gateway-process.js';
import type { Port } from './input.js';
import { accounts } from './people.js';
import { startSettler } from './settler.js';

/**
 * How the gateway is set up. `open`: its defences against too many clients are out of the way, and clients come from
 * millions of addresses, so that inputs reach the code behind. `defaults`: its defences are what they are for
 * everybody, and clients come from few addresses.
 */
export type Profile = 'open' | 'defaults';

/** Settings of both profiles: what there is to talk to, and nothing that a defence depends on. */
const SETTINGS = {
  NODE_ENV: 'development',
  TS_GATEWAY_ID: 'fuzz',
  TS_LOG_LEVEL: 'warn',
  TS_PROXY_HOST: '127.0.0.1',
  TS_PROXY_PORT: '0',
  TS_PROXY_TLS_DEV: '1',
  TS_PROXY_PROTOCOL_FROM: '127.8.0.0/16',
  TS_TUNNEL_HOST: '127.0.0.1',
  TS_TUNNEL_PORT: '0',
  TS_TRUSTED_PROXIES: '127.0.0.0/8',
  TS_METRICS_PORT: '0',
  TS_DRAIN_MS: '1000',
  // The bystander's device stays the bystander's.
  TS_ALLOCATION_IDLE_MS: '86400000',
  // Nobody collects usage here: what is kept for it has its full size soon, and is not taken for a leak.
  TS_USAGE_ENTRIES_MAX: '2000',
} as const;
const SETTINGS_OPEN = {
  // The clients are on the same machine and leave the gateway no time.
  TS_LOOP_LAG_MS_MAX: '0',
  TS_LOGIN_REFUSAL_MS: '5',
  TS_LOGIN_ENTRIES_MAX: '2000',
} as const;

/** Devices at addresses of access networks; the member's in the United States, the bystander's in France. */
const DEVICE_ADDRESSES = ['73.0.0.1', '73.0.0.2', '73.0.0.3', '73.0.0.4', '90.0.0.1'] as const;

/** A gateway with Redis, devices, accounts and money: everything an input might lead to. */
export class World {
  readonly counts: DeviceCounts = { opens: 0, bytesIn: 0, bytesOut: 0, datagramsIn: 0 };
  /** Hosts of the latest streams that a device was asked for. */
  readonly opened: string[] = [];
  readonly #undo: Array<() => unknown> = [];
  #gateway: GatewayProcess | null = null;
  #redis: LiveRedis | null = null;
  #devices: FuzzDevice[] = [];
  #dedicated: Partial<Record<Port, number>> = {};

  private constructor(readonly profile: Profile) {}

  /** Throws when a part does not start; nothing is left behind then. */
  static async start(profile: Profile, preload: string | null = null): Promise<World> {
    const world = new World(profile);
    try {
      await world.#start(preload);
      return world;
    } catch (error) {
      await world.stop();
      throw error;
    }
  }

  async #start(preload: string | null): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'ts-fuzz-'));
    this.#undo.push(() => rm(folder, { recursive: true, force: true }));
    const server: RunningRedis = await startRedis({ prefer: 'auto' });
    this.#undo.push(() => server.stop());
    const redis = connectLive({ url: server.url, log: silentLog });
    this.#redis = redis;
    this.#undo.push(() => redis.disconnect());
    for (const account of accounts()) await writeAccount(redis, account);
    await writeProviderPrice(redis, { microsPerGb: '500000', effectiveFromMs: 0 });
    const policy = { policyVersion: 1, termsVersion: '1', deniedDomains: [], deniedIps: [] };
    await writeLiveSettings(redis, policy);
    await markReady(redis);
    const bank: WalletBank = startWalletBank(redis, SETTINGS.TS_GATEWAY_ID);
    this.#undo.push(() => bank.stop());
    const settler = startSettler(redis, SETTINGS.TS_GATEWAY_ID);
    this.#undo.push(() => settler.stop());
    this.#dedicated = { socks5: await freePort(), http: await freePort(), tls: await freePort() };
    const gateway = await GatewayProcess.start({
      env: {
        ...SETTINGS,
        ...(this.profile === 'open' ? SETTINGS_OPEN : {}),
        TS_REDIS_URL: server.url,
        TS_GATEWAY_DATA_DIR: join(folder, 'gateway'),
        TS_PROXY_PORTS: Object.entries(this.#dedicated)
          .map(([protocol, port]) => `${port}:${protocol}`)
          .join(),
      },
      logFile: join(folder, 'gateway.log'),
      preload,
    });
    this.#gateway = gateway;
    this.#undo.push(() => gateway.stop());
    for (const address of DEVICE_ADDRESSES) {
      const ticket = `device-${randomUUID()}`;
      await this.issueTicket(ticket);
      this.#devices.push(
        await FuzzDevice.connect(gateway.ports.tunnel, ticket, address, this.counts, ({ host }) => {
          if (this.opened.push(host) > 100) this.opened.shift();
        }),
      );
    }
    this.#undo.push(() => {
      for (const device of this.#devices) device.close();
    });
  }

  get gateway(): GatewayProcess {
    if (this.#gateway === null) throw new Error('the gateway was not started');
    return this.#gateway;
  }

  /** Tunnels that stay. */
  get deviceCount(): number {
    return this.#devices.length;
  }

  /** A device's tunnel that the gateway has ended; null: none. */
  get lostDevice(): string | null {
    return this.#devices.find(({ closed }) => closed !== null)?.closed ?? null;
  }

  portOf(port: Port): number {
    if (port === 'tunnel') return this.gateway.ports.tunnel;
    return this.#dedicated[port] ?? this.gateway.ports.any;
  }

  /** Lets one device open one tunnel with this text. */
  async issueTicket(text: string): Promise<void> {
    const hash = createHash('sha256').update(text).digest('hex');
    await writeTicket(this.#redis as LiveRedis, hash, ticketRecord(), 60_000);
  }

  /** Ends everything, in the order in which it was started backwards. */
  async stop(): Promise<void> {
    for (const step of this.#undo.splice(0).reverse()) await step();
  }
}
