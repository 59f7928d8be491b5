import { randomUUID } from 'node:crypto';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createPool, type Queryable } from '../../control-plane/db/pool.js';
import { findOrCreateUser } from '../../control-plane/users/users.js';
import type { Secrets } from './data-folder.js';

/** The demo's people as `standalone.json` tells them, and the device key for the agent. */
export interface Demo {
  buyer: { id: string; username: string; password: string; token: string };
  admin: { token: string };
  provider: { user_id: string; access_token: string; device_id: string };
  deviceKey: string;
}

/** Telegram ids of the demo's people: below any that Telegram gives out. */
const ADMIN_TELEGRAM_ID = 1;
const PROVIDER_TELEGRAM_ID = 2;
/** What the demo buyer starts with. */
const BUYER_CREDIT = '100.00';
const TOKEN_TTL_S = 30 * 86_400;

/**
 * Makes the demo's admin, buyer and provider through the API, as people would; at a later start only new tokens for
 * those that are there. What the database keeps as hashes only is remembered in `secrets.demo`.
 */
export async function seedDemo(options: {
  apiUrl: string;
  databaseUrl: string;
  secrets: Secrets;
  /** Writes `secrets` to disk. */
  save: () => void;
}): Promise<Demo> {
  const { apiUrl, secrets, save } = options;
  const { demo } = secrets;
  const pool = createPool({
    databaseUrl: options.databaseUrl,
    applicationName: 'standalone',
    connectionsMax: 1,
  });
  try {
    const api = new Api(apiUrl);
    if (demo.adminUserId === undefined) {
      const admin = await api.post('/api/admin/create_superadmin', null, {
        secret: secrets.bootstrapSecret,
        telegram_id: ADMIN_TELEGRAM_ID,
        username: 'demo_admin',
      });
      demo.adminUserId = String(admin.user_id);
      save();
    }
    const adminToken = await signIn(pool, secrets, demo.adminUserId, 'admin');
    demo.buyer ??= await makeBuyer(api, adminToken);
    save();

    const { user } = await findOrCreateUser(pool, {
      telegramId: PROVIDER_TELEGRAM_ID,
      username: 'demo_provider',
      isVerified: true,
    });
    const providerToken = await signIn(pool, secrets, user.id, 'user');
    demo.provider ??= await makeDevice(api, user.id, providerToken);
    save();
    return {
      buyer: demo.buyer,
      admin: { token: adminToken },
      provider: { user_id: user.id, access_token: providerToken, device_id: demo.provider.deviceId },
      deviceKey: demo.provider.deviceKey,
    };
  } finally {
    await pool.end();
  }
}

async function signIn(
  pool: Queryable,
  secrets: Secrets,
  userId: string,
  role: 'user' | 'admin',
): Promise<string> {
  const loginId = await insertLogin(pool, { userId, ip: '127.0.0.1', userAgent: 'standalone' });
  return issueAccessToken(secrets.jwtSecret, { userId, role, loginId, ttlS: TOKEN_TTL_S });
}

async function makeBuyer(api: Api, adminToken: string): Promise<Demo['buyer']> {
  const buyer = await api.post('/api/admin/buyers', adminToken, {
    name: 'Demo buyer',
    contact: 'demo@example.org',
    account: 'demo',
    kyc_status: 'approved',
  });
  const id = String(buyer.id);
  const token = await api.post(`/api/admin/buyers/${id}/tokens`, adminToken, { description: 'demo' });
  await api.post('/api/buyer/accept_policy', String(token.token), {});
  await api.post(
    '/api/admin/credits',
    adminToken,
    { buyer_id: id, amount: BUYER_CREDIT, reason: 'demo credit' },
    { 'idempotency-key': `demo-credit-${id}` },
  );
  const { username, password } = buyer.proxy as { username: string; password: string };
  return { id, username, password, token: String(token.token) };
}

async function makeDevice(
  api: Api,
  userId: string,
  token: string,
): Promise<{ userId: string; deviceId: string; deviceKey: string }> {
  const version = await api.get('/api/system/version');
  await api.post('/api/user/consent', token, { terms_version: version.terms_version });
  const device = await api.post('/api/user/device/register', token, {
    device_id: `demo-${randomUUID()}`,
    os: process.platform,
    client_version: version.app_latest,
  });
  return { userId, deviceId: String(device.device_id), deviceKey: String(device.device_key) };
}

type Answer = Record<string, unknown>;

class Api {
  constructor(readonly url: string) {}

  get(path: string): Promise<Answer> {
    return this.#call(path, { method: 'GET' });
  }

  post(
    path: string,
    token: string | null,
    body: object,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.#call(path, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      body: JSON.stringify(body),
    });
  }

  async #call(path: string, request: RequestInit): Promise<Answer> {
    const response = await fetch(this.url + path, request);
    const answer = (await response.json()) as Answer;
    if (!response.ok)
      throw new Error(`${path} answered ${response.status} ${String(answer.code)}: ${String(answer.detail)}`);
    return answer;
  }
}
