import t from 'tap';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

t.test('policy, settings and the brake', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const call = (method: string, path: string, body?: unknown, token = admin.token) =>
    world.call(method, path, { token, body });
  const live = async () => JSON.parse((await world.redis.get('ts:settings')) ?? 'null');
  const commands = async () =>
    ((await world.redis.xrange('ts:commands', '-', '+')) as [string, string[]][]).map(([, [, c]]) =>
      JSON.parse(c ?? ''),
    );

  await t.test('denied destinations reach the gateways', async (t) => {
    const lists = {
      denied_domains: ['bad.example', '.evil.example'],
      denied_ips: ['203.0.113.0/24', '2001:db8::/32'],
    };
    const put = await call('PUT', '/api/admin/policy/destinations', lists);
    t.same(put.body, { ...lists, version: 1 });
    t.same((await call('GET', '/api/admin/policy/destinations')).body, put.body);
    t.match(await live(), {
      policyVersion: 1,
      deniedDomains: lists.denied_domains,
      deniedIps: lists.denied_ips,
    });
    t.ok((await commands()).some((c) => c.kind === 'settings_changed'));
    const before = (await live()).version;
    await Promise.all([1, 2, 3].map(() => call('PUT', '/api/admin/policy/destinations', lists)));
    t.equal((await call('GET', '/api/admin/policy/destinations')).body.version, 4, 'each change counts');
    t.ok((await live()).version >= before);
  });

  await t.test('what is no domain or network', async (t) => {
    for (const lists of [
      { denied_domains: ['Upper.Example'], denied_ips: [] },
      { denied_domains: ['has space'], denied_ips: [] },
      { denied_domains: ['https://x.example'], denied_ips: [] },
      { denied_domains: [], denied_ips: ['203.0.113.0/33'] },
      { denied_domains: [], denied_ips: ['1.2.3'] },
      { denied_domains: [] },
    ])
      t.equal(
        (await call('PUT', '/api/admin/policy/destinations', lists)).status,
        400,
        JSON.stringify(lists),
      );
  });

  await t.test('kill', async (t) => {
    t.same((await call('POST', '/api/admin/kill', { scope: 'buyer', id: 'b1', reason: 'abuse' })).body, {
      ok: true,
    });
    t.same((await call('POST', '/api/admin/kill', { scope: 'all', reason: 'incident' })).body, { ok: true });
    t.same((await commands()).slice(-2), [
      { kind: 'kill', scope: 'buyer', id: 'b1' },
      { kind: 'kill', scope: 'all', id: null },
    ]);
    t.equal((await call('POST', '/api/admin/kill', { scope: 'buyer', reason: 'no id' })).status, 400);
    t.equal((await call('POST', '/api/admin/kill', { scope: 'all' })).status, 400, 'a reason is asked for');
  });

  await t.test('settings', async (t) => {
    const changed = await call('PATCH', '/api/admin/settings', {
      buyer_price_per_gb: '3.5',
      hold_time_s: 60,
    });
    t.match(changed.body, { buyer_price_per_gb: '3.500000', hold_time_s: 60, terms_version: '1' });
    t.equal(world.services.settings.current().buyerPriceMicrosPerGb, 3_500_000n, 'in force at once');
    for (const body of [
      {},
      { unknown: 1 },
      { buyer_price_per_gb: '-1' },
      { buyer_price_per_gb: 3 },
      { referral_percent: 51 },
    ])
      t.equal((await call('PATCH', '/api/admin/settings', body)).status, 400, JSON.stringify(body));
    const other = await startWorld(t, { share: world });
    t.equal((await other.services.settings.read()).holdTimeS, 60, 'and survives a restart');
  });

  await t.test('for admins, and audited with before and after', async (t) => {
    for (const [method, path, body] of [
      ['GET', '/api/admin/policy/destinations', undefined],
      ['PUT', '/api/admin/policy/destinations', { denied_domains: [], denied_ips: [] }],
      ['POST', '/api/admin/kill', { scope: 'all', reason: 'x' }],
      ['GET', '/api/admin/settings', undefined],
      ['PATCH', '/api/admin/settings', { hold_time_s: 0 }],
    ] as const)
      t.equal((await call(method, path, body, user.token)).status, 403, path);
    const { rows } = await world.pool.query(
      "SELECT actor_id, before, after, request_id FROM audit_log WHERE action = 'settings_changed' ORDER BY id",
    );
    t.match(rows, [
      {
        actor_id: admin.userId,
        before: { buyer_price_per_gb: '2.000000' },
        after: { buyer_price_per_gb: '3.500000', hold_time_s: 60 },
        request_id: String,
      },
    ]);
    const kills = await world.pool.query(
      "SELECT object_type, object_id FROM audit_log WHERE action = 'kill' ORDER BY id",
    );
    t.same(kills.rows, [
      { object_type: 'buyer', object_id: 'b1' },
      { object_type: 'all', object_id: null },
    ]);
  });
});
