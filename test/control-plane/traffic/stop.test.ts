import { randomUUID } from 'node:crypto';
import t from 'tap';
import { StopKeeper } from '../../../control-plane/traffic/stop-keeper.js';
import { publishCommand } from '../../../gateway/live/commands.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld, type TestWorld, withDevice } from '../../helpers/control-plane.js';

const start = (world: TestWorld, token: string, deviceId: string) =>
  world.call('POST', '/api/traffic/start', { token, body: { device_id: deviceId, client_version: '1.0.0' } });

async function sharing(world: TestWorld) {
  const user = await signedIn(world);
  const device = await withDevice(world, user);
  const { body } = await start(world, device.deviceKey, device.deviceId);
  return { user, ...device, sessionId: body.session_id as string };
}

async function commands(world: TestWorld): Promise<{ kind: string; sessionId?: string; reason?: string }[]> {
  const entries = (await world.redis.xrange('ts:commands', '-', '+')) as [string, string[]][];
  return entries.map(([, [, text]]) => JSON.parse(text ?? ''));
}

t.test('stop, with settlement in the background', async (t) => {
  const world = await startWorld(t, { background: true });
  const { user, deviceKey, deviceId, sessionId } = await sharing(world);

  const stopped = await world.call('POST', '/api/traffic/stop', {
    token: deviceKey,
    body: { session_id: sessionId, final_bytes_tx: 10, final_bytes_rx: 20 },
  });
  t.same(stopped.body, { ok: true, bytes: 0, earned: '0.000000', status: 'completed' });
  t.ok((await commands(world)).some((c) => c.kind === 'stop_session' && c.sessionId === sessionId));

  const again = await world.call('POST', `/api/traffic/stop?session_id=${sessionId}`, { token: user.token });
  t.same(again.body, stopped.body, 'repeating it is harmless');

  const next = await start(world, deviceKey, deviceId);
  t.not(next.body.session_id, sessionId, 'the device may share again');
  const view = await world.call('GET', `/api/sessions/${sessionId}`, { token: user.token });
  t.match(view.body, {
    status: 'completed',
    stop_reason: 'stopped',
    reported_bytes_tx: 10,
    reported_bytes_rx: 20,
  });
});

t.test('stop, while settlement is away', async (t) => {
  const world = await startWorld(t, { env: { TS_STOP_WAIT_MS: '200' } });
  const { user, sessionId } = await sharing(world);

  await t.test('answers with what is booked', async (t) => {
    await world.pool.query(
      'UPDATE traffic_sessions SET bytes_up = 1000, bytes_down = 9007199254740993, earned_micros = 1234567 WHERE id = $1',
      [sessionId],
    );
    const { body } = await world.call('POST', '/api/traffic/stop', {
      token: user.token,
      body: { session_id: sessionId },
    });
    t.same(body, { ok: true, bytes: '9007199254741993', earned: '1.234567', status: 'stopping' });
    const { rows } = await world.pool.query('SELECT status FROM packages WHERE session_id = $1', [sessionId]);
    t.same(rows, [{ status: 'revoked' }], 'the offer is taken back');
  });

  await t.test('whose it is', async (t) => {
    const other = await sharing(world);
    const stop = (token: string, id: string | undefined) =>
      world.call('POST', '/api/traffic/stop', { token, body: id === undefined ? {} : { session_id: id } });
    t.equal((await stop(other.user.token, sessionId)).status, 403);
    t.equal((await stop(other.deviceKey, sessionId)).status, 403);
    t.equal((await stop(user.token, randomUUID())).status, 404);
    t.match((await stop(user.token, undefined)).body, { code: 'validation_failed' });
    const second = await withDevice(world, other.user);
    t.equal(
      (await stop(second.deviceKey, other.sessionId)).status,
      403,
      'a device stops its own session only',
    );
    const { rows } = await world.pool.query('SELECT status FROM traffic_sessions WHERE id = $1', [
      other.sessionId,
    ]);
    t.same(rows, [{ status: 'active' }]);
  });

  await t.test('withdrawing consent stops every device', async (t) => {
    const one = await sharing(world);
    const second = await withDevice(world, one.user);
    const { body } = await start(world, second.deviceKey, second.deviceId);
    const answer = await world.call('DELETE', '/api/user/consent', { token: one.user.token });
    t.same(answer.body, { ok: true, sessions_stopped: 2 });
    const told = (await commands(world))
      .filter((c) => c.reason === 'consent_withdrawn')
      .map((c) => c.sessionId);
    t.same(told.sort(), [one.sessionId, body.session_id].sort());
    const again = await world.call('DELETE', '/api/user/consent', { token: one.user.token });
    t.same(again.body, { ok: true, sessions_stopped: 0 });
  });

  await t.test('removing a device stops its session', async (t) => {
    const { user: owner, deviceId, sessionId: id } = await sharing(world);
    await world.call('DELETE', `/api/user/devices/${deviceId}`, { token: owner.token });
    const { rows } = await world.pool.query(
      'SELECT status, stop_reason FROM traffic_sessions WHERE id = $1',
      [id],
    );
    t.same(rows, [{ status: 'stopping', stop_reason: 'device_removed' }]);
    t.ok((await commands(world)).some((c) => c.sessionId === id));
  });
});

t.test('what the device counted', async (t) => {
  const world = await startWorld(t);
  const { user, deviceKey, sessionId } = await sharing(world);
  const report = (bytes: number, id = sessionId) => ({
    session_id: id,
    bytes_tx: bytes,
    bytes_rx: 2 * bytes,
    interval_seconds: 30,
  });
  const send = (body: object, token = deviceKey, path = 'report') =>
    world.call('POST', `/api/traffic/${path}`, { token, body });

  const free = {
    cap_bytes_left: null,
    wifi_only: false,
    charging_only: false,
    hours: null,
    blocked_destinations: [],
  };
  t.same((await send(report(10))).body, { ok: true, rules: free });
  await world.call('POST', '/api/user/update', {
    token: user.token,
    body: { settings: { cap_bytes_per_day: 5_000, wifi_only: true, hours: { from: '22:00', to: '06:30' } } },
  });
  t.same(
    (await send({ reports: [report(1), report(2)] }, user.token, 'update')).body,
    {
      ok: true,
      rules: { ...free, cap_bytes_left: 5_000, wifi_only: true, hours: { from: '22:00', to: '06:30' } },
    },
    'what the owner set for all devices comes along',
  );
  const { rows } = await world.pool.query(
    'SELECT reported_bytes_tx, reported_bytes_rx, bytes_up FROM traffic_sessions WHERE id = $1',
    [sessionId],
  );
  t.same(rows, [{ reported_bytes_tx: 13n, reported_bytes_rx: 26n, bytes_up: 0n }], 'advice, never booked');

  const other = await sharing(world);
  t.equal((await send(report(1), other.deviceKey)).status, 403);
  t.equal((await send({ reports: [report(1, other.sessionId), report(1)] }, other.deviceKey)).status, 403);
  t.equal((await send(report(1, randomUUID()))).status, 404);
  t.equal((await send({ ...report(1), bytes_tx: -1 })).status, 400);
  t.equal((await send({ ...report(1), bytes_tx: 1.5 })).status, 400);
  t.equal((await send({ reports: [] })).status, 400);

  await world.pool.query(
    `UPDATE traffic_sessions SET status = 'completed', reported_bytes_tx = 0, reported_bytes_rx = 103000000,
       bytes_down = 100000000 WHERE id = $1`,
    [sessionId],
  );
  const view = async () =>
    (await world.call('GET', `/api/sessions/${sessionId}`, { token: user.token })).body.report_differs;
  t.equal(await view(), true, '3 % is flagged');
  await world.pool.query('UPDATE traffic_sessions SET reported_bytes_rx = 101000000 WHERE id = $1', [
    sessionId,
  ]);
  t.equal(await view(), false, '1 % is not');
});

t.test('a stop whose command was lost is announced again until the session is completed', async (t) => {
  const world = await startWorld(t, { env: { TS_STOP_WAIT_MS: '0' } });
  const { user, sessionId } = await sharing(world);
  await world.call('POST', '/api/traffic/stop', { token: user.token, body: { session_id: sessionId } });
  const keeper = new StopKeeper({
    pool: world.pool,
    log: silentLog,
    live: { command: async (command) => void (await publishCommand(world.redis, command)) },
  });
  await world.redis.del('ts:commands');
  t.equal(await keeper.runOnce(), 0, 'not while the first word is fresh');
  await world.pool.query("UPDATE traffic_sessions SET stopped_at = now() - interval '4 seconds'");
  t.equal(await keeper.runOnce(), 1);
  t.match(await commands(world), [{ kind: 'stop_session', sessionId, reason: 'stopped' }]);
  await world.pool.query("UPDATE traffic_sessions SET status = 'completed'");
  t.equal(await keeper.runOnce(), 0, 'a completed session is left alone');
});
