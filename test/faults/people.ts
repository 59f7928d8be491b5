import { randomUUID } from 'node:crypto';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createPool } from '../../control-plane/db/pool.js';
import { registerDevice } from '../../control-plane/devices/registration.js';
import { findOrCreateUser } from '../../control-plane/users/users.js';

export interface TestBuyer {
  id: string;
  username: string;
  password: string;
  token: string;
}

export interface TestDevice {
  userId: string;
  /** Access token of its owner, good for a day. */
  ownerToken: string;
  deviceId: string;
  deviceKey: string;
}

/** Made at the same time. */
const DEVICES_AT_ONCE = 8;

/** Calls the API as somebody; throws unless the answer is 2xx. `method`: left out, POST with a body, else GET. */
export async function callApi(
  apiUrl: string,
  path: string,
  token: string | null,
  body?: object,
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE' = body ? 'POST' : 'GET',
): Promise<Record<string, unknown>> {
  const response = await fetch(apiUrl + path, {
    method,
    headers: {
      ...(body ? { 'content-type': 'application/json' } : {}),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} answered ${response.status} ${text}`);
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}

/** Makes an admin, buyers with credit and providers with one device each, through the API as people would. */
export async function makePeople(options: {
  apiUrl: string;
  databaseUrl: string;
  jwtSecret: string;
  bootstrapSecret: string;
  /** One buyer for each; null: no money. */
  creditsUsd: ReadonlyArray<string | null>;
  devices: number;
}): Promise<{ adminToken: string; buyers: TestBuyer[]; devices: TestDevice[] }> {
  const { apiUrl, jwtSecret } = options;
  const pool = createPool({ databaseUrl: options.databaseUrl, applicationName: 'faults', connectionsMax: 2 });
  const signIn = async (userId: string, role: 'user' | 'admin') => {
    const loginId = await insertLogin(pool, { userId, ip: '127.0.0.1', userAgent: 'faults' });
    return issueAccessToken(jwtSecret, { userId, role, loginId, ttlS: 86_400 });
  };
  try {
    const admin = await callApi(apiUrl, '/api/admin/create_superadmin', null, {
      secret: options.bootstrapSecret,
      telegram_id: 1,
      username: 'admin',
    });
    const adminToken = await signIn(String(admin.user_id), 'admin');
    const buyers: TestBuyer[] = [];
    for (const [n, amount] of options.creditsUsd.entries()) {
      const buyer = await callApi(apiUrl, '/api/admin/buyers', adminToken, {
        name: `Buyer ${n}`,
        contact: 'buyer@example.org',
        account: `buyer${n}`,
        kyc_status: 'approved',
        limits: { streams_max: 10_000, connections_per_second_max: 10_000 },
      });
      const id = String(buyer.id);
      const { token } = await callApi(apiUrl, `/api/admin/buyers/${id}/tokens`, adminToken, {
        description: 'test',
      });
      await callApi(apiUrl, '/api/buyer/accept_policy', String(token), {});
      if (amount !== null)
        await callApi(apiUrl, '/api/admin/credits', adminToken, {
          buyer_id: id,
          amount,
          reason: 'test credit',
        });
      buyers.push({ id, token: String(token), ...(buyer.proxy as { username: string; password: string }) });
    }
    const version = await callApi(apiUrl, '/api/system/version', null);
    const makeDevice = async (n: number): Promise<TestDevice> => {
      const { user } = await findOrCreateUser(pool, {
        telegramId: 100 + n,
        username: `provider${n}`,
        isVerified: true,
      });
      const token = await signIn(user.id, 'user');
      await callApi(apiUrl, '/api/user/consent', token, { terms_version: version.terms_version });
      const deviceId = `device-${randomUUID()}`;
      // Past the API, which lets one address register 60 a minute
      const device = await registerDevice(
        pool,
        {
          ...{ userId: user.id, deviceId, os: 'linux', model: null },
          ...{ clientVersion: String(version.app_latest), claimedIp: null },
        },
        1,
      );
      if (!device.ok) throw new Error(`device not registered: ${device.code}`);
      return {
        userId: user.id,
        ownerToken: token,
        deviceId,
        deviceKey: device.deviceKey,
      };
    };
    const devices: TestDevice[] = [];
    while (devices.length < options.devices) {
      const count = Math.min(DEVICES_AT_ONCE, options.devices - devices.length);
      const first = devices.length + 1;
      devices.push(...(await Promise.all(Array.from({ length: count }, (_, n) => makeDevice(first + n)))));
    }
    return { adminToken, buyers, devices };
  } finally {
    await pool.end();
  }
}
