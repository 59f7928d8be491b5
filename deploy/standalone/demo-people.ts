import { randomUUID } from 'node:crypto';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createApiClient, must } from '../../control-plane/client/client.js';
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
    if (demo.adminUserId === undefined) {
      const admin = await must(
        createApiClient({ url: apiUrl }).POST('/api/admin/create_superadmin', {
          body: {
            secret: secrets.bootstrapSecret,
            telegram_id: ADMIN_TELEGRAM_ID,
            username: 'demo_admin',
          },
        }),
      );
      demo.adminUserId = admin.user_id;
      save();
    }
    const adminToken = await signIn(pool, secrets, demo.adminUserId, 'admin');
    demo.buyer ??= await makeBuyer(apiUrl, adminToken);
    save();

    const { user } = await findOrCreateUser(pool, {
      telegramId: PROVIDER_TELEGRAM_ID,
      username: 'demo_provider',
      isVerified: true,
    });
    const providerToken = await signIn(pool, secrets, user.id, 'user');
    demo.provider ??= await makeDevice(apiUrl, user.id, providerToken);
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

async function makeBuyer(url: string, adminToken: string): Promise<Demo['buyer']> {
  const admin = createApiClient({ url, token: adminToken });
  const { id, proxy } = await must(
    admin.POST('/api/admin/buyers', {
      body: { name: 'Demo buyer', contact: 'demo@example.org', account: 'demo', kyc_status: 'approved' },
    }),
  );
  const { token } = await must(
    admin.POST('/api/admin/buyers/{id}/tokens', {
      params: { path: { id } },
      body: { description: 'demo' },
    }),
  );
  if (token === null || proxy === null || proxy.username === null || proxy.password === null)
    throw new Error('secrets are shown when they are made');
  await must(createApiClient({ url, token }).POST('/api/buyer/accept_policy'));
  await must(
    admin.POST('/api/admin/credits', {
      params: { header: { 'Idempotency-Key': `demo-credit-${id}` } },
      body: { buyer_id: id, amount: BUYER_CREDIT, reason: 'demo credit' },
    }),
  );
  return { id, username: proxy.username, password: proxy.password, token };
}

async function makeDevice(
  url: string,
  userId: string,
  token: string,
): Promise<{ userId: string; deviceId: string; deviceKey: string }> {
  const provider = createApiClient({ url, token });
  const version = await must(provider.GET('/api/system/version'));
  await must(provider.POST('/api/user/consent', { body: { terms_version: version.terms_version } }));
  const device = await must(
    provider.POST('/api/user/device/register', {
      body: {
        device_id: `demo-${randomUUID()}`,
        os: process.platform,
        client_version: version.app_latest,
      },
    }),
  );
  // Null only in the replay of a request with an Idempotency-Key, which this was not.
  return { userId, deviceId: device.device_id, deviceKey: device.device_key as string };
}
