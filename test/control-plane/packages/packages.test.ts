import { createHash, randomUUID } from 'node:crypto';
import t from 'tap';
import { allocatePackages, type PullFilter } from '../../../control-plane/packages/allocate.js';
import { offerPackage } from '../../../control-plane/packages/offer.js';
import { readClaim, takeClaim } from '../../../gateway/live/claims.js';
import { readCommands } from '../../../gateway/live/commands.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { readPackageRoute } from '../../../gateway/live/store.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addBuyer, addSession, addUser, TestMeter } from '../../helpers/money-world.js';

const ANY: PullFilter = { countries: null, city: null, asn: null, bytesMin: null, packageId: null };

t.test('packages', async (t) => {
  const world = await startWorld(t, { env: { TS_API_REQUESTS_PER_MINUTE: '100000' } });
  const { pool, redis, call, collaborators } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body?: unknown, headers = {}) =>
    call(method, path, { token: admin.token, headers, ...(body === undefined ? {} : { body }) });

  const newBuyer = async () => {
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
    const { body: made } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
    await asAdmin('POST', '/api/admin/credits', { buyer_id: buyer.id, amount: '10', reason: 'test' });
    await call('POST', '/api/buyer/accept_policy', { token: made.token });
    return { id: buyer.id as string, account: buyer.account as string, token: made.token as string };
  };
  const offered = async (options: { country?: string; sizeBytes?: number } = {}) => {
    const session = await addSession(pool, await addUser(pool), options);
    await offerPackage(pool, {
      ...session,
      country: options.country ?? 'DE',
      city: 'Berlin',
      asn: 3320,
      sizeBytes: options.sizeBytes ?? 1_000,
    });
    const { rows } = await pool.query('SELECT id FROM packages WHERE session_id = $1', [session.sessionId]);
    return { ...session, packageId: rows[0].id as string };
  };
  const statusOf = async (packageId: string) =>
    (await pool.query('SELECT status FROM packages WHERE id = $1', [packageId])).rows[0]?.status;

  await t.test('bulk_create tells each bad row and creates the others', async (t) => {
    const userId = await addUser(pool);
    const uuid = randomUUID();
    const good = { user_id: userId, ip: '203.0.113.5', size_bytes: 1_000_000 };
    const answer = await asAdmin('POST', '/api/admin/packages/bulk_create', [
      { ...good, uuid },
      good,
      { ...good, uuid },
      { ...good, user_id: 'me' },
      { ...good, user_id: randomUUID() },
      { ...good, ip: '10.0.0.256' },
      { ...good, size_bytes: 0 },
      { ...good, size_bytes: 1.5 },
      { ...good, colour: 'red' },
      'row',
    ]);
    t.equal(answer.status, 201);
    t.equal(answer.body.created, 2);
    t.same(
      answer.body.errors.map((e: { row: number; code: string }) => [e.row, e.code]),
      [
        [3, 'duplicate_uuid'],
        [4, 'invalid_user_id'],
        [5, 'unknown_user'],
        [6, 'invalid_ip'],
        [7, 'invalid_size'],
        [8, 'invalid_size'],
        [9, 'unknown_field'],
        [10, 'invalid_row'],
      ],
    );
    const csv = (text: string) =>
      asAdmin('POST', '/api/admin/packages/bulk_create', text, { 'content-type': 'text/csv' });
    const fromCsv = await csv(
      `uuid,user_id,ip,size_bytes\r\n${uuid},${userId},203.0.113.5,10\r\n,${userId},"2001:db8::1",20\r\n,${userId},1.1.1.1\r\n`,
    );
    t.equal(fromCsv.body.created, 1);
    t.same(
      fromCsv.body.errors.map((e: { row: number; code: string }) => [e.row, e.code]),
      [
        [1, 'exists'],
        [3, 'invalid_row'],
      ],
    );
    t.match(await csv('user_id,ip\n'), { status: 400, body: { code: 'csv_malformed' } });
    const tooMany = await asAdmin('POST', '/api/admin/packages/bulk_create', {
      packages: Array.from({ length: 10_001 }, () => 0),
    });
    t.match(tooMany, { status: 400, body: { code: 'validation_failed' } });
    await pool.query("UPDATE packages SET status = 'revoked' WHERE origin = 'ingest'");
  });

  await t.test('a pull gives working credentials, and 204 when nothing fits', async (t) => {
    const buyer = await newBuyer();
    const pull = (body: object) => call('POST', '/api/buyer/packets/pull', { token: buyer.token, body });
    t.equal((await pull({ max_count: 1 })).status, 204);
    const there = await offered({ country: 'FR', sizeBytes: 5_000 });
    t.equal((await pull({ max_count: 1, region: 'de' })).status, 204);
    t.equal((await pull({ max_count: 1, min_bytes: 5_001 })).status, 204);
    const answer = await pull({ max_count: 5, region: 'eu', city: 'berlin', asn: 3320, min_bytes: 5_000 });
    t.equal(answer.status, 200);
    const [got, ...more] = answer.body.packages;
    t.equal(more.length, 0);
    t.match(got, {
      uuid: there.packageId,
      user_id: there.userId,
      ip: there.exitIp,
      country: 'FR',
      size_bytes: 5_000,
    });
    t.equal(got.proxy.username, `${buyer.account}-package-${there.packageId.replaceAll('-', '')}`);
    t.match(got.proxy.password, /^[0-9A-Za-z]{24}$/);
    const route = await readPackageRoute(redis, there.packageId);
    t.match(route, { buyerId: buyer.id, providerId: there.userId, exitIp: there.exitIp });
    t.equal(route?.passwordSha256Hex, createHash('sha256').update(got.proxy.password).digest('hex'));
    t.equal((await readClaim(redis, there.userId, there.exitIp))?.allocationId, route?.allocationId);
    const limited = await pull({ max_count: 1 }).then(() => pull({ max_count: 1 }));
    t.equal(limited.status, 429, 'five in a burst, then one a second');
    t.ok(Number(limited.headers.get('retry-after')) >= 1);
  });

  await t.test('a pull that is repeated with its Idempotency-Key takes nothing more', async (t) => {
    const buyer = await newBuyer();
    const there = [await offered({ country: 'IT' }), await offered({ country: 'IT' })];
    const pull = (key: string, body: object = { max_count: 1, region: 'it' }) =>
      call('POST', '/api/buyer/packets/pull', {
        token: buyer.token,
        body,
        headers: { 'idempotency-key': key },
      });
    const first = await pull('pull-1');
    const again = await pull('pull-1');
    t.same([first.status, again.status, again.headers.get('idempotency-replayed')], [200, 200, 'true']);
    const [got] = first.body.packages;
    t.ok(got.proxy.password);
    t.same(again.body.packages, [{ ...got, proxy: null }], 'the password is shown once');
    t.same((await Promise.all(there.map((p) => statusOf(p.packageId)))).sort(), ['allocated', 'available']);
    t.match(await pull('pull-1', { max_count: 2 }), {
      status: 409,
      body: { code: 'idempotency_key_reused' },
    });
    const { rows } = await pool.query("SELECT response::text FROM idempotency_keys WHERE key = 'pull-1'");
    t.notOk(rows[0].response.includes(got.proxy.password));

    // A refusal for coming too often is not an answer to keep.
    const limited = [];
    for (let i = 0; i < 30 && limited.at(-1) !== 429; i++) limited.push((await pull(`burst-${i}`)).status);
    t.equal(limited.at(-1), 429);
    const kept = await pool.query('SELECT 1 FROM idempotency_keys WHERE key = $1', [
      `burst-${limited.length - 1}`,
    ]);
    t.equal(kept.rowCount, 0);
  });

  await t.test('who may not have traffic may not pull', async (t) => {
    const { body: buyer } = await asAdmin('POST', '/api/admin/buyers', { name: 'New' });
    const { body: made } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
    const code = async () =>
      (await call('POST', '/api/buyer/packets/pull', { token: made.token, body: {} })).body.code;
    t.equal(await code(), 'kyc_required');
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { kyc_status: 'approved' });
    t.equal(await code(), 'policy_not_accepted');
    await call('POST', '/api/buyer/accept_policy', { token: made.token });
    t.equal(await code(), 'no_balance');
    await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, { status: 'suspended' });
    t.equal(await code(), 'account_suspended');
  });

  await t.test('the status machine: every move, legal or not', async (t) => {
    const buyer = await newBuyer();
    const report = (uuid: string, status: string, token = buyer.token) =>
      call('POST', `/api/buyer/packets/${uuid}/status`, { token, body: { status, bytes_sent: 7 } });
    const pulled = async () => {
      const { packageId, sessionId } = await offered();
      const filter = { ...ANY, packageId };
      await allocatePackages(collaborators, { buyerId: buyer.id, account: buyer.account }, filter, 1, 60_000);
      return { packageId, sessionId };
    };
    const legal: Record<string, string[]> = {
      '': ['accepted', 'in_progress', 'failed'],
      in_progress: ['accepted', 'in_progress', 'completed', 'failed'],
      'in_progress completed': ['completed'],
      failed: ['failed'],
    };
    for (const [path, allowed] of Object.entries(legal))
      for (const next of ['accepted', 'in_progress', 'completed', 'failed']) {
        const { packageId } = await pulled();
        for (const step of path.split(' ').filter(Boolean)) await report(packageId, step);
        const answer = await report(packageId, next);
        const is = await statusOf(packageId);
        if (allowed.includes(next)) {
          t.equal(answer.status, 200, `(${path}) → ${next}`);
          t.equal(answer.body.status, is);
        } else
          t.match(answer, { status: 409, body: { code: 'illegal_move', from: is } }, `(${path}) → ${next}`);
      }
    const { packageId, sessionId } = await pulled();
    const stranger = await newBuyer();
    t.equal((await report(packageId, 'failed', stranger.token)).status, 404, "another buyer's");
    const claimOf = async () => {
      const { rows } = await pool.query('SELECT user_id, host(exit_ip) AS ip FROM packages WHERE id = $1', [
        packageId,
      ]);
      return readClaim(redis, rows[0].user_id, rows[0].ip);
    };
    t.not(await claimOf(), null);
    await report(packageId, 'failed');
    t.equal(await claimOf(), null, 'the exit is free again');
    t.equal(await readPackageRoute(redis, packageId), null);
    const { rows } = await pool.query(
      "SELECT 1 FROM packages WHERE session_id = $1 AND status = 'available'",
      [sessionId],
    );
    t.equal(rows.length, 1, 'and its session is offered again');
    await pool.query("UPDATE packages SET status = 'revoked' WHERE status = 'available'");
  });

  await t.test(
    'an exit that a gateway holds is skipped, one whose session stopped is not offered',
    async (t) => {
      const buyerId = await addBuyer(pool);
      const [held, stopped, free] = [await offered(), await offered(), await offered()];
      await takeClaim(redis, {
        providerId: held.userId,
        exitIp: held.exitIp,
        ttlMs: 60_000,
        record: {
          allocationId: randomUUID(),
          buyerId,
          account: 'somebody',
          sessionId: held.sessionId,
          packageId: null,
          sizeBytes: 1,
          assignedAtMs: 0,
        },
      });
      await pool.query("UPDATE traffic_sessions SET status = 'stopping', stopped_at = now() WHERE id = $1", [
        stopped.sessionId,
      ]);
      const got = await allocatePackages(collaborators, { buyerId, account: 'me' }, ANY, 10, 60_000);
      t.same(
        got.map((p) => p.packageId),
        [free.packageId],
      );
      t.equal(await statusOf(held.packageId), 'available');
      await pool.query("UPDATE packages SET status = 'revoked' WHERE status = 'available'");
    },
  );

  await t.test('assign, revoke with and without reset, and history', async (t) => {
    const buyer = await newBuyer();
    const { packageId, ...exit } = await offered();
    const assigned = await asAdmin('POST', `/api/admin/packages/${packageId}/assign`, { buyer_id: buyer.id });
    t.equal(assigned.status, 200);
    t.match(assigned.body.proxy.username, buyer.account);
    t.match(await asAdmin('POST', `/api/admin/packages/${packageId}/assign`, { buyer_id: buyer.id }), {
      status: 409,
      body: { code: 'illegal_move' },
    });
    const reset = await asAdmin('POST', `/api/admin/packages/${packageId}/revoke`, { reset: true });
    t.same(reset.body, { uuid: packageId, status: 'available' });
    t.equal(await readClaim(redis, exit.userId, exit.exitIp), null);
    const commands = await readCommands(redis, '0-0', 1_000, 0);
    t.ok(commands.some((c) => c.command?.kind === 'end_allocation'));
    const revoked = await asAdmin('POST', `/api/admin/packages/${packageId}/revoke`);
    t.equal(revoked.body.status, 'revoked');
    const one = await asAdmin('GET', `/api/admin/packages/${packageId}`);
    t.match(one.body, { uuid: packageId, status: 'revoked', buyer_id: buyer.id });
    t.same(
      one.body.allocations.map((a: { status: string }) => a.status),
      ['revoked'],
    );
    t.same(
      one.body.audit.map((a: { action: string }) => a.action),
      ['package_assigned', 'package_revoked', 'package_revoked'],
    );
    const list = await asAdmin(
      'GET',
      `/api/admin/packages?status=revoked&buyer_id=${buyer.id}&ip=${exit.exitIp}`,
    );
    t.same(
      list.body.items.map((p: { uuid: string }) => p.uuid),
      [packageId],
    );
  });

  await t.test('what is not used in time goes back, what is used stays', async (t) => {
    const buyerId = await addBuyer(pool);
    const [unused, used] = [await offered(), await offered()];
    const got = await allocatePackages(collaborators, { buyerId, account: 'me' }, ANY, 10, 60_000);
    t.equal(got.length, 2);
    const allocation = got.find((p) => p.packageId === used.packageId);
    const meter = new TestMeter(
      'gw-x',
      used.sessionId,
      buyerId,
      allocation?.allocationId,
      undefined,
      used.packageId,
    );
    await reportMeters(redis, 'gw-x', [meter.count(1, 1).report()]);
    await world.services.settlement.settleNow();
    t.equal(await statusOf(used.packageId), 'in_progress');
    await pool.query(
      "UPDATE allocations SET expires_at = now() + interval '10 seconds' WHERE buyer_id = $1",
      [buyerId],
    );
    await pool.query('UPDATE allocations SET expires_at = now() WHERE package_id = $1', [unused.packageId]);
    t.match(await world.services.packages.runOnce(), { extended: 1, takenBack: 1 });
    t.equal(await statusOf(unused.packageId), 'available');
    t.equal(await statusOf(used.packageId), 'in_progress');
    t.ok((await redis.pttl(liveKeys.packageRoute(used.packageId))) > 60_000, 'its route lives on');

    // Unless an admin wants otherwise.
    const again = await allocatePackages(
      collaborators,
      { buyerId, account: 'me' },
      { ...ANY, packageId: unused.packageId },
      1,
      60_000,
    );
    t.equal(again.length, 1);
    await pool.query('UPDATE allocations SET expires_at = now() WHERE package_id = $1', [unused.packageId]);
    t.equal(
      (await asAdmin('PATCH', '/api/admin/settings', { stale_packages_become: 'revoked' })).body
        .stale_packages_become,
      'revoked',
    );
    t.match(await asAdmin('POST', '/api/admin/packages/cleanup_stale_allocations'), { body: { cleaned: 1 } });
    t.equal(await statusOf(unused.packageId), 'revoked');
  });
});
