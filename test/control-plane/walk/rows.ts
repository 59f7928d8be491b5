/**
 * API.md's calls as data: one line a call, who may make it, a good example of it, and whose thing it names. A call that
 * is in OpenAPI and not here, or the other way round, fails the walk.
 */
import { randomUUID } from 'node:crypto';
import { WEBHOOK_SECRET } from '../../helpers/bot-world.js';
import { newAddress, widgetData, withdrawal } from '../../helpers/cast.js';
import { initData, newTelegramId, TEST_ENV } from '../../helpers/control-plane.js';
import { body, ofUser, on, type Row, row } from './row.js';
import { ABUSE_ROWS } from './rows-abuse.js';
import { ADMIN_ROWS } from './rows-admin.js';

const mine = { owner: 'user' } as const;
const buyers = { owner: 'buyer' } as const;
const fresh = () => newTelegramId();
const one = { session_id: '', bytes_tx: 10, bytes_rx: 20, interval_seconds: 5 };
const nobody = randomUUID();

export const ROWS: readonly Row[] = [
  ...ADMIN_ROWS,
  ...ABUSE_ROWS,
  // Auth
  row(
    'POST /api/auth/register',
    'none',
    body(() => ({ telegram_id: fresh(), phone: '+998901234567' })),
  ),
  row(
    'POST /api/auth/request_login_code',
    'none',
    body(async (c) => ({ telegram_id: await c.telegramId() })),
  ),
  row(
    'POST /api/auth/verify_code',
    'none',
    body(async (c) => ({ telegram_id: await c.telegramId(), code: await c.loginCode() })),
    {
      wrong: [body(async (c) => ({ telegram_id: await c.telegramId(), code: await wrongCode(c) }))],
      writes: ['login_codes'],
    },
  ),
  row(
    'POST /api/auth/refresh',
    'none',
    body(async (c) => ({ refresh_token: await c.refreshToken() })),
    {
      wrong: [body(() => ({ refresh_token: 'tsr_x' }))],
    },
  ),
  row(
    'POST /api/auth/logout',
    'user admin',
    body(() => ({ all: true })),
  ),
  row(
    'POST /api/auth/telegram',
    'none',
    body(() => ({ init_data: initData({ id: fresh() }) })),
    {
      wrong: [
        body(() => ({ init_data: `${initData({ id: fresh() })}0` })),
        body(() => ({ init_data: initData({ id: fresh() }, { authDateS: 1 }) })),
        body(() => ({ ...widgetData(fresh()), hash: '0'.repeat(64) })),
      ],
    },
  ),
  row(
    'POST /api/admin/auth/login',
    'none',
    body(async (c) => widgetData((await c.admin()).telegramId)),
    {
      wrong: [body(async (c) => ({ ...widgetData((await c.admin()).telegramId), id: fresh() }))],
    },
  ),
  row('GET /api/admin/auth/me', 'admin'),
  // There is an admin: 409, whoever knows the secret.
  row(
    'POST /api/admin/create_superadmin',
    'none',
    body(() => ({ telegram_id: fresh(), secret: TEST_ENV.TS_BOOTSTRAP_SECRET })),
    {
      wrong: [
        body(() => ({ telegram_id: fresh(), secret: 'wrong' })),
        body(() => ({ telegram_id: fresh() })),
      ],
    },
  ),

  // Live figures
  row('GET /api/live', 'user buyer admin'),
  row('POST /api/live/ticket', 'user buyer admin'),

  // User
  row('GET /api/user/me', 'user'),
  row(
    'POST /api/user/update',
    'user',
    body(() => ({ language: 'ru', settings: { wifi_only: true } })),
  ),
  row('GET /api/profile', 'user'),
  row(
    'PATCH /api/profile',
    'user',
    body(() => ({ email: 'ann@example.org' })),
  ),
  row(
    'POST /api/user/consent',
    'user',
    body((c) => ({ terms_version: c.world.config.termsVersion })),
  ),
  row('GET /api/terms', 'none', () => ({ query: { language: 'uz', version: '1' } })),
  row('DELETE /api/user/consent', 'user'),
  row(
    'POST /api/user/device/register',
    'user',
    body(() => ({ device_id: randomUUID(), os: 'linux', client_version: '1.0.0', ip: '192.0.2.1' })),
  ),
  row(
    'POST /api/user/device/push_token',
    'user device',
    body(async (c) => ({ device_id: await c.deviceId(), push_token: `fcm:${randomUUID()}` })),
    mine,
  ),
  row('GET /api/user/devices', 'user device admin', ofUser),
  row(
    'DELETE /api/user/devices/{id}',
    'user admin',
    async (c, as) => ({
      path: { id: await c.deviceId() },
      ...(await ofUser(c, as)),
    }),
    mine,
  ),
  row('GET /api/user/logins', 'user'),
  row(
    'DELETE /api/user/logins/{id}',
    'user',
    on('id', (c) => c.loginId()),
    mine,
  ),
  row('GET /api/user/telegrams', 'user'),
  row('POST /api/user/telegrams/link', 'user'),
  row(
    'DELETE /api/user/telegrams/{index}',
    'user',
    on('index', (c) => c.telegramIndex()),
  ),
  row('DELETE /api/user/telegrams', 'user'),
  row('GET /api/admin/users-with-telegrams', 'admin', () => ({ query: { query: 'x', limit: 5 } })),
  row('DELETE /api/admin/users/{id}/telegrams/{index}', 'admin', async (c) => ({
    path: { index: await c.telegramIndex(), id: await c.userId() },
  })),
  row('GET /api/dashboard', 'user admin', ofUser),
  row(
    'GET /api/dashboard/{telegram_id}',
    'user admin',
    on('telegram_id', (c) => c.telegramId()),
    mine,
  ),
  row('GET /api/referrals', 'user'),
  row('GET /api/user/export', 'user'),
  row('GET /api/notifications', 'user', () => ({ query: { unread: true } })),
  row(
    'POST /api/notifications/read',
    'user',
    body(() => ({ all: true })),
  ),

  // Traffic
  row(
    'POST /api/traffic/start',
    'user device',
    async (c) => ({
      body: { device_id: await c.deviceId(), client_version: '1.0.0', network_type: 'wifi' },
      headers: { 'x-forwarded-for': newAddress() },
    }),
    mine,
  ),
  row(
    'POST /api/traffic/update',
    'user device',
    body(async (c) => ({ ...one, session_id: await c.sessionId() })),
    mine,
  ),
  row(
    'POST /api/traffic/report',
    'user device',
    body(async (c) => ({ reports: [{ ...one, session_id: await c.sessionId() }] })),
    mine,
  ),
  row(
    'POST /api/traffic/stop',
    'user device',
    body(async (c) => ({ session_id: await c.sessionId() })),
    mine,
  ),
  row(
    'GET /api/traffic/history',
    'user device admin',
    async (c, as) => ({
      query: {
        from: '2026-01-01T00:00:00Z',
        session_id: await c.sessionId(),
        ...(await ofUser(c, as)).query,
      },
    }),
    mine,
  ),
  row('GET /api/traffic/destinations', 'user device admin', ofUser),
  row('GET /api/traffic/summary', 'user device admin', ofUser),
  row('GET /api/stats/{period}', 'user device admin', async (c, as) => ({
    path: { period: 'weekly' },
    ...(await ofUser(c, as)),
  })),
  row('GET /api/sessions', 'user device admin', async (c, as) => ({
    query: { status: 'active', page: 1, ...(await ofUser(c, as)).query },
  })),
  row(
    'GET /api/sessions/{id}',
    'user device admin',
    on('id', (c) => c.sessionId()),
    mine,
  ),
  row('GET /api/daily_price', 'none', () => ({ query: { days: 7 } })),

  // Balance and payouts
  row('GET /api/balance', 'user device admin', ofUser),
  row(
    'GET /api/user/balance/{telegram_id}',
    'user admin bot',
    on('telegram_id', (c) => c.telegramId()),
    mine,
  ),
  row('POST /api/user/refresh_balance', 'user device'),
  row('GET /api/balance/entries', 'user device admin', ofUser),
  row(
    'POST /api/withdraw',
    'user',
    body(async (c) => c.credit().then(() => withdrawal('6'))),
  ),
  row(
    'POST /api/withdraw/request',
    'user',
    body(async (c) => c.credit().then(() => withdrawal('5.5'))),
  ),
  row('GET /api/withdraw/networks', 'user admin'),
  row('GET /api/withdraw', 'user admin', async (c, as) => ({
    query: { status: 'pending', ...(await ofUser(c, as)).query },
  })),
  row(
    'GET /api/withdraw/status/{payment_id}',
    'user admin',
    on('payment_id', (c) => c.payoutId()),
    mine,
  ),
  row(
    'POST /api/withdraw/{payment_id}/cancel',
    'user admin',
    on('payment_id', (c) => c.payoutId()),
    mine,
  ),
  row(
    'POST /api/payments/cryptomus/create_payout',
    'admin internal',
    body(async (c) => ({
      payment_id: await c.releasedId(),
    })),
  ),
  row(
    'POST /api/webhook/cryptomus',
    'none',
    body(async (c) => c.world.cryptomus.webhook(await c.payoutId())),
    {
      wrong: [body(() => ({ type: 'payout', order_id: nobody, sign: '0' })), body(() => ({}))],
      writes: ['audit_log', 'audit_unchained'],
    },
  ),
  row(
    'POST /api/webhook/telegram',
    'none',
    async () => ({
      headers: { 'x-telegram-bot-api-secret-token': WEBHOOK_SECRET },
      body: { update_id: newTelegramId() },
    }),
    { wrong: [() => ({ headers: { 'x-telegram-bot-api-secret-token': 'x' }, body: { update_id: 1 } })] },
  ),

  // Bot
  row(
    'POST /api/bot/send_login_code',
    'bot',
    body(async (c) => ({ telegram_id: await c.telegramId() })),
  ),
  row(
    'POST /api/bot/notify_admin',
    'bot',
    body(() => ({ message: 'The disk is full', kind: 'disk' })),
  ),
  row(
    'POST /api/bot/update_balance',
    'bot',
    body(async (c) => ({ telegram_id: await c.telegramId() })),
  ),
  row(
    'POST /api/bot/live_traffic',
    'bot',
    body(async (c) => ({ telegram_id: await c.telegramId() })),
  ),
  row(
    'POST /api/bot/confirm_link',
    'bot',
    body(async (c) => ({
      token: await c.linkToken(),
      telegram_id: fresh(),
    })),
  ),

  // Buyers and packages
  row(
    'POST /api/admin/buyers',
    'admin',
    body(() => ({ name: 'B', region: 'EU', price_per_gb: '1.5' })),
  ),
  row('GET /api/admin/buyers', 'admin', () => ({ query: { status: 'active', query: 'a' } })),
  row(
    'GET /api/admin/buyers/{id}',
    'admin',
    on('id', (c) => c.buyerId()),
  ),
  row(
    'PATCH /api/admin/buyers/{id}',
    'admin',
    on(
      'id',
      (c) => c.buyerId(),
      () => ({ kyc_status: 'rejected' }),
    ),
  ),
  row(
    'POST /api/admin/buyers/{id}/tokens',
    'admin',
    on(
      'id',
      (c) => c.buyerId(),
      () => ({ scopes: ['api'] }),
    ),
  ),
  row(
    'GET /api/admin/buyers/{id}/tokens',
    'admin',
    on('id', (c) => c.buyerId()),
  ),
  row(
    'POST /api/admin/tokens/{token_id}/revoke',
    'admin',
    on('token_id', async (c) => (await c.buyer()).tokenId),
  ),
  row(
    'POST /api/admin/rotate_buyer_token',
    'admin',
    body(async (c) => ({
      token_id: (await c.buyer()).tokenId,
      grace_seconds: 60,
    })),
  ),
  row(
    'GET /api/admin/buyers/{id}/usage',
    'admin',
    on('id', (c) => c.buyerId()),
  ),
  row(
    'POST /api/admin/packages/bulk_create',
    'admin',
    body(async (c) => [{ user_id: await c.userId(), ip: newAddress(), size_bytes: 1_000 }]),
  ),
  row('GET /api/admin/packages', 'admin', () => ({ query: { status: 'available', ip: '192.0.2.1' } })),
  row(
    'GET /api/admin/packages/{id}',
    'admin',
    on('id', (c) => c.packageId()),
  ),
  row(
    'POST /api/admin/packages/{id}/assign',
    'admin',
    on(
      'id',
      (c) => c.packageId(),
      async (c) => ({
        buyer_id: await c.buyerId(),
      }),
    ),
  ),
  row(
    'POST /api/admin/packages/{id}/revoke',
    'admin',
    on(
      'id',
      (c) => c.pulledId(),
      () => ({ reset: true }),
    ),
  ),
  row(
    'POST /api/admin/packages/cleanup_stale_allocations',
    'admin',
    body(() => ({ to: 'available' })),
  ),
  row(
    'POST /api/buyer/packets/pull',
    'buyer',
    body(async (c) => c.packageId().then(() => ({ max_count: 2 }))),
  ),
  row(
    'POST /api/buyer/packets/{uuid}/status',
    'buyer',
    on(
      'uuid',
      (c) => c.pulledId(),
      () => ({
        status: 'in_progress',
      }),
    ),
    buyers,
  ),
  row('GET /api/buyer/locations', 'buyer', () => ({ query: { region: 'DE', limit: 5 } })),
  row('GET /api/buyer/telegrams', 'buyer'),
  row('POST /api/buyer/telegrams/link', 'buyer'),
  row(
    'DELETE /api/buyer/telegrams/{telegram_id}',
    'buyer',
    on('telegram_id', (c) => c.buyerTelegramId()),
    buyers,
  ),
  row('GET /api/buyer/me', 'buyer'),
  row('GET /api/buyer/tokens', 'buyer'),
  row(
    'POST /api/buyer/proxy_passwords',
    'buyer',
    body(() => ({ description: 'crawler' })),
  ),
  row(
    'POST /api/buyer/tokens/{token_id}/revoke',
    'buyer',
    on('token_id', async (c) => (await c.buyer()).tokenId),
    buyers,
  ),
  // The password is wrong: what the proxy says is test/console's.
  row(
    'POST /api/buyer/try',
    'buyer',
    body(() => ({ username: 'acme-country-de', password: '7hQ2mZ' })),
  ),
  row('POST /api/buyer/accept_policy', 'buyer'),
  row('GET /api/buyer/me/allocations', 'buyer', () => ({ query: { status: 'allocated' } })),
  row('GET /api/buyer/me/usage', 'buyer', () => ({ query: { group_by: 'country' } })),
  row('GET /api/buyer/me/errors', 'buyer', () => ({ query: { hours: 48 } })),
  row('GET /api/buyer/me/balance', 'buyer'),
  row(
    'POST /api/buyer/sub_users',
    'buyer',
    body(() => ({ name: 'S', bytes_max: 1e9 })),
  ),
  row('GET /api/buyer/sub_users', 'buyer'),
  row(
    'GET /api/buyer/sub_users/{id}',
    'buyer',
    on('id', (c) => c.subUserId()),
    buyers,
  ),
  row(
    'PATCH /api/buyer/sub_users/{id}',
    'buyer',
    on(
      'id',
      (c) => c.subUserId(),
      () => ({ name: 'T' }),
    ),
    buyers,
  ),
  row(
    'DELETE /api/buyer/sub_users/{id}',
    'buyer',
    on('id', (c) => c.subUserId()),
    buyers,
  ),
  row(
    'POST /api/buyer/topups',
    'buyer',
    body(() => ({ amount: '25' })),
  ),
  row('GET /api/buyer/topups', 'buyer'),
  row('POST /api/buyer/trial', 'buyer'),

  // Everyone
  row('GET /api/system/health', 'none'),
  row('GET /api/system/ready', 'none'),
  row('GET /api/system/version', 'none', () => ({ query: { client_version: '1.0.0' } })),
  row('GET /api/news', 'none user', () => ({ query: { language: 'uz' } })),
  row(
    'POST /api/promo/redeem',
    'user',
    body(async (c) => ({ code: (await c.promo()).code })),
  ),
  row(
    'POST /api/support',
    'user',
    body(() => ({ message: 'Help', subject: 'Me' })),
  ),
  row('GET /api/support', 'user', () => ({ query: { status: 'open' } })),
  row(
    'GET /api/support/{id}',
    'user',
    on('id', (c) => c.threadId()),
    mine,
  ),
];

/** Six digits that are not the code. */
async function wrongCode(c: { loginCode(): Promise<string> }): Promise<string> {
  return String((Number(await c.loginCode()) + 1) % 1_000_000).padStart(6, '0');
}
