import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { createPool } from '../../control-plane/db/pool.js';
import { connectLive, type LiveRedis } from '../../gateway/live/connection.js';
import type { MeterReport } from '../../gateway/live/records.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { startMigratedPostgres, startRedis } from './services.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

/** A migrated Postgres of its own with a pool; both end with the test. */
export async function startMoneyDatabase(t: Teardown, poolMax = 12): Promise<pg.Pool> {
  const server = await startMigratedPostgres();
  t.teardown(() => server.stop());
  const pool = createPool({
    databaseUrl: server.url,
    connectionsMax: poolMax,
    statementTimeoutMs: 60_000,
    connectTimeoutMs: 60_000,
    applicationName: 'test',
  });
  t.teardown(() => pool.end());
  return pool;
}

export async function addUser(pool: pg.Pool, referredBy: string | null = null): Promise<string> {
  const id = randomUUID();
  await pool.query(
    'INSERT INTO users (id, telegram_id, referral_code, referred_by, is_verified) VALUES ($1, $2, $3, $4, true)',
    [id, randomBytes(5).readUIntBE(0, 5), randomBytes(8).toString('hex'), referredBy],
  );
  return id;
}

export interface TestSession {
  sessionId: string;
  userId: string;
  deviceId: string;
  exitIp: string;
}

/** A device with an active traffic session. */
export async function addSession(
  pool: pg.Pool,
  userId: string,
  options: { exitIp?: string; country?: string; status?: 'active' | 'stopping' } = {},
): Promise<TestSession> {
  const deviceId = `device-${randomBytes(6).toString('hex')}`;
  const sessionId = randomUUID();
  const exitIp = options.exitIp ?? `198.51.${randomBytes(1)[0]}.${randomBytes(1)[0]}`;
  await pool.query(
    "INSERT INTO devices (id, user_id, key_hash, os, client_version) VALUES ($1, $2, $3, 'linux', '1.0.0')",
    [deviceId, userId, randomBytes(32)],
  );
  await pool.query(
    `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, client_version, stopped_at)
     VALUES ($1, $2, $3, $4, $5, $6, '1.0.0', CASE WHEN $4 = 'stopping' THEN now() END)`,
    [sessionId, userId, deviceId, options.status ?? 'active', exitIp, options.country ?? 'DE'],
  );
  return { sessionId, userId, deviceId, exitIp };
}

/** An approved buyer with the policy accepted. */
export async function addBuyer(pool: pg.Pool, priceMicrosPerGb: bigint | null = null): Promise<string> {
  const id = randomUUID();
  await pool.query(
    `INSERT INTO buyers (id, account, name, kyc_status, aup_accepted_at, price_micros_per_gb)
     VALUES ($1, $2, 'Test buyer', 'approved', now(), $3)`,
    [id, randomBytes(6).toString('hex'), priceMicrosPerGb],
  );
  return id;
}

/** A connection to an empty Redis of its own; both end with the test. */
export async function startMoneyRedis(t: Teardown): Promise<{ redis: LiveRedis; url: string }> {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connectLive({ url: server.url, log: silentLog, commandTimeoutMs: 10_000 });
  t.teardown(() => redis.disconnect());
  return { redis, url: server.url };
}

let lastOpenedAtMs = Date.now() - 60_000;

/** One meter as a gateway counts it; `report` is what it would deliver now. */
export class TestMeter {
  bytesUp = 0;
  bytesDown = 0;
  final = false;
  /** Rises from meter to meter, so that their order is known. */
  readonly openedAtMs = ++lastOpenedAtMs;
  constructor(
    readonly gatewayId: string,
    readonly sessionId: string,
    readonly buyerId: string,
    readonly allocationId: string = randomUUID(),
    readonly prices = { provider: '500000', buyer: '2000000' },
    readonly packageId: string | null = null,
    readonly subUserId: string | null = null,
    readonly epoch: string = randomBytes(16).toString('hex'),
  ) {}
  count(bytesUp: number, bytesDown: number): this {
    this.bytesUp += bytesUp;
    this.bytesDown += bytesDown;
    return this;
  }
  report(end: { final?: boolean; allocationEnded?: boolean } = {}): MeterReport {
    if (end.final) this.final = true;
    return {
      sessionId: this.sessionId,
      allocationId: this.allocationId,
      epoch: this.epoch,
      providerPriceMicrosPerGb: this.prices.provider,
      buyerPriceMicrosPerGb: this.prices.buyer,
      buyerId: this.buyerId,
      packageId: this.packageId,
      subUserId: this.subUserId,
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
      openedAtMs: this.openedAtMs,
      activeAtMs: Date.now(),
      final: this.final,
      allocationEnded: end.allocationEnded ?? false,
    };
  }
}
