import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import { takeTicket } from '../../../gateway/live/store.js';
import {
  signedIn,
  startWorld,
  type TestUser,
  type TestWorld,
  withDevice,
} from '../../helpers/control-plane.js';

const VERSION = '1.0.0';
const start = (
  world: TestWorld,
  token: string,
  deviceId: string,
  options: { from?: string; body?: object } = {},
) =>
  world.call('POST', '/api/traffic/start', {
    token,
    from: options.from ?? '198.51.100.1',
    body: { device_id: deviceId, client_version: VERSION, ...options.body },
  });

async function provider(world: TestWorld) {
  const user = await signedIn(world);
  return { user, ...(await withDevice(world, user)) };
}

async function sessions(world: TestWorld, deviceId: string) {
  const { rows } = await world.pool.query(
    'SELECT id, status, exit_ip, stop_reason FROM traffic_sessions WHERE device_id = $1 ORDER BY started_at',
    [deviceId],
  );
  return rows;
}

async function commands(world: TestWorld): Promise<unknown[]> {
  const entries = (await world.redis.xrange('ts:commands', '-', '+')) as [string, string[]][];
  return entries.map(([, [, text]]) => JSON.parse(text ?? ''));
}

t.test('start', async (t) => {
  const world = await startWorld(t, { env: { TS_OFFER_BYTES: '5000000' } });

  await t.test('session, offer and ticket', async (t) => {
    const { user, deviceId } = await provider(world);
    await world.call('POST', '/api/user/update', {
      token: user.token,
      body: { settings: { cap_bytes_per_day: 7_000_000 } },
    });
    world.origins.set('198.51.100.9', { ok: true, country: 'FR', city: 'Lyon', asn: 12322 });
    const answer = await start(world, user.token, deviceId, {
      from: '198.51.100.9',
      body: { local_ip: '192.168.1.7', public_ip: '203.0.113.5', network_type: 'wifi' },
    });
    t.equal(answer.status, 200);
    t.match(answer.body, {
      ok: true,
      session_id: String,
      tunnel: { url: 'ws://tunnel.test/tunnel', ticket: /^[\w-]{43}$/, expires_in: 60 },
    });
    const { rows } = await world.pool.query(
      `SELECT exit_ip, country, city, asn, network_type, local_ip, claimed_public_ip, status
       FROM traffic_sessions WHERE id = $1`,
      [answer.body.session_id],
    );
    t.same(rows, [
      {
        exit_ip: '198.51.100.9',
        country: 'FR',
        city: 'Lyon',
        asn: 12322n,
        network_type: 'wifi',
        local_ip: '192.168.1.7',
        claimed_public_ip: '203.0.113.5',
        status: 'active',
      },
    ]);
    const offers = await world.pool.query(
      'SELECT status, size_bytes, exit_ip, origin FROM packages WHERE session_id = $1',
      [answer.body.session_id],
    );
    t.same(offers.rows, [
      { status: 'available', size_bytes: 5_000_000n, exit_ip: '198.51.100.9', origin: 'offer' },
    ]);

    const key = createHash('sha256').update(answer.body.tunnel.ticket).digest('hex');
    const ttl = await world.redis.pttl(`ts:ticket:{${key}}`);
    t.ok(ttl > 50_000 && ttl <= 60_000);
    t.same(await takeTicket(world.redis, key), {
      sessionId: answer.body.session_id,
      deviceId,
      providerId: user.userId,
      exitIp: '198.51.100.9',
      country: 'FR',
      city: 'Lyon',
      asn: 12322,
      networkType: 'wifi',
      offerBytes: 5_000_000,
      capBytesPerDay: 7_000_000,
      termsVersion: '1',
      clientVersion: VERSION,
    });
    t.equal(await takeTicket(world.redis, key), null, 'a ticket opens one tunnel');
  });

  await t.test('again from the same address: the same session with a fresh ticket', async (t) => {
    const { deviceKey, deviceId } = await provider(world);
    const first = await start(world, deviceKey, deviceId);
    const again = await start(world, deviceKey, deviceId);
    t.equal(again.body.session_id, first.body.session_id);
    t.not(again.body.tunnel.ticket, first.body.tunnel.ticket);
    t.equal((await sessions(world, deviceId)).length, 1);
    const { rows } = await world.pool.query('SELECT 1 FROM packages WHERE session_id = $1', [
      first.body.session_id,
    ]);
    t.equal(rows.length, 1, 'one offer');
  });

  await t.test('from another address: the old session stops first', async (t) => {
    const { deviceKey, deviceId } = await provider(world);
    const first = await start(world, deviceKey, deviceId, { from: '198.51.100.1' });
    const second = await start(world, deviceKey, deviceId, { from: '2001:db8::1' });
    t.not(second.body.session_id, first.body.session_id);
    t.same(await sessions(world, deviceId), [
      { id: first.body.session_id, status: 'stopping', exit_ip: '198.51.100.1', stop_reason: 'ip_changed' },
      { id: second.body.session_id, status: 'active', exit_ip: '2001:db8::1', stop_reason: null },
    ]);
    t.match((await commands(world)).at(-1), { kind: 'stop_session', sessionId: first.body.session_id });
    const { rows } = await world.pool.query('SELECT status FROM packages WHERE session_id = $1', [
      first.body.session_id,
    ]);
    t.same(rows, [{ status: 'revoked' }]);
  });

  await t.test('twenty at once on one device: one live session', async (t) => {
    const { deviceKey, deviceId } = await provider(world);
    const answers = await Promise.all(Array.from({ length: 20 }, () => start(world, deviceKey, deviceId)));
    t.ok(answers.every((a) => a.status === 200));
    t.equal(new Set(answers.map((a) => a.body.session_id)).size, 1);
    t.equal(new Set(answers.map((a) => a.body.tunnel.ticket)).size, 20);
    t.equal((await sessions(world, deviceId)).length, 1);
  });

  await t.test('one address may stand for many devices; each has a limit of its own', async (t) => {
    const [busy, other] = [await provider(world), await provider(world)];
    const from = '198.51.100.77';
    const codes: number[] = [];
    for (let i = 0; i < 61; i++)
      codes.push((await start(world, busy.user.token, busy.deviceId, { from })).status);
    t.same(codes, [...new Array(60).fill(200), 429]);
    t.equal((await start(world, other.user.token, other.deviceId, { from })).status, 200);
    t.not(
      (await start(world, other.user.token, busy.deviceId, { from })).status,
      429,
      'nobody uses up the starts of somebody else’s device',
    );
  });

  await t.test('and from changing addresses: still one', async (t) => {
    const { deviceKey, deviceId } = await provider(world);
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        start(world, deviceKey, deviceId, { from: `198.51.100.${10 + (i % 3)}` }),
      ),
    );
    t.ok(answers.every((a) => a.status === 200));
    const rows = await sessions(world, deviceId);
    t.equal(rows.filter((r) => r.status === 'active').length, 1);
    const offers = await world.pool.query(
      `SELECT count(*)::int AS n FROM packages p JOIN traffic_sessions s ON s.id = p.session_id
       WHERE s.device_id = $1 AND p.status = 'available'`,
      [deviceId],
    );
    t.equal(offers.rows[0].n, 1);
  });
});

t.test('refusals', async (t) => {
  const world = await startWorld(t, { env: { TS_MIN_CLIENT_VERSION: '0.9.10' } });
  const refused = async (
    t: Pick<Test, 'same' | 'match' | 'equal'>,
    expected: [number, string, RegExp?],
    user: TestUser,
    deviceId: string,
    options: Parameters<typeof start>[3] = {},
  ) => {
    const answer = await start(world, user.token, deviceId, options);
    t.same([answer.status, answer.body.code], expected.slice(0, 2));
    if (expected[2]) t.match(answer.body.detail, expected[2]);
    t.equal((await sessions(world, deviceId)).length, 0);
  };

  await t.test('where the device is', async (t) => {
    const { user, deviceId } = await provider(world);
    const rules = [
      ['198.51.100.50', 'region_not_allowed', 'country KP'],
      ['198.51.100.51', 'vpn_detected', 'AS9009 M247'],
      ['198.51.100.52', 'denylisted', 'ip-denylist.txt: 198.51.100.52'],
    ] as const;
    for (const [from, code, rule] of rules) {
      world.origins.set(from, { ok: false, code, rule });
      await refused(t, [403, code, new RegExp(rule)], user, deviceId, { from });
    }
  });

  await t.test('a claimed address changes nothing', async (t) => {
    const { user, deviceId } = await provider(world);
    await refused(t, [403, 'region_not_allowed'], user, deviceId, {
      from: '198.51.100.50',
      body: { public_ip: '198.51.100.1' },
    });
  });

  await t.test('client_too_old compares numbers, not text', async (t) => {
    const { user, deviceId } = await provider(world);
    await refused(t, [403, 'client_too_old', /0\.9\.10/], user, deviceId, {
      body: { client_version: '0.9.9' },
    });
    const ok = await start(world, user.token, deviceId, { body: { client_version: '0.10.0-beta.1' } });
    t.equal(ok.status, 200);
    const odd = await start(world, user.token, deviceId, { body: { client_version: 'latest' } });
    t.equal(odd.status, 400);
  });

  await t.test('consent_required: none, withdrawn, or of other terms', async (t) => {
    const { user, deviceId } = await provider(world);
    await world.call('DELETE', '/api/user/consent', { token: user.token });
    await refused(t, [403, 'consent_required'], user, deviceId);
    await world.pool.query("INSERT INTO consents (user_id, terms_version) VALUES ($1, '0')", [user.userId]);
    await refused(t, [403, 'consent_required'], user, deviceId);
  });

  await t.test('banned', async (t) => {
    const { user, deviceId } = await provider(world);
    await world.pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [user.userId]);
    await refused(t, [403, 'banned'], user, deviceId);
  });

  await t.test('somebody else’s device, or none', async (t) => {
    const mine = await provider(world);
    const theirs = await provider(world);
    await refused(t, [403, 'forbidden'], mine.user, theirs.deviceId);
    await refused(t, [404, 'not_found'], mine.user, 'no-such-device');
    const withKey = await start(world, mine.deviceKey, theirs.deviceId);
    t.equal(withKey.status, 403, 'a device key is good for its own device');
    await world.call('DELETE', `/api/user/devices/${mine.deviceId}`, { token: mine.user.token });
    await refused(t, [404, 'not_found'], mine.user, mine.deviceId);
    t.equal((await start(world, mine.deviceKey, mine.deviceId)).status, 401, 'the key is dead');
  });

  await t.test('unknown fields and a bad device id', async (t) => {
    const { user, deviceId } = await provider(world);
    t.equal((await start(world, user.token, deviceId, { body: { country: 'US' } })).status, 400);
    t.equal((await start(world, user.token, 'no')).status, 400);
  });

  await t.test('a withdrawal during many starts leaves no active session', async (t) => {
    const { user, deviceId } = await provider(world);
    const [, withdrawn] = await Promise.all([
      Promise.all(Array.from({ length: 8 }, () => start(world, user.token, deviceId))),
      world.call('DELETE', '/api/user/consent', { token: user.token }),
    ]);
    t.equal(withdrawn.status, 200);
    const rows = await sessions(world, deviceId);
    t.equal(rows.filter((r) => r.status === 'active').length, 0);
  });
});
