import { randomBytes, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type pg from 'pg';
import { createPool } from '../../control-plane/db/pool.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { startPostgres } from './services.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

/** A migrated Postgres of its own with a pool; both end with the test. */
export async function startMoneyDatabase(t: Teardown, poolMax = 12): Promise<pg.Pool> {
  const server = await startPostgres();
  t.teardown(() => server.stop());
  const pool = createPool({
    url: server.url,
    connectionsMax: poolMax,
    statementTimeoutMs: 60_000,
    connectTimeoutMs: 60_000,
    applicationName: 'test',
  });
  t.teardown(() => pool.end());
  const folder = projectPath('control-plane/db/migrations');
  for (const file of (await readdir(folder)).filter((f) => f.endsWith('.sql')).sort())
    await pool.query(await readFile(`${folder}/${file}`, 'utf8'));
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
