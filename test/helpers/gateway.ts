import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startRedis as startRedisServer } from '../../deploy/standalone/services/redis.js';
import { type GatewayConfig, readGatewayConfig } from '../../gateway/config.js';
import { type Gateway, startGateway } from '../../gateway/gateway.js';
import { connectLive, type LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import type { AccountSnapshot, MeterReport, TicketRecord } from '../../gateway/live/records.js';
import {
  markReady,
  writeAccount,
  writeLiveSettings,
  writeProviderPrice,
  writeTicket,
} from '../../gateway/live/store.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { startRedis } from './services.js';
import { ticketRecord } from './ticket-record.js';
import { startWalletBank, type WalletBank } from './wallet-bank.js';

/** A real gateway on a real Redis, with what a control plane would have published. */
export interface GatewayRig {
  redis: LiveRedis;
  /** kill -9 of Redis; what is returned starts an empty one on its port. */
  killRedis: () => Promise<() => Promise<void>>;
  gateway: Gateway;
  config: GatewayConfig;
  account: AccountSnapshot;
  username: string;
  password: string;
  /** A ticket for a device; fields can be set. */
  ticket: (fields?: Partial<TicketRecord>) => Promise<{ text: string; record: TicketRecord }>;
  /** Answers for a control plane what wallets ask; every owner has as much as it likes until told otherwise. */
  bank: WalletBank;
  /** The same of the gateway that `another` started by that name. */
  bankOf: (name: string) => WalletBank;
  /** Meters as they lie in Redis. */
  meters: () => Promise<MeterReport[]>;
  status: () => Promise<{
    connections: number;
    tunnels: number;
    streams: number;
    bytesUp: number;
    bytesDown: number;
  }>;
  /** Another gateway on the same Redis; it stops with this one. */
  another: (name: string, env?: Record<string, string>) => Promise<Gateway>;
  /** Stops the gateway and starts another on the same data. */
  restart: () => Promise<void>;
  stop: () => Promise<void>;
}

const PASSWORD = 'q8Yt2LwR5mZx7Kc1';

/** `env`: settings of the gateway beside those that tests need. */
export async function startGatewayRig(env: Record<string, string> = {}): Promise<GatewayRig> {
  let server = await startRedis();
  const redis = connectLive({ url: server.url, log: silentLog });
  const dataDir = await mkdtemp(join(tmpdir(), 'ts-gateway-'));
  const account: AccountSnapshot = {
    account: 'acme',
    buyerId: randomUUID(),
    subUser: null,
    status: 'active',
    kycStatus: 'approved',
    aupAccepted: true,
    credentials: [
      {
        tokenId: randomUUID(),
        sha256Hex: createHash('sha256').update(PASSWORD).digest('hex'),
        expiresAtMs: null,
        allowedIps: [],
      },
    ],
    passwordlessIps: [],
    priceMicrosPerGb: '2000000',
    limits: { streamsMax: 10_000, connectionsPerSecondMax: 10_000, extraPorts: [], grantedPorts: [] },
    version: 1,
  };
  await writeAccount(redis, account);
  await writeProviderPrice(redis, { microsPerGb: '500000', effectiveFromMs: 0 });
  await writeLiveSettings(redis, {
    policyVersion: 1,
    termsVersion: '1',
    deniedDomains: [],
    deniedIps: [],
  });
  await markReady(redis);
  const configOf = (name: string, folder: string, further: Record<string, string>) =>
    readGatewayConfig({
      TS_REDIS_URL: server.url,
      TS_GATEWAY_ID: name,
      TS_GATEWAY_DATA_DIR: folder,
      TS_PROXY_HOST: '127.0.0.1',
      TS_PROXY_PORT: '0',
      TS_TUNNEL_HOST: '127.0.0.1',
      TS_TUNNEL_PORT: '0',
      TS_METRICS_PORT: '0',
      TS_DEV_LOOPBACK_COUNTRY: 'US',
      TS_DELIVERY_INTERVAL_MS: '20',
      // A machine that stalls for a second sheds nothing: that is shown by tests of their own.
      TS_LOOP_LAG_MS_MAX: '0',
      ...further,
    });
  const config = configOf('test', dataDir, env);
  const others: Array<{ gateway: Gateway; bank: WalletBank; folder: string }> = [];
  const bank = startWalletBank(redis, 'test');
  const banks = new Map<string, WalletBank>();
  const rig: GatewayRig = {
    redis,
    killRedis: async () => {
      const { port } = server;
      await server.kill();
      return async () => {
        server = await startRedisServer({ prefer: 'auto', port });
      };
    },
    bank,
    bankOf: (name) => banks.get(name) as WalletBank,
    gateway: await startGateway(config, silentLog),
    config,
    account,
    username: account.account,
    password: PASSWORD,
    ticket: async (fields = {}) => {
      const text = `ticket-${randomUUID()}`;
      const record = ticketRecord(fields);
      await writeTicket(redis, createHash('sha256').update(text).digest('hex'), record, 60_000);
      return { text, record };
    },
    meters: async () =>
      Object.values(await redis.hgetall(liveKeys.meters('test'))).map(
        (text) => JSON.parse(text) as MeterReport,
      ),
    status: async () =>
      (await (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/status`)).json()) as Awaited<
        ReturnType<GatewayRig['status']>
      >,
    another: async (name, env = {}) => {
      const folder = await mkdtemp(join(tmpdir(), `ts-${name}-`));
      const gateway = await startGateway(configOf(name, folder, env), silentLog);
      const bank = startWalletBank(redis, name);
      banks.set(name, bank);
      others.push({ gateway, bank, folder });
      return gateway;
    },
    restart: async () => {
      await rig.gateway.stop(0);
      rig.gateway = await startGateway(config, silentLog);
    },
    stop: async () => {
      for (const other of others) {
        await other.gateway.stop(0);
        await other.bank.stop();
        await rm(other.folder, { recursive: true, force: true });
      }
      await rig.gateway.stop(0);
      await bank.stop();
      redis.disconnect();
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
  return rig;
}
