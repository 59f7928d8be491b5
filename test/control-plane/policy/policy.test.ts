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

  const settingsChanged = async () =>
    (await commands()).filter((command) => command.kind === 'settings_changed').length;

  await t.test('denied destinations reach the gateways', async (t) => {
    const lists = {
      denied_domains: ['bad.example', '.evil.example'],
      denied_ips: ['203.0.113.0/24', '2001:db8::/32'],
    };
    const put = await call('PUT', '/api/admin/policy/destinations', { ...lists, version: 0 });
    t.same(put.body, { ...lists, version: 1 });
    t.same((await call('GET', '/api/admin/policy/destinations')).body, put.body);
    t.match(await live(), {
      policyVersion: 1,
      deniedDomains: lists.denied_domains,
      deniedIps: lists.denied_ips,
    });
    t.equal(await settingsChanged(), 1);
  });

  await t.test('ports and networks reach the gateways', async (t) => {
    const ports = { open_tcp: [80, 443, 8443], open_udp: [53], never_allowed: [8080] };
    const before = await call('GET', '/api/admin/policy/ports');
    t.match(before.body, { open_tcp: [80, 443], open_udp: [53, 443], never_allowed: [], version: 0 });
    t.ok(before.body.never_allowed_built_in.includes(25));
    const put = await call('PUT', '/api/admin/policy/ports', { ...ports, version: 0 });
    t.match(put.body, { ...ports, version: 1, never_allowed_built_in: before.body.never_allowed_built_in });
    t.same((await call('GET', '/api/admin/policy/ports')).body, put.body);

    const origins = {
      asn_rules: [{ match: 'AS64500', name: 'Bad Hosting' }, { match: 'org *vpn*' }],
      denied_ips: ['198.51.100.0/24'],
      allowed_asns: [64501],
    };
    t.same((await call('PUT', '/api/admin/policy/origins', { ...origins, version: 0 })).body, {
      ...origins,
      version: 1,
    });
    t.same((await call('GET', '/api/admin/policy/origins')).body, { ...origins, version: 1 });
    t.match(await live(), {
      policyVersion: 3,
      deniedDomains: ['bad.example', '.evil.example'],
      ports: { openTcp: [80, 443, 8443], openUdp: [53], neverAllowed: [8080] },
      origins: {
        asnRules: [
          { match: 'AS64500', name: 'Bad Hosting' },
          { match: 'org *vpn*', name: null },
        ],
        deniedIps: ['198.51.100.0/24'],
        allowedAsns: [64501],
      },
    });
  });

  await t.test('of admins who change the same version at once, one does', async (t) => {
    const told = await settingsChanged();
    const answers = await Promise.all(
      [1, 2, 3, 4, 5].map((i) =>
        call('PUT', '/api/admin/policy/destinations', {
          denied_domains: [`only-${i}.example`],
          denied_ips: [],
          version: 1,
        }),
      ),
    );
    const [won] = answers.filter(({ status }) => status === 200);
    const lost = answers.filter(({ status }) => status === 409);
    t.equal(lost.length, 4);
    for (const { body } of lost) t.match(body, { code: 'policy_changed', version: 2 });
    t.same((await call('GET', '/api/admin/policy/destinations')).body, won?.body);
    t.equal(won?.body.version, 2);
    t.equal(await settingsChanged(), told + 1, 'and gateways are told once');
    const late = await call('PUT', '/api/admin/policy/ports', {
      open_tcp: [],
      open_udp: [],
      never_allowed: [],
      version: 0,
    });
    t.match(late, { status: 409, body: { code: 'policy_changed', version: 1 } });
    const ahead = { denied_domains: [], denied_ips: [], version: 99 };
    t.equal(
      (await call('PUT', '/api/admin/policy/destinations', ahead)).status,
      409,
      'nor one of the future',
    );
  });

  await t.test('every entry that does not fit is named, and nothing is changed', async (t) => {
    const before = await live();
    const destinations = { denied_domains: [], denied_ips: [], version: 2 };
    const ports = { open_tcp: [], open_udp: [], never_allowed: [], version: 1 };
    const origins = { asn_rules: [], denied_ips: [], allowed_asns: [], version: 1 };
    const named = async (name: string, body: object) => {
      const answer = await call('PUT', `/api/admin/policy/${name}`, body);
      t.equal(answer.status, 400, JSON.stringify(body).slice(0, 100));
      return (answer.body.errors as { path: string }[]).map(({ path }) => path.replace('/body', '')).sort();
    };
    for (const domain of [
      'Upper.Example',
      'has space',
      'https://x.example',
      '',
      '.',
      'a..b',
      `${'a'.repeat(64)}.b`,
    ])
      t.same(await named('destinations', { ...destinations, denied_domains: ['fine.example', domain] }), [
        '/denied_domains/1',
      ]);
    t.same(
      await named('destinations', {
        ...destinations,
        denied_ips: ['203.0.113.0/33', '192.0.2.1', '1.2.3', '::1::/3'],
      }),
      ['/denied_ips/0', '/denied_ips/2', '/denied_ips/3'],
    );
    t.same(await named('destinations', { denied_domains: [] }), ['/denied_ips', '/version']);
    t.same(await named('destinations', { ...destinations, allowed: [] }), ['/allowed']);
    t.same(
      await named('ports', {
        ...ports,
        open_tcp: [80, 25, 53, 8080],
        open_udp: [53, 161, 443],
        never_allowed: [443, 8080],
      }),
      ['/open_tcp/1', '/open_tcp/2', '/open_tcp/3', '/open_udp/1', '/open_udp/2'],
    );
    t.same(await named('ports', { ...ports, open_tcp: [0, 65_536, 1.5, '80'] }), [
      '/open_tcp/0',
      '/open_tcp/1',
      '/open_tcp/2',
      '/open_tcp/3',
    ]);
    t.same(await named('ports', { ...ports, open_tcp: [80, 80] }), ['/open_tcp']);
    t.same(
      await named('origins', {
        ...origins,
        asn_rules: [
          { match: 'AS1' },
          { match: 'ASx' },
          { match: 'AS0' },
          { match: 'org *' },
          { match: 'org x*' },
        ],
        denied_ips: ['10.0.0.0/99'],
      }),
      ['/asn_rules/1/match', '/asn_rules/2/match', '/asn_rules/3/match', '/denied_ips/0'],
    );
    t.same(await named('origins', { ...origins, allowed_asns: [0, 4_294_967_296] }), [
      '/allowed_asns/0',
      '/allowed_asns/1',
    ]);
    t.same(await named('origins', { ...origins, asn_rules: [{ name: 'nothing' }] }), ['/asn_rules/0/match']);
    t.same(await live(), before);
  });

  await t.test('as many entries as the setting allows', async (t) => {
    const entries = Array.from({ length: 10_001 }, (_, i) => `a-rather-long-name-of-a-host-${i}.example`);
    const put = (denied: string[], version: number) =>
      call('PUT', '/api/admin/policy/destinations', { denied_domains: denied, denied_ips: [], version });
    t.match(await put(entries, 2), { status: 400, body: { errors: [{ path: '/body/denied_domains' }] } });
    t.equal((await put(entries.slice(1), 2)).status, 200);
    const { rows } = await world.pool.query(
      "SELECT after, before FROM audit_log WHERE action = 'policy_changed' ORDER BY id DESC LIMIT 1",
    );
    t.match(rows[0], {
      before: { version: 2, lists: { denied_domains: { entries: 1 } } },
      after: {
        version: 3,
        lists: { denied_domains: { entries: 10_000, added_count: 10_000, removed_count: 1 } },
      },
    });
    t.equal(rows[0].after.lists.denied_domains.added.length, 100, 'the audit log takes a summary');
    t.match(rows[0].after.lists.denied_domains.removed, [/^only-\d\.example$/]);
    t.equal((await put([], 3)).status, 200);
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
      ['PUT', '/api/admin/policy/destinations', { denied_domains: [], denied_ips: [], version: 4 }],
      ['GET', '/api/admin/policy/ports', undefined],
      ['PUT', '/api/admin/policy/ports', { open_tcp: [], open_udp: [], never_allowed: [], version: 1 }],
      ['GET', '/api/admin/policy/origins', undefined],
      ['PUT', '/api/admin/policy/origins', { asn_rules: [], denied_ips: [], allowed_asns: [], version: 1 }],
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
