import { randomUUID } from 'node:crypto';
import t from 'tap';
import { authenticate } from '../../../gateway/buyers/authenticate.js';
import { BuyerDirectory } from '../../../gateway/buyers/directory.js';
import { readCommands, readLastCommandId } from '../../../gateway/live/commands.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { markReady, readAccount, writeAccount } from '../../../gateway/live/store.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addSession, addUser, TestMeter } from '../../helpers/money-world.js';
import { stopwatch } from '../../helpers/stopwatch.js';

t.test('sub-users', async (t) => {
  const world = await startWorld(t, {
    env: { TS_API_REQUESTS_PER_MINUTE: '100000', TS_SUB_USERS_MAX: '5' },
  });
  const { pool, redis, call } = world;
  await markReady(redis);
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body?: unknown) =>
    call(method, path, { token: admin.token, ...(body === undefined ? {} : { body }) });
  const newBuyer = async () => {
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', {
      name: 'B',
      kyc_status: 'approved',
      price_per_gb: '3',
      limits: { streams_max: 9, passwordless_ips: ['192.0.2.1'] },
    });
    const { body: made } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
    await asAdmin('POST', '/api/admin/credits', { buyer_id: buyer.id, amount: '10', reason: 'test' });
    await call('POST', '/api/buyer/accept_policy', { token: made.token });
    return { id: buyer.id as string, account: buyer.account as string, token: made.token as string };
  };
  const buyer = await newBuyer();
  const asBuyer = (method: string, path = '', body?: unknown, headers = {}) =>
    call(method, `/api/buyer/sub_users${path}`, {
      token: buyer.token,
      headers,
      ...(body === undefined ? {} : { body }),
    });
  /** What a gateway that has never heard of the account says to the credentials. */
  const enter = (account: string, password: string | null, clientAddress = '203.0.113.9') =>
    authenticate(
      new BuyerDirectory({ redis, clock: systemClock, log: silentLog }),
      { password, clientAddress },
      { account, packageId: null },
      Date.now(),
    );

  await t.test('a new one opens the proxy with its own password, on the buyer’s terms', async (t) => {
    const made = await asBuyer('POST', '', { name: 'team-7', bytes_max: 5_000 });
    t.equal(made.status, 201);
    const sub = made.body;
    t.match(sub, { name: 'team-7', status: 'active', bytes_max: 5_000, bytes_used: 0, allowed_ips: [] });
    t.match(sub.account, /^s[a-z0-9]{13}$/);
    t.equal(sub.proxy.username, sub.account);
    t.match(sub.proxy.password, /^[0-9A-Za-z]{24}$/);
    t.match(await readAccount(redis, sub.account), {
      buyerId: buyer.id,
      subUser: { id: sub.id, limited: true },
      status: 'active',
      kycStatus: 'approved',
      aupAccepted: true,
      priceMicrosPerGb: '3000000',
      limits: { streamsMax: 9 },
      passwordlessIps: [],
    });
    const entered = await enter(sub.account, sub.proxy.password);
    t.match(entered, { ok: true, buyer: { buyerId: buyer.id, subUser: { id: sub.id, limited: true } } });
    t.match(await enter(sub.account, `${sub.proxy.password}x`), { ok: false, code: 'AUTH_FAILED' });
    t.match(await enter(buyer.account, sub.proxy.password), { code: 'AUTH_FAILED' }, 'not the buyer’s door');
    t.match(await enter(sub.account, buyer.token), { code: 'AUTH_FAILED' }, 'nor the other way');
    t.match(await enter(sub.account, null, '192.0.2.1'), { code: 'AUTH_FAILED' });
    t.notOk(JSON.stringify((await asBuyer('GET', `/${sub.id}`)).body).includes(sub.proxy.password));
    const { rows } = await pool.query('SELECT to_jsonb(s)::text AS row FROM sub_users s WHERE id = $1', [
      sub.id,
    ]);
    t.notOk(rows[0].row.includes(sub.proxy.password), 'stored nowhere');
    const unlimited = (await asBuyer('POST', '', { name: 'all' })).body;
    t.match((await readAccount(redis, unlimited.account))?.subUser, { id: unlimited.id, limited: false });
  });

  await t.test('changes are in force on the gateways at once', async (t) => {
    const key = { 'idempotency-key': 'sub-1' };
    const { body: sub } = await asBuyer('POST', '', { name: 'x', bytes_max: 10 }, key);
    const replayed = (await asBuyer('POST', '', { name: 'x', bytes_max: 10 }, key)).body;
    t.match(replayed, { id: sub.id, proxy: null }, 'one key, one sub-user; the password is shown once');
    const from = await readLastCommandId(redis);
    const tookMs = stopwatch();
    const rotated = await asBuyer('PATCH', `/${sub.id}`, { rotate_password: true });
    t.ok(tookMs() < 1_000);
    const commands = (await readCommands(redis, from, 10, 0)).map((c) => c.command);
    t.ok(commands.some((c) => c?.kind === 'account_changed' && c.account === sub.account));
    t.match(await enter(sub.account, sub.proxy.password), { code: 'AUTH_FAILED' });
    t.match(await enter(sub.account, rotated.body.proxy.password), { ok: true });

    const patch = async (body: object) => (await asBuyer('PATCH', `/${sub.id}`, body)).body;
    t.match(await patch({ name: 'y', allowed_ips: ['198.51.100.0/24'], bytes_max: null }), {
      name: 'y',
      bytes_max: null,
      allowed_ips: ['198.51.100.0/24'],
      proxy: null,
    });
    t.match(await enter(sub.account, rotated.body.proxy.password), { code: 'AUTH_FAILED' });
    t.match(await enter(sub.account, rotated.body.proxy.password, '198.51.100.7'), {
      ok: true,
      buyer: { subUser: { limited: false } },
    });
    await patch({ status: 'suspended' });
    const suspended = await enter(sub.account, rotated.body.proxy.password, '198.51.100.7');
    t.match(suspended, { ok: false, code: 'ACCOUNT_SUSPENDED' });
    await patch({ status: 'active' });
    t.match(await asBuyer('PATCH', `/${sub.id}`, { allowed_ips: ['1.2.3.4/33'] }), {
      status: 400,
      body: { code: 'validation_failed', errors: [{ path: '/body/allowed_ips' }] },
    });
    for (const bad of [{}, { status: 'closed' }, { bytes_max: -1 }, { account: 'mine' }])
      t.equal((await asBuyer('PATCH', `/${sub.id}`, bad)).status, 400, JSON.stringify(bad));

    // What happens to the buyer happens to its sub-users.
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, {
      price_per_gb: '4',
      limits: { streams_max: 3 },
    });
    t.match(await readAccount(redis, sub.account), {
      priceMicrosPerGb: '4000000',
      limits: { streamsMax: 3 },
    });
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { status: 'suspended' });
    t.equal((await readAccount(redis, sub.account))?.status, 'suspended');
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { status: 'active', kyc_status: 'rejected' });
    t.match(await readAccount(redis, sub.account), { status: 'active', kycStatus: 'rejected' });
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { kyc_status: 'approved' });
    const versions = [await readAccount(redis, sub.account), await readAccount(redis, buyer.account)];
    await patch({ name: 'z' });
    t.ok(((await readAccount(redis, sub.account))?.version ?? 0) > (versions[0]?.version ?? 0));
    t.ok(((await readAccount(redis, buyer.account))?.version ?? 0) > (versions[1]?.version ?? 0));
  });

  await t.test('limits of its own', async (t) => {
    const limits = {
      streams_max: 3,
      connections_per_second_max: 4,
      bandwidth_bytes_per_second_max: 50_000,
      ports: [443],
      allowed_domains: ['.BÜCHER.example', '203.0.113.0/24', '*.bücher.example'],
      denied_domains: ['no.example.'],
      passwordless_ips: ['192.0.2.77'],
      bytes_per_day_max: 1_000,
      bytes_per_month_max: 0,
    };
    const made = await asBuyer('POST', '', { name: 'narrow', allowed_ips: ['192.0.2.0/24'], limits });
    const sub = made.body;
    const stored = {
      ...limits,
      allowed_domains: ['.xn--bcher-kva.example', '203.0.113.0/24'],
      denied_domains: ['no.example'],
    };
    t.same(sub.limits, stored, 'destinations in one spelling');
    t.same((await asBuyer('GET', `/${sub.id}`)).body.limits, stored);
    t.same((await readAccount(redis, sub.account))?.subUser?.limits, {
      streamsMax: 3,
      connectionsPerSecondMax: 4,
      bandwidthBytesPerSecondMax: 50_000,
      ports: [443],
      allowedDomains: stored.allowed_domains,
      deniedDomains: ['no.example'],
      allowedIps: ['192.0.2.0/24'],
      quotas: ['day', 'month'],
    });
    const { rows: quotas } = await pool.query('SELECT * FROM byte_quotas WHERE owner_id = $1', [sub.id]);
    t.match(quotas, [{ bytes_per_day_max: 1_000n, bytes_per_month_max: 0n, day_bytes: 0n }]);
    t.match(
      await enter(sub.account, null, '192.0.2.77'),
      { ok: true },
      'an address of its own needs no password',
    );
    t.match(await enter(sub.account, null, '192.0.2.1'), { code: 'AUTH_FAILED' }, 'the buyer’s does not');
    t.match(await enter(sub.account, sub.proxy.password, '192.0.3.1'), { code: 'AUTH_FAILED' });

    await asBuyer('PATCH', `/${sub.id}`, { name: 'narrower' });
    t.same((await asBuyer('GET', `/${sub.id}`)).body.limits, stored, 'left out: stays');
    t.same((await asBuyer('PATCH', `/${sub.id}`, { limits: { ports: [80] } })).body.limits, { ports: [80] });
    const { rows } = await pool.query(
      "SELECT after FROM audit_log WHERE object_id = $1 AND action = 'sub_user_changed'",
      [sub.id],
    );
    t.match(rows.at(-1).after, { limits: { ports: [80] } }, 'audited');
    for (const [bad, path] of [
      [{ streams_max: 0 }, '/body/limits/streams_max'],
      [{ bytes_per_day_max: -1 }, '/body/limits/bytes_per_day_max'],
      [{ bytes_per_month_max: 2 ** 53 }, '/body/limits/bytes_per_month_max'],
      [{ bandwidth_bytes_per_second_max: 9_999 }, '/body/limits/bandwidth_bytes_per_second_max'],
      [{ ports: [0] }, '/body/limits/ports/0'],
      [{ ports: Array.from({ length: 201 }, (_, i) => i + 1) }, '/body/limits/ports'],
      [{ allowed_domains: ['fine.example', 'http://x.example'] }, '/body/limits/allowed_domains/1'],
      [{ denied_domains: ['1.2.3.4/33'] }, '/body/limits/denied_domains/0'],
      [
        { allowed_domains: Array.from({ length: 201 }, (_, i) => `a${i}.example`) },
        '/body/limits/allowed_domains',
      ],
      [{ passwordless_ips: ['1.2.3.4/33'] }, '/body/limits/passwordless_ips/0'],
      [{ granted_ports: [25] }, '/body/limits'],
      [{ extra_ports: [8080] }, '/body/limits'],
    ] as const) {
      const answer = await asBuyer('PATCH', `/${sub.id}`, { limits: bad });
      t.match(answer, { status: 400, body: { code: 'validation_failed' } }, JSON.stringify(bad).slice(0, 60));
      t.ok(
        answer.body.errors.some((e: { path: string }) => e.path.startsWith(path)),
        JSON.stringify(answer.body.errors),
      );
    }
    await asBuyer('DELETE', `/${sub.id}`);
  });

  await t.test('bytes used are what settlement booked; the limit may fall below them', async (t) => {
    const { body: sub } = await asBuyer('POST', '', { name: 'used', bytes_max: 10_000 });
    const session = await addSession(pool, await addUser(pool));
    const prices = { provider: '500000', buyer: '4000000' };
    const meter = new TestMeter('gw-s', session.sessionId, buyer.id, randomUUID(), prices, null, sub.id);
    await reportMeters(redis, 'gw-s', [meter.count(1_000, 7_001).report()]);
    await world.services.settlement.settleNow();
    t.equal((await asBuyer('GET', `/${sub.id}`)).body.bytes_used, 8_001);
    t.match(await asBuyer('PATCH', `/${sub.id}`, { bytes_max: 1 }), {
      status: 200,
      body: { bytes_max: 1, bytes_used: 8_001 },
    });
    t.equal((await asBuyer('DELETE', `/${sub.id}`)).status, 200);
    await reportMeters(redis, 'gw-s', [meter.count(0, 9).report()]);
    await world.services.settlement.settleNow();
    const { rows } = await pool.query('SELECT bytes_used FROM sub_users WHERE id = $1', [sub.id]);
    t.equal(rows[0].bytes_used, 8_010n, 'late bytes of one that is gone are booked all the same');
  });

  await t.test('a removed one is unknown on the gateways, also after a rebuild', async (t) => {
    const { body: sub } = await asBuyer('POST', '', { name: 'gone' });
    t.match(await enter(sub.account, sub.proxy.password), { ok: true });
    const snapshot = await readAccount(redis, sub.account);
    const from = await readLastCommandId(redis);
    t.equal((await asBuyer('DELETE', `/${sub.id}`)).status, 200);
    t.equal(await readAccount(redis, sub.account), null);
    const commands = (await readCommands(redis, from, 10, 0)).map((c) => c.command);
    t.ok(commands.some((c) => c?.kind === 'account_changed' && c.account === sub.account));
    t.match(await enter(sub.account, sub.proxy.password), { ok: false, code: 'AUTH_FAILED' });
    for (const [method, path] of [
      ['GET', `/${sub.id}`],
      ['DELETE', `/${sub.id}`],
      ['PATCH', `/${sub.id}`],
    ] as const)
      t.equal(
        (await asBuyer(method, path, method === 'PATCH' ? { name: 'x' } : undefined)).status,
        404,
        method,
      );

    // A Redis rolled back to before the removal, and one that was emptied.
    if (snapshot) await writeAccount(redis, snapshot);
    await world.services.live.rebuild();
    t.equal(await readAccount(redis, sub.account), null);
    const { body: kept } = await asBuyer('POST', '', { name: 'kept' });
    const before = await readAccount(redis, kept.account);
    await redis.flushall();
    await world.services.live.rebuild();
    t.same(await readAccount(redis, kept.account), before, 'a rebuild covers sub-users');
    t.equal(await readAccount(redis, sub.account), null);
  });

  await t.test('their number is limited, and nobody sees another buyer’s', async (t) => {
    const other = await newBuyer();
    const { body: mine } = await asBuyer('GET');
    const free = 5 - mine.items.length;
    const answers = await Promise.all(
      Array.from({ length: free + 3 }, (_, i) => asBuyer('POST', '', { name: `p${i}` })),
    );
    t.equal(answers.filter((a) => a.status === 201).length, free);
    t.ok(answers.every((a) => a.status === 201 || a.body.code === 'too_many_sub_users'));
    const { body: list } = await asBuyer('GET');
    t.equal(list.items.length, 5);
    const [first, second] = [
      (await asBuyer('GET', '?limit=3')).body,
      (await asBuyer('GET', `?limit=3&cursor=${(await asBuyer('GET', '?limit=3')).body.next_cursor}`)).body,
    ];
    t.same(
      [...first.items, ...second.items].map((s) => s.id),
      list.items.map((s: { id: string }) => s.id),
    );
    const strange = { token: other.token };
    t.same((await call('GET', '/api/buyer/sub_users', strange)).body.items, []);
    const path = `/api/buyer/sub_users/${list.items[0].id}`;
    t.equal((await call('GET', path, strange)).status, 404);
    t.equal((await call('PATCH', path, { ...strange, body: { name: 'mine' } })).status, 404);
    t.equal((await call('DELETE', path, strange)).status, 404);
    t.equal((await call('GET', '/api/buyer/sub_users', { token: admin.token })).status, 403);
    await asAdmin('PATCH', '/api/admin/settings', { sub_users_max: 6 });
    t.equal((await asBuyer('POST', '', { name: 'one more' })).status, 201, 'the setting is in force at once');
    const { rows } = await pool.query(
      "SELECT DISTINCT action FROM audit_log WHERE object_type = 'sub_user' ORDER BY action",
    );
    t.same(
      rows.map((r) => r.action),
      ['sub_user_changed', 'sub_user_created', 'sub_user_removed'],
    );
  });
});
