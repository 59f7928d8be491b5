import t from 'tap';
import { forgetExpiredReputation } from '../../../control-plane/policy/reputation.js';
import { signedIn, startWorld, TEST_ENV, withDevice } from '../../helpers/control-plane.js';

t.test('POST /api/webhook/ipintel', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const device = await withDevice(world, user);
  const secret = { 'x-internal-secret': TEST_ENV.TS_INTERNAL_SECRET };
  const send = (updates: unknown, headers: Record<string, string> = secret, more = {}) =>
    world.call('POST', '/api/webhook/ipintel', { headers, body: { source: 'ipintel', updates, ...more } });
  const start = async (from: string) => {
    const { status, body } = await world.call('POST', '/api/traffic/start', {
      token: user.token,
      from,
      body: { device_id: device.deviceId, client_version: '1.0.0' },
    });
    return status === 200 ? 'ok' : body.code;
  };
  const vpn = [{ network: '203.0.113.0/24', verdict: 'vpn' }];
  t.equal((await send(vpn, {})).status, 401);
  t.equal((await send(vpn, { 'x-internal-secret': 'wrong-secret-of-some-length' })).status, 401);
  t.equal((await send(vpn, { authorization: `Bearer ${user.token}` })).status, 403);
  for (const updates of [
    [],
    [{ network: '203.0.113.0/33', verdict: 'vpn' }],
    [{ network: 'everyone', verdict: 'vpn' }],
    [{ network: '203.0.113.1', verdict: 'nice' }],
    [{ network: '203.0.113.1', verdict: 'vpn', more: 1 }],
    Array.from({ length: 1_001 }, () => vpn[0]),
  ])
    t.equal((await send(updates)).status, 400, JSON.stringify(updates).slice(0, 80));
  t.equal((await send(vpn, secret, { more: 1 })).status, 400);
  t.equal(await start('203.0.113.9'), 'ok', 'nothing of that was kept');

  t.same(
    (
      await send([
        ...vpn,
        { network: '203.0.113.77', verdict: 'clean' },
        { network: '198.51.100.7/24', verdict: 'abuse' },
      ])
    ).body,
    {
      ok: true,
    },
  );
  t.equal(await start('203.0.113.9'), 'vpn_detected');
  t.equal(await start('203.0.113.77'), 'ok', 'the narrowest network decides');
  t.equal(await start('198.51.100.200'), 'denylisted', 'a network with host bits is that network');
  t.equal(await start('192.0.2.1'), 'ok');
  world.origins.set('203.0.113.77', { ok: false, code: 'region_not_allowed', rule: 'country XX' });
  t.equal(await start('203.0.113.77'), 'region_not_allowed', 'clean does not open what the lists refuse');

  await send([
    { network: '203.0.113.0/24', verdict: 'tor' },
    { network: '203.0.113.0/24', verdict: 'hosting', expires_at: new Date(Date.now() - 1_000).toISOString() },
  ]);
  t.equal(await start('203.0.113.9'), 'ok', 'the last word counts, and it has expired');
  t.equal(await forgetExpiredReputation(world.pool), 1);
  const { rows } = await world.pool.query(
    `SELECT count(*)::int AS n FROM audit_log WHERE action = 'reputation_updated' AND actor_role = 'internal'`,
  );
  t.same(rows, [{ n: 2 }]);
});
