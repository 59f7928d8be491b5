import { createHash, randomUUID } from 'node:crypto';
import t from 'tap';
import { readBalances } from '../../../control-plane/ledger/ledger.js';
import { readCommands, readLastCommandId } from '../../../gateway/live/commands.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { readAccount } from '../../../gateway/live/store.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { assertLedger } from '../../helpers/ledger.js';
import { addSession, addUser, TestMeter } from '../../helpers/money-world.js';
import { stopwatch } from '../../helpers/stopwatch.js';

const sha256Hex = (text: string) => createHash('sha256').update(text).digest('hex');

t.test('buyers', async (t) => {
  const world = await startWorld(t);
  const { pool, redis, call } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body?: unknown, headers = {}) =>
    call(method, path, { token: admin.token, headers, ...(body === undefined ? {} : { body }) });

  const created = await asAdmin('POST', '/api/admin/buyers', {
    name: 'Acme',
    contact: 'ops@acme.example',
    region: 'EU',
    price_per_gb: '3.5',
    limits: { streams_max: 7, extra_ports: [8080] },
    kyc_status: 'approved',
  });
  t.equal(created.status, 201);
  const buyer = created.body;
  const credentials = async () =>
    (await readAccount(redis, buyer.account))?.credentials.map((c) => c.sha256Hex);

  await t.test('a new buyer is known to the gateways, by a password that is stored nowhere', async (t) => {
    t.match(buyer.account, /^[a-z0-9]{4,32}$/);
    t.match(buyer.proxy.password, /^[0-9A-Za-z]{24}$/);
    t.equal(buyer.price_per_gb, '3.500000');
    t.match(await readAccount(redis, buyer.account), {
      buyerId: buyer.id,
      status: 'active',
      kycStatus: 'approved',
      aupAccepted: false,
      priceMicrosPerGb: '3500000',
      limits: { streamsMax: 7, connectionsPerSecondMax: 500, extraPorts: [8080], grantedPorts: [] },
    });
    t.same(await credentials(), [sha256Hex(buyer.proxy.password)]);
    t.match(await asAdmin('POST', '/api/admin/buyers', { name: 'X', account: buyer.account }), {
      status: 409,
      body: { code: 'account_taken' },
    });
    t.match(await asAdmin('POST', '/api/admin/buyers', { name: 'X', price_per_gb: '1000.000001' }), {
      status: 400,
      body: { errors: [{ path: '/body/price_per_gb' }] },
    });
    const other = (await asAdmin('POST', '/api/admin/buyers', { name: 'Default price' })).body;
    t.equal((await readAccount(redis, other.account))?.priceMicrosPerGb, '2000000');
    const list = await asAdmin('GET', '/api/admin/buyers?query=acme&kyc_status=approved');
    t.same(
      list.body.items.map((b: { id: string }) => b.id),
      [buyer.id],
    );
    const first = await asAdmin('GET', '/api/admin/buyers?limit=1');
    const second = await asAdmin('GET', `/api/admin/buyers?limit=1&cursor=${first.body.next_cursor}`);
    t.same([first.body.items[0].id, second.body.items[0].id], [other.id, buyer.id]);
    t.equal(second.body.next_cursor, null);
  });

  await t.test(
    'limits: in one spelling, known to the gateways, audited; what could never match is refused',
    async (t) => {
      const { body: other } = await asAdmin('POST', '/api/admin/buyers', { name: 'Limited' });
      const patch = (limits: object) => asAdmin('PATCH', `/api/admin/buyers/${other.id}`, { limits });
      const limits = {
        bandwidth_bytes_per_second_max: 1_000_000,
        extra_ports: [8443],
        ports: [443, 8443],
        allowed_domains: ['Example.COM.', '*.example.org'],
        denied_domains: ['198.51.100.0/24'],
        allowed_ips: ['192.0.2.0/24', '2001:db8::/32'],
      };
      const stored = { ...limits, allowed_domains: ['example.com', '.example.org'] };
      t.match(await patch(limits), { status: 200, body: { limits: stored } });
      t.match((await readAccount(redis, other.account))?.limits, {
        streamsMax: 2_000,
        bandwidthBytesPerSecondMax: 1_000_000,
        ports: [443, 8443],
        allowedDomains: ['example.com', '.example.org'],
        deniedDomains: ['198.51.100.0/24'],
        allowedIps: ['192.0.2.0/24', '2001:db8::/32'],
      });
      const { rows } = await pool.query(
        'SELECT after FROM audit_log WHERE object_id = $1 ORDER BY id DESC LIMIT 1',
        [other.id],
      );
      t.same(rows[0].after, { limits: stored });
      for (const [bad, path] of [
        [{ ports: [443, 22] }, '/body/limits/ports/1'],
        [{ allowed_domains: ['a..b'] }, '/body/limits/allowed_domains/0'],
        [{ allowed_ips: ['192.0.2.1', '192.0.2.0/40'] }, '/body/limits/allowed_ips/1'],
        [{ bandwidth_bytes_per_second_max: 1 }, '/body/limits/bandwidth_bytes_per_second_max'],
      ] as const)
        t.match(await patch(bad), { status: 400, body: { errors: [{ path }] } }, path);
    },
  );

  await t.test('tokens: shown once, limited, revoked and rotated with effect on the gateways', async (t) => {
    const make = async (body: object) =>
      (await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, body)).body;
    const token = await make({ description: 'main' });
    t.match(token.token, /^tsb[0-9A-Za-z]{40}$/);
    t.equal((await call('GET', '/api/buyer/me', { token: token.token })).status, 200);
    t.ok((await credentials())?.includes(sha256Hex(token.token)));

    const proxyOnly = await make({ scopes: ['proxy'] });
    t.equal((await call('GET', '/api/buyer/me', { token: proxyOnly.token })).status, 401);
    const bound = await make({ allowed_ips: ['198.51.100.0/24'], scopes: ['api'] });
    t.equal((await call('GET', '/api/buyer/me', { token: bound.token, from: '198.51.100.9' })).status, 200);
    t.match(await call('GET', '/api/buyer/me', { token: bound.token, from: '198.51.101.9' }), {
      status: 403,
      body: { code: 'ip_not_allowed' },
    });
    t.notOk((await credentials())?.includes(sha256Hex(bound.token)), 'no scope proxy, no proxy');
    t.match(await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, { allowed_ips: ['1.2.3.4/33'] }), {
      status: 400,
      body: { code: 'validation_failed' },
    });
    t.equal((await call('GET', '/api/buyer/me', { token: `tsb${'x'.repeat(40)}` })).status, 401);

    const rotated = await asAdmin('POST', '/api/admin/rotate_buyer_token', {
      token_id: token.id,
      grace_seconds: 60,
    });
    t.equal(
      (await call('GET', '/api/buyer/me', { token: token.token })).status,
      200,
      'both, for the grace time',
    );
    t.equal((await call('GET', '/api/buyer/me', { token: rotated.body.token })).status, 200);
    t.ok(
      (await readAccount(redis, buyer.account))?.credentials.find((c) => c.tokenId === token.id)?.expiresAtMs,
    );

    const from = await readLastCommandId(redis);
    const tookMs = stopwatch();
    t.equal((await asAdmin('POST', `/api/admin/tokens/${token.id}/revoke`)).status, 200);
    t.ok(tookMs() < 1_000, 'within a second');
    t.equal((await call('GET', '/api/buyer/me', { token: token.token })).status, 401);
    t.notOk((await credentials())?.includes(sha256Hex(token.token)));
    const commands = (await readCommands(redis, from, 10, 0)).map((c) => c.command);
    t.same(commands, [{ kind: 'account_changed', account: buyer.account }]);
    t.equal((await asAdmin('POST', `/api/admin/tokens/${token.id}/revoke`)).status, 200, 'again is harmless');
    t.equal((await asAdmin('POST', `/api/admin/tokens/${randomUUID()}/revoke`)).status, 404);
    t.match(await asAdmin('POST', '/api/admin/rotate_buyer_token', { token_id: token.id }), {
      status: 409,
      body: { code: 'token_revoked' },
    });
    const list = await asAdmin('GET', `/api/admin/buyers/${buyer.id}/tokens`);
    t.equal(list.body.items.length, 5);
    const text = JSON.stringify(list.body);
    for (const secret of [token.token, rotated.body.token, buyer.proxy.password])
      t.notOk(text.includes(secret));
    const { rows } = await pool.query('SELECT last_used_at FROM buyer_tokens WHERE id = $1', [
      rotated.body.id,
    ]);
    t.ok(rows[0].last_used_at);
  });

  await t.test('UDP is off until an admin grants it, audited, and on the gateways at once', async (t) => {
    const udp = async () => (await readAccount(redis, buyer.account))?.limits.udp;
    t.equal(await udp(), false);
    const patch = (limits: object) => asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { limits });
    t.match(await patch({ ...buyer.limits, udp: 'yes' }), {
      status: 400,
      body: { code: 'validation_failed' },
    });
    const { body: own } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
    for (const path of [`/api/admin/buyers/${buyer.id}`, '/api/buyer/me'])
      t.ok(
        (await call('PATCH', path, { token: own.token, body: { limits: { udp: true } } })).status >= 403,
        `not by the buyer: ${path}`,
      );
    t.equal(await udp(), false);

    const from = await readLastCommandId(redis);
    t.match(await patch({ ...buyer.limits, udp: true }), { status: 200, body: { limits: { udp: true } } });
    t.equal(await udp(), true);
    const commands = (await readCommands(redis, from, 10, 0)).map((c) => c.command);
    t.same(commands, [{ kind: 'account_changed', account: buyer.account }]);
    const { rows } = await pool.query(
      `SELECT actor_role, before, after FROM audit_log
        WHERE action = 'buyer_changed' AND object_id = $1 ORDER BY id DESC LIMIT 1`,
      [buyer.id],
    );
    t.match(rows[0], { actor_role: 'admin', after: { limits: { udp: true } } });
    t.equal(rows[0].before.limits.udp, undefined);
    await patch(buyer.limits);
    t.equal(await udp(), false, 'withdrawn');
  });

  await t.test('credits are booked once for a key, and reach the gateways', async (t) => {
    const credit = (body: object, key?: string) =>
      asAdmin('POST', '/api/admin/credits', body, key === undefined ? {} : { 'idempotency-key': key });
    const body = { buyer_id: buyer.id, amount: '12.345678', reason: 'bank transfer 17' };
    const first = await credit(body, 'key-1');
    t.equal(first.status, 201);
    t.equal(first.body.balance, '12.345678');
    t.same((await credit(body, 'key-1')).body, first.body);
    t.match(await credit({ ...body, amount: '1' }, 'key-1'), { status: 409 });
    await pool.query('DELETE FROM idempotency_keys');
    t.same((await credit(body, 'key-1')).body, first.body, 'the ledger itself knows the key');
    t.match(await credit({ ...body, amount: '1' }, 'key-2'), { status: 201, body: { balance: '13.345678' } });
    for (const amount of ['0', '1e3', '0.0000001', '99999999'])
      t.equal((await credit({ ...body, amount })).status, 400);
    t.equal((await credit({ amount: '1', reason: 'nobody' })).status, 400);
    t.equal((await credit({ ...body, buyer_id: randomUUID() })).status, 404);
    const userId = await addUser(pool);
    t.match(await credit({ user_id: userId, amount: '-1', reason: 'clawback' }), {
      status: 422,
      body: { code: 'below_zero' },
    });
    t.match(await credit({ user_id: userId, amount: '-1', reason: 'clawback', allow_below_zero: true }), {
      status: 201,
      body: { balance: '-1.000000' },
    });
    const { rows } = await pool.query(
      "SELECT count(*)::int AS n FROM audit_log WHERE action = 'balance_adjusted'",
    );
    t.equal(rows[0].n, 3);
    await assertLedger(t, pool);
  });

  await t.test('what is held for traffic is told beside what is free', async (t) => {
    const { body: fresh } = await asAdmin('POST', '/api/admin/buyers', { name: 'Held' });
    t.match(fresh, { balance: '0.000000', held: '0.000000', available: '0.000000' });
    await asAdmin('POST', '/api/admin/credits', { buyer_id: fresh.id, amount: '5', reason: 'test' });
    const { body: made } = await asAdmin('POST', `/api/admin/buyers/${fresh.id}/tokens`, {});
    const hold = (gatewayId: string, granted: number, renounced: number, spent: number, closed = false) =>
      pool.query(
        `INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted, renounced, spent, closed_at)
         VALUES ('buyer', $1, $2, repeat('a', 24), $3, $4, $5, CASE WHEN $6 THEN now() END)`,
        [fresh.id, gatewayId, granted, renounced, spent, closed],
      );
    await hold('gw-1', 3_000_000, 500_000, 1_000_000);
    await hold('gw-2', 250_000, 0, 0);
    await hold('gw-3', 900_000, 0, 0, true);
    const expected = { balance: '5.000000', held: '1.750000', available: '3.250000' };
    t.match((await asAdmin('GET', `/api/admin/buyers/${fresh.id}`)).body, expected);
    t.match((await call('GET', '/api/buyer/me/balance', { token: made.token })).body, expected);
    t.match((await call('GET', '/api/buyer/me', { token: made.token })).body, expected);
    const listed = (await asAdmin('GET', '/api/admin/buyers?query=held')).body.items;
    t.match(listed, [expected]);
  });

  await t.test('usage and balances are what the meters say, to the byte and micro-dollar', async (t) => {
    const provider = await signedIn(world);
    const { body: made } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
    const [german, french] = [
      await addSession(pool, provider.userId),
      await addSession(pool, provider.userId, { country: 'FR' }),
    ];
    const prices = { provider: '500000', buyer: '3500000' };
    const meters = [german, german, french].map(
      (s) => new TestMeter('gw-u', s.sessionId, buyer.id, randomUUID(), prices),
    );
    const before = (await readBalances(pool, 'buyer_prepaid', [buyer.id])).get(buyer.id)?.balanceMicros ?? 0n;
    const counts = [
      [1_000_001, 999_999_999],
      [7, 12_345_678],
      [0, 1_999_999_999],
    ] as const;
    for (const [i, [up, down]] of counts.entries()) meters[i]?.count(up, down);
    await reportMeters(
      redis,
      'gw-u',
      meters.map((m) => m.report()),
    );
    await world.services.settlement.settleNow();
    const charged = [3_503_500n, 43_209n, 6_999_999n]; // floor of each
    const sum = charged.reduce((a, b) => a + b);
    const usage = (await call('GET', '/api/buyer/me/usage', { token: made.token })).body;
    t.match(usage.total, {
      bytes_up: 1_000_008,
      bytes_down: 3_012_345_676,
      bytes: 3_013_345_684,
      charged: `10.${String(sum).slice(2)}`,
    });
    t.same(usage.lifetime, usage.total);
    t.equal(usage.by_day.length, 1);
    t.match(
      usage.by_country.map((c: { country: string; bytes: number }) => [c.country, c.bytes]),
      [
        ['DE', 1_013_345_685],
        ['FR', 1_999_999_999],
      ],
    );
    const after = (await readBalances(pool, 'buyer_prepaid', [buyer.id])).get(buyer.id)?.balanceMicros;
    t.equal(after, before - sum);
    const used = async () => {
      const own = (await call('GET', '/api/buyer/me', { token: made.token })).body.stats;
      const row = (await asAdmin('GET', `/api/admin/buyers/${buyer.id}`)).body.stats;
      t.same(row, own, 'the admin sees the same');
      return [own.bytes_today, own.bytes_this_month];
    };
    t.same(await used(), [3_013_345_684, 3_013_345_684], 'without a limit');
    const limits = { streams_max: 7, extra_ports: [8080] };
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, {
      limits: { ...limits, bytes_per_day_max: 4_000_000_000 },
    });
    t.same(await used(), [3_013_345_684, 3_013_345_684], 'and with one, which begins with it');
    await pool.query('UPDATE byte_quotas SET day = day - 1 WHERE owner_id = $1', [buyer.id]);
    t.equal((await used())[0], 0, 'a day that is over');
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { limits });
    const balance = (await call('GET', '/api/buyer/me/balance', { token: made.token })).body;
    t.same(balance, {
      balance: '2.798970',
      held: '0.000000',
      available: '2.798970',
      currency: 'USD',
      price_per_gb: '3.500000',
    });
    const none = await call('GET', '/api/buyer/me/usage?from=2020-01-01&to=2020-01-31', {
      token: made.token,
    });
    t.match(none.body, { total: { bytes: 0, charged: '0.000000' }, by_day: [], lifetime: usage.lifetime });
    const seen = (await asAdmin('GET', `/api/admin/buyers/${buyer.id}/usage`)).body;
    t.match(seen, { assigned: 3, active: 3, completed: 0, total: usage.total });
    const allocations = await call('GET', '/api/buyer/me/allocations?limit=2', { token: made.token });
    t.equal(allocations.body.items.length, 2);
    t.ok(allocations.body.next_cursor);

    const earned = (await call('GET', '/api/balance', { token: provider.token })).body;
    // 500.500 + 6.172 + 999.999 thousandths, each rounded down
    t.same(earned, {
      available: '1.506671',
      pending: '0.000000',
      currency: 'USD',
      lifetime: '1.506671',
      withdrawn: '0.000000',
    });
    t.same((await call('POST', '/api/user/refresh_balance', { token: provider.token })).body, earned);
    const byTelegram = `/api/user/balance/${provider.telegramId}`;
    t.same((await call('GET', byTelegram, { token: provider.token })).body, earned);
    const stranger = await signedIn(world);
    t.equal((await call('GET', byTelegram, { token: stranger.token })).status, 403);
    const page = await call('GET', '/api/balance/entries?limit=3', { token: provider.token });
    const rest = await call('GET', `/api/balance/entries?limit=3&cursor=${page.body.next_cursor}`, {
      token: provider.token,
    });
    const kinds = [...page.body.items, ...rest.body.items].map((e: { kind: string }) => e.kind).sort();
    t.same(kinds, ['hold_release', 'hold_release', 'traffic_earning', 'traffic_earning', 'traffic_earning']);
  });
});
