import { randomUUID } from 'node:crypto';
import t from 'tap';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { deleteGatewayPresence, writeGatewayPresence } from '../../../gateway/live/presence.js';
import { runOf } from '../../../gateway/live/records.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addBuyer, addSession, addUser, TestMeter } from '../../helpers/money-world.js';
import { createWorker, deliver, fund, grant, readHold } from './world.js';

t.test('write-off', async (t) => {
  const world = await startWorld(t);
  const { pool, redis } = world;
  const admin = await signedIn(world, 'admin');
  const buyer = await addBuyer(pool);
  await fund(pool, [buyer]);
  const worker = createWorker(pool, redis);
  const LOST = 'ab'.repeat(16);
  const sessions = [
    await addSession(pool, await addUser(pool), { status: 'stopping' }),
    await addSession(pool, await addUser(pool), { status: 'stopping' }),
  ] as const;
  const meterOf = (session: number, epoch = LOST) =>
    new TestMeter(
      'gw-lost',
      (sessions[session] as { sessionId: string }).sessionId,
      buyer,
      randomUUID(),
      undefined,
      null,
      null,
      epoch,
    );
  const meters = [meterOf(0), meterOf(1)] as const;
  const status = async (n: 0 | 1) =>
    (await pool.query('SELECT status FROM traffic_sessions WHERE id = $1', [sessions[n].sessionId])).rows[0]
      .status;
  const writeOff = (body: object, headers = {}) =>
    world.call('POST', '/api/admin/gateways/gw-lost/write_off', {
      token: admin.token,
      body: { reason: 'the machine burnt down', ...body },
      headers,
    });
  const list = async (query: string) =>
    (await world.call('GET', `/api/admin/meters?${query}`, { token: admin.token })).body.items;

  await grant(pool, meters[0], 'buyer', buyer, 1_000_000n);
  await deliver(
    redis,
    meters.map((m) => m.count(1_000_000, 0)),
  );
  await worker.settleNow();

  await t.test('an admin sees what is open, and since when', async (t) => {
    t.equal(await status(0), 'stopping', 'a meter without its FINAL keeps its session');
    const open = await list('gateway_id=gw-lost&open=true');
    t.equal(open.length, 2);
    const second = open.find((m: { session_id: string }) => m.session_id === sessions[1].sessionId);
    t.match(second, {
      buyer_id: buyer,
      run: runOf(LOST),
      bytes_up: 1_000_000,
      charged: '0.002000',
      earned: '0.000500',
      final: false,
      opened_at: new Date(meters[1].openedAtMs).toISOString(),
      written_off_at: null,
      booked_after_write_off: 0,
    });
    const pages = await world.call('GET', '/api/admin/meters?open=true&limit=1', { token: admin.token });
    t.ok(pages.body.next_cursor);
    const next = await world.call(
      'GET',
      `/api/admin/meters?open=true&limit=1&cursor=${pages.body.next_cursor}`,
      { token: admin.token },
    );
    t.same(
      [pages.body.items[0].id, next.body.items[0].id],
      open.map((m: { id: string }) => m.id),
    );
    const user = await signedIn(world);
    t.equal((await world.call('GET', '/api/admin/meters', { token: user.token })).status, 403);
  });

  await t.test('is refused while the run is alive, and needs one scope', async (t) => {
    await writeGatewayPresence(redis, {
      gatewayId: 'gw-lost',
      epoch: LOST,
      version: '1',
      startedAtMs: Date.now(),
      tunnels: 1,
      streams: 1,
      draining: false,
    });
    for (const body of [{ run: runOf(LOST) }, { epoch: LOST }, { session_id: sessions[0].sessionId }]) {
      const refused = await writeOff(body);
      t.match(refused, { status: 409, body: { code: 'gateway_run_alive', run: runOf(LOST) } });
    }
    t.equal((await writeOff({})).body.code, 'validation_failed');
    t.equal((await writeOff({ run: runOf(LOST), epoch: LOST })).body.code, 'validation_failed');
    t.equal((await list('gateway_id=gw-lost&open=true')).length, 2, 'nothing was written off');
    await deleteGatewayPresence(redis, { gatewayId: 'gw-lost', epoch: LOST });
    // Another run of the gateway is alive: the lost one may be given up.
    await writeGatewayPresence(redis, {
      gatewayId: 'gw-lost',
      epoch: 'ee'.repeat(16),
      version: '1',
      startedAtMs: Date.now(),
      tunnels: 0,
      streams: 0,
      draining: false,
    });
  });

  await t.test('lets one session complete; the hold stays while its run has open meters', async (t) => {
    const answer = await writeOff({ session_id: sessions[0].sessionId });
    t.same(answer.body, { meters: 1, sessions: 1, holds_closed: 0 });
    await worker.settleNow();
    t.equal(await status(0), 'completed');
    t.equal(await status(1), 'stopping');
    t.equal((await readHold(pool, meters[0], 'buyer', buyer))?.closed, false);
  });

  await t.test('gives the hold back with the last one, once, audited', async (t) => {
    const key = { 'idempotency-key': 'write-off-1' };
    const answer = await writeOff({ run: runOf(LOST) }, key);
    t.same(answer.body, { meters: 1, sessions: 1, holds_closed: 1 });
    t.same((await writeOff({ run: runOf(LOST) }, key)).body, answer.body, 'replayed');
    t.same((await writeOff({ run: runOf(LOST) })).body, { meters: 0, sessions: 0, holds_closed: 0 });
    await worker.settleNow();
    t.equal(await status(1), 'completed');
    t.match(await readHold(pool, meters[0], 'buyer', buyer), { closed: true, spent: 4_000n });
    const { rows } = await pool.query(
      "SELECT actor_id, object_id, after FROM audit_log WHERE action = 'meters_written_off' ORDER BY id",
    );
    t.match(rows, [
      {
        actor_id: admin.userId,
        object_id: 'gw-lost',
        after: { sessionId: sessions[0].sessionId, meters: 1 },
      },
      {
        actor_id: admin.userId,
        after: { run: runOf(LOST), reason: 'the machine burnt down', runs: [runOf(LOST)], holdsClosed: 1 },
      },
      { after: { meters: 0 } },
    ]);
    t.same(await invariants(pool), []);
    t.equal((await list('gateway_id=gw-lost&open=true')).length, 0);
  });

  await t.test('bytes that come all the same are booked once, and can be found', async (t) => {
    t.equal((await list('booked_after_write_off=true')).length, 0);
    await deliver(redis, [meters[1].count(0, 2_000_000)]);
    await Promise.all([worker.settleNow(), createWorker(pool, redis).settleNow()]);
    await deliver(redis, [meters[1].count(500_000, 0)], { final: true, allocationEnded: true });
    await Promise.all([worker.settleNow(), createWorker(pool, redis).settleNow()]);
    const late = await list('booked_after_write_off=true');
    t.match(late, [
      {
        session_id: sessions[1].sessionId,
        bytes_up: 1_500_000,
        bytes_down: 2_000_000,
        charged: '0.007000',
        booked_after_write_off: 2_500_000,
        written_off_by: admin.userId,
        final: true,
      },
    ]);
    t.equal(late.length, 1);
    const { rows } = await pool.query(
      `SELECT kind, source_id, description FROM ledger_transactions WHERE source_id LIKE $1 ORDER BY created_at`,
      [`meter:${late[0].id}:%`],
    );
    t.match(rows, [
      { kind: 'traffic', source_id: `meter:${late[0].id}:0:1000000`, description: null },
      {
        kind: 'traffic',
        source_id: `meter:${late[0].id}:1000000:3000000`,
        description: /after the write-off/,
      },
      {
        kind: 'traffic',
        source_id: `meter:${late[0].id}:3000000:3500000`,
        description: /after the write-off/,
      },
    ]);
    t.equal(rows.length, 3);
    t.equal(await status(1), 'completed');
    t.same(await invariants(pool), []);
  });
});
