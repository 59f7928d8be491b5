/** Push notices: from the inbox to the devices of its reader, through a server that speaks FCM's HTTP v1. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { notify } from '../../../control-plane/inbox/inbox.js';
import type { PushSender } from '../../../control-plane/push/push-sender.js';
import { readServiceAccount } from '../../../control-plane/push/service-account.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { signedIn, startWorld, type TestUser, withDevice } from '../../helpers/control-plane.js';
import { fcmError, startFcm } from '../../helpers/fcm.js';

t.test('push notices', async (t) => {
  const fcm = await startFcm(t);
  let aheadMs = 0;
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + aheadMs };
  const path = join(t.testdir(), 'account.json');
  writeFileSync(path, JSON.stringify(fcm.account));
  const world = await startWorld(t, {
    clock,
    env: { TS_FCM_SERVICE_ACCOUNT: path, TS_FCM_URL: `${fcm.url}/` },
  });
  const { pool } = world;
  const sender = world.services.pushes as PushSender;
  const user = await signedIn(world);
  const { deviceId, deviceKey } = await withDevice(world, user);
  const setToken = (token: string, push_token: string | null, more = {}) =>
    world.call('POST', '/api/user/device/push_token', { token, body: { push_token, ...more } });
  const note = (who: TestUser, title = 'Support answered', body = 'It was paid today.') =>
    notify(pool, { userId: who.userId, kind: 'support_reply', title, body });
  const waiting = async () =>
    (await pool.query('SELECT attempts, due_at > now() AS later FROM pushes ORDER BY notification_id')).rows;
  const dueNow = () => pool.query('UPDATE pushes SET due_at = now()');
  const tokenOf = async (id: string) =>
    (await pool.query('SELECT push_token FROM devices WHERE id = $1', [id])).rows[0].push_token;

  await t.test('a notice reaches the device, with what the app needs', async (t) => {
    await note(user);
    t.same(await waiting(), [], 'no token, nothing to push');
    t.equal((await setToken(deviceKey, 'app:one')).status, 200, 'the device itself');
    await note(user);
    await sender.runOnce();
    t.match(fcm.sent, [
      {
        token: 'app:one',
        notification: { title: 'Support answered', body: 'It was paid today.' },
        data: { kind: 'support_reply', notification_id: /^\d+$/ },
        android: { notification: { tag: /^inbox-\d+$/ } },
      },
    ]);
    t.same(await waiting(), []);
    await note(user, 'long', 'x'.repeat(2_000));
    await sender.runOnce();
    t.equal(fcm.sent.at(-1)?.notification.body.length, 500);
    t.equal(fcm.tokenCalls, 1, 'one access token for both');
    await sender.runOnce();
    t.equal(fcm.sent.length, 2, 'each once');
  });

  await t.test('nothing without a commit, nor for who turned notifications off', async (t) => {
    const client = await pool.connect();
    await client.query('BEGIN');
    await notify(client, { userId: user.userId, kind: 'x', title: 'never', body: 'b' });
    await client.query('ROLLBACK');
    client.release();
    const quiet = (notifications: boolean) =>
      world.call('POST', '/api/user/update', { token: user.token, body: { settings: { notifications } } });
    await quiet(false);
    await note(user);
    t.same(await waiting(), []);
    await quiet(true);
  });

  await t.test('a broadcast is pushed as well', async (t) => {
    const admin = await signedIn(world, 'admin');
    const body = { target: `user:${user.userId}`, message: 'hello all' };
    t.ok((await world.call('POST', '/api/admin/notify', { token: admin.token, body })).status < 300);
    await sender.runOnce();
    t.match(fcm.sent.at(-1), { notification: { body: 'hello all' }, data: { kind: 'broadcast' } });
  });

  await t.test('an access token: renewed in time, and once when it is refused', async (t) => {
    const calls = fcm.tokenCalls;
    aheadMs += 3_600_000;
    await note(user);
    await sender.runOnce();
    t.equal(fcm.tokenCalls, calls + 1, 'it had run out');
    fcm.valid.clear();
    await note(user);
    await sender.runOnce();
    t.equal(fcm.tokenCalls, calls + 2);
    t.same(fcm.authorizations.slice(-2), [`Bearer ya29.${calls + 1}`, `Bearer ya29.${calls + 2}`]);
    t.same(await waiting(), []);

    fcm.valid.clear();
    fcm.tokenReply = { status: 400, body: { error: 'invalid_grant' } };
    const sent = fcm.sent.length;
    await note(user);
    await sender.runOnce();
    t.match(await waiting(), [{ attempts: 0, later: true }], 'kept, and the try does not count');
    fcm.tokenReply = null;
    await dueNow();
    t.equal(await sender.runOnce(), 0, 'a pause first');
    aheadMs += 60_000;
    await sender.runOnce();
    t.equal(fcm.sent.length, sent + 1);
  });

  await t.test('told to wait, everyone waits; a broken server is tried again, not for ever', async (t) => {
    fcm.reply = () => fcmError(429, 'RESOURCE_EXHAUSTED', 'QUOTA_EXCEEDED', { 'retry-after': '30' });
    await note(user);
    await note(user);
    const calls = fcm.authorizations.length;
    await sender.runOnce();
    t.ok(fcm.authorizations.length - calls <= 2);
    t.match(await waiting(), [
      { attempts: 0, later: true },
      { attempts: 0, later: true },
    ]);
    await dueNow();
    aheadMs += 29_000;
    t.equal(await sender.runOnce(), 0);
    fcm.reply = () => fcmError(503, 'UNAVAILABLE', 'UNAVAILABLE', { 'retry-after': '5' });
    aheadMs += 1_500;
    await sender.runOnce();
    t.equal(await sender.runOnce(), 0);
    fcm.reply = () => fcmError(500, 'INTERNAL', 'INTERNAL');
    for (let attempt = 1; attempt < 6; attempt++) {
      aheadMs += 5_000;
      await dueNow();
      await sender.runOnce();
      t.match(await waiting(), [
        { attempts: attempt, later: true },
        { attempts: attempt, later: true },
      ]);
    }
    const sent = fcm.sent.length;
    await dueNow();
    await sender.runOnce();
    t.same(await waiting(), [], 'given up');
    fcm.reply = () => null;
    await sender.runOnce();
    t.equal(fcm.sent.length, sent);
  });

  await t.test('a message that is refused is dropped; a token that is gone is forgotten', async (t) => {
    fcm.reply = () => fcmError(400, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT');
    await note(user);
    await sender.runOnce();
    t.same(await waiting(), []);
    t.equal(await tokenOf(deviceId), 'app:one');
    for (const reply of [
      fcmError(404, 'NOT_FOUND', 'UNREGISTERED'),
      fcmError(403, 'PERMISSION_DENIED', 'SENDER_ID_MISMATCH'),
    ]) {
      await setToken(user.token, 'app:one', { device_id: deviceId });
      await note(user);
      await note(user);
      fcm.reply = () => reply;
      await sender.runOnce();
      t.equal(await tokenOf(deviceId), null);
      t.same(await waiting(), [], 'nothing else waits for it');
    }
    await setToken(user.token, 'app:one', { device_id: deviceId });
    for (const reply of [fcmError(403, 'PERMISSION_DENIED', null), fcmError(404, 'NOT_FOUND', null)]) {
      fcm.reply = () => reply;
      await note(user);
      await sender.runOnce();
      t.match(await waiting(), [{ later: true }], 'the project’s fault or the address’s, not the token’s');
      t.equal(await tokenOf(deviceId), 'app:one');
      await pool.query('DELETE FROM pushes');
      aheadMs += 60_000;
    }
    fcm.reply = () => null;
  });

  await t.test('a token is one person’s', async (t) => {
    const other = await signedIn(world);
    const theirs = await withDevice(world, other);
    t.equal((await setToken(other.token, 'app:x', { device_id: deviceId })).status, 403);
    t.equal((await setToken(theirs.deviceKey, 'app:x', { device_id: deviceId })).status, 403);
    t.equal((await setToken(other.token, 'app:x')).status, 400);
    t.equal((await setToken(other.token, 'a b', { device_id: theirs.deviceId })).status, 400);
    const body = {
      device_id: theirs.deviceId,
      os: 'android',
      client_version: '1.0.0',
      push_token: 'app:one',
    };
    t.equal(
      (await world.call('POST', '/api/user/device/register', { token: other.token, body })).status,
      200,
      'the same phone, somebody else’s now',
    );
    t.same([await tokenOf(deviceId), await tokenOf(theirs.deviceId)], [null, 'app:one']);
    await world.call('DELETE', `/api/user/devices/${theirs.deviceId}`, { token: other.token });
    t.equal(await tokenOf(theirs.deviceId), null, 'a device that was removed gets nothing');
  });

  await t.test('what is too old is not pushed, and cleaned away', async (t) => {
    await setToken(user.token, 'app:one', { device_id: deviceId });
    await note(user);
    await pool.query("UPDATE pushes SET created_at = now() - interval '2 hours'");
    t.equal(await sender.runOnce(), 0);
    const { forgetOldPushes } = await import('../../../control-plane/push/push-sender.js');
    t.equal(await forgetOldPushes(pool), 1);
  });

  t.throws(() => readServiceAccount('{"type":"user"}'), /type is not service_account/);
  t.throws(() => readServiceAccount(`${path}.none`), /ENOENT/);
  t.match(readServiceAccount(JSON.stringify(fcm.account)), {
    projectId: 'share-test',
    privateKeyId: 'key-1',
  });
  t.equal((await startWorld(t, { share: world })).services.pushes, null, 'off until it is configured');
});
