/** Calls of admins, and of other servers: see `rows.ts`. */
import { randomUUID } from 'node:crypto';
import { NEWS } from '../../helpers/cast.js';
import { newTelegramId } from '../../helpers/control-plane.js';
import { body, on, type Row, row } from './row.js';

const TERMS = { title: 'Terms', body: 'What sharing means.' };

export const ADMIN_ROWS: readonly Row[] = [
  // Admin: people and money
  row('GET /api/admin/devices', 'admin', () => ({ query: { country: 'DE', sort: 'created_at' } })),
  row('GET /api/admin/devices/countries', 'admin'),
  row('GET /api/admin/export/users', 'admin', () => ({ query: { sort: 'username' } })),
  row('GET /api/admin/export/devices', 'admin', () => ({ query: { country: 'DE' } })),
  row('GET /api/admin/export/buyers', 'admin', () => ({ query: { status: 'active' } })),
  row('GET /api/admin/export/packages', 'admin', () => ({ query: { status: 'available' } })),
  row('GET /api/admin/export/sessions', 'admin', () => ({ query: { status: 'active' } })),
  row('GET /api/admin/export/payments', 'admin', () => ({ query: { kind: 'payout' } })),
  row('GET /api/admin/users', 'admin', () => ({ query: { query: 'ann', status: 'active', country: 'DE' } })),
  row(
    'POST /api/admin/users',
    'admin',
    body(() => ({ telegram_id: newTelegramId(), username: 'made' })),
  ),
  row(
    'GET /api/admin/users/{id}',
    'admin',
    on('id', (c) => c.userId()),
  ),
  row(
    'PATCH /api/admin/users/{id}',
    'admin',
    on(
      'id',
      (c) => c.userId(),
      () => ({ phone: '+4930123456' }),
    ),
  ),
  row(
    'DELETE /api/admin/users/{id}',
    'admin',
    on('id', async (c) => (await c.stranger()).userId),
  ),
  row(
    'POST /api/admin/user/{id}/ban',
    'admin',
    on(
      'id',
      (c) => c.userId(),
      () => ({ reason: 'abuse' }),
    ),
  ),
  row(
    'POST /api/admin/user/{id}/unban',
    'admin',
    on('id', async (c) => {
      const id = await c.userId();
      await c.world.pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [id]);
      return id;
    }),
  ),
  row(
    'POST /api/admin/credits',
    'admin',
    body(async (c) => ({
      user_id: await c.userId(),
      amount: '1.5',
      reason: 'a test',
    })),
  ),
  row(
    'POST /api/admin/sessions/{id}/refund',
    'admin',
    on(
      'id',
      (c) => c.chargedSessionId(),
      () => ({
        reason: 'a test',
        amount: '0.5',
      }),
    ),
  ),
  row('GET /api/admin/payments', 'admin', () => ({ query: { kind: 'payout', status: 'pending' } })),
  row('GET /api/admin/payments/daily', 'admin', () => ({ query: { days: 3 } })),
  row(
    'POST /api/admin/payments/{id}/approve',
    'admin',
    on('id', (c) => c.payoutId()),
  ),
  row(
    'POST /api/admin/payments/{id}/reject',
    'admin',
    on(
      'id',
      (c) => c.payoutId(),
      () => ({ reason: 'a test' }),
    ),
  ),
  row(
    'POST /api/admin/daily_price',
    'admin',
    body(() => ({ price_per_gb: '0.5', day: '2030-01-01' })),
  ),
  row('GET /api/admin/settings', 'admin'),
  row(
    'PATCH /api/admin/settings',
    'admin',
    body(() => ({ sub_users_max: 100 })),
  ),

  // Admin: words to people
  row(
    'POST /api/admin/notify',
    'admin',
    body(() => ({ target: 'all', message: 'Hello' })),
  ),
  row(
    'POST /api/admin/broadcasts',
    'admin',
    body(() => ({ target: 'region:DE', message: 'Hello' })),
  ),
  row('GET /api/admin/broadcasts', 'admin'),
  row(
    'GET /api/admin/broadcasts/{id}',
    'admin',
    on('id', (c) => c.broadcastId()),
  ),
  row(
    'GET /api/admin/broadcasts/{id}/recipients',
    'admin',
    on('id', (c) => c.broadcastId()),
  ),
  row(
    'POST /api/admin/broadcasts/{id}/start',
    'admin',
    on('id', (c) => c.broadcastId()),
  ),
  row(
    'POST /api/admin/broadcasts/{id}/cancel',
    'admin',
    on('id', (c) => c.broadcastId()),
  ),
  row('POST /api/admin/broadcasts/{id}/unknown', 'admin', async (c) => ({
    path: { id: await c.broadcastId() },
    body: { decision: 'leave' },
  })),
  row('GET /api/admin/news', 'admin'),
  row(
    'POST /api/admin/news',
    'admin',
    body(() => NEWS),
  ),
  row(
    'GET /api/admin/news/{id}',
    'admin',
    on('id', (c) => c.newsId()),
  ),
  row(
    'PATCH /api/admin/news/{id}',
    'admin',
    on(
      'id',
      (c) => c.newsId(),
      () => ({ expires_at: null }),
    ),
  ),
  row(
    'DELETE /api/admin/news/{id}',
    'admin',
    on('id', (c) => c.newsId()),
  ),
  row('GET /api/admin/promo_codes', 'admin'),
  row(
    'POST /api/admin/promo_codes',
    'admin',
    body(() => ({
      code: `WALK-${randomUUID().slice(0, 8)}`,
      bonus: '1',
      uses_max: 10,
    })),
  ),
  row(
    'GET /api/admin/promo_codes/{id}',
    'admin',
    on('id', async (c) => (await c.promo()).id),
  ),
  row(
    'PATCH /api/admin/promo_codes/{id}',
    'admin',
    on(
      'id',
      async (c) => (await c.promo()).id,
      () => ({
        uses_max: 7,
      }),
    ),
  ),
  row(
    'DELETE /api/admin/promo_codes/{id}',
    'admin',
    on('id', async (c) => (await c.promo()).id),
  ),
  row('GET /api/admin/support', 'admin', async (c) => ({
    query: { user_id: await c.userId(), status: 'open' },
  })),
  row(
    'GET /api/admin/support/{id}',
    'admin',
    on('id', (c) => c.threadId()),
  ),
  row(
    'POST /api/admin/support/{id}/reply',
    'admin',
    on(
      'id',
      (c) => c.threadId(),
      () => ({ message: 'Yes' }),
    ),
  ),

  // Admin: operating
  row('GET /api/admin/dashboard/summary', 'admin'),
  row('GET /api/admin/stats', 'admin', () => ({ query: { days: 7 } })),
  ...['users', 'traffic', 'revenue', 'payouts', 'buyers', 'countries'].map((chart) =>
    row(`GET /api/admin/charts/${chart}-daily`, 'admin', () => ({ query: { days: 7 } })),
  ),
  row('GET /api/admin/reports/daily', 'admin', () => ({ query: { day: '2026-11-01', format: 'json' } })),
  row('GET /api/admin/metrics', 'admin'),
  row('GET /api/system/requests', 'admin'),
  row('GET /api/system/logs', 'admin', () => ({ query: { level: 'info', q: 'x', limit: 5 } })),
  row('GET /api/system/stats', 'admin'),
  row('GET /api/admin/gateways', 'admin'),
  row(
    'POST /api/admin/gateways/{id}/drain',
    'admin',
    on('id', (c) => c.gatewayId()),
  ),
  row(
    'POST /api/admin/gateways/{gateway_id}/write_off',
    'admin',
    on(
      'gateway_id',
      () => 'gone',
      () => ({
        run: 'a'.repeat(24),
        reason: 'a test',
      }),
    ),
  ),
  row('GET /api/admin/wallets', 'admin', async (c) => ({ query: { buyer_id: await c.buyerId() } })),
  row('GET /api/admin/meters', 'admin', () => ({ query: { open: true } })),
  row(
    'POST /api/admin/payments/{id}/refund',
    'admin',
    on(
      'id',
      (c) => c.payoutId(),
      () => ({ reason: 'paid by mistake' }),
    ),
  ),
  row(
    'PUT /api/admin/terms/{version}',
    'admin',
    on(
      'version',
      () => `terms ${randomUUID()}`.slice(0, 40),
      () => ({ texts: { en: TERMS, ru: TERMS, uz: TERMS } }),
    ),
  ),
  row('GET /api/admin/policy/destinations', 'admin'),
  row(
    'PUT /api/admin/policy/destinations',
    'admin',
    body(async (c) => ({
      denied_domains: ['example.net'],
      denied_ips: ['198.51.100.0/24'],
      version: await c.policyVersion('destinations'),
    })),
  ),
  row('GET /api/admin/policy/ports', 'admin'),
  row(
    'PUT /api/admin/policy/ports',
    'admin',
    body(async (c) => ({
      open_tcp: [80, 443],
      open_udp: [53],
      never_allowed: [8081],
      version: await c.policyVersion('ports'),
    })),
  ),
  row('GET /api/admin/policy/origins', 'admin'),
  row(
    'PUT /api/admin/policy/origins',
    'admin',
    body(async (c) => ({
      asn_rules: [{ match: 'AS64500', name: 'Example Hosting' }, { match: 'org *vpn*' }],
      denied_ips: ['198.51.100.0/24'],
      allowed_asns: [64_501],
      version: await c.policyVersion('origins'),
    })),
  ),
  row(
    'POST /api/admin/kill',
    'admin',
    body(async (c) => ({
      scope: 'provider',
      id: await c.userId(),
      reason: 'a test',
    })),
  ),
  row('GET /api/admin/reconciliation', 'admin', () => ({ query: { flagged: true } })),
  row(
    'GET /api/admin/sessions/{id}/reconciliation',
    'admin',
    on('id', (c) => c.sessionId()),
  ),
  row('GET /api/admin/destinations', 'admin', () => ({ query: { host: 'example.org' } })),
  row('GET /api/admin/audit/search', 'admin', () => ({ query: { action: 'login', object_type: 'user' } })),
  row('GET /api/admin/jobs', 'admin'),
  row(
    'GET /api/admin/jobs/{name}/runs',
    'admin',
    on('name', () => 'cleanup'),
  ),
  row(
    'POST /api/admin/jobs/{name}/run',
    'admin',
    on('name', () => 'cleanup'),
  ),
  row('POST /api/admin/backup/db', 'admin'),
  row('GET /api/admin/backup/db', 'admin'),
  row(
    'POST /api/webhook/ipintel',
    'internal',
    body(() => ({
      source: 'ipintel',
      updates: [{ network: '203.0.113.0/24', verdict: 'vpn' }],
    })),
  ),
];
