import { randomUUID } from 'node:crypto';
import t from 'tap';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { addSession, addUser, TestMeter } from '../../helpers/money-world.js';

t.test('refunds of sessions and the trial', async (t) => {
  const world = await startWorld(t, { env: { TS_API_REQUESTS_PER_MINUTE: '100000' } });
  const { pool, redis, call, services } = world;
  const admin = await signedIn(world, 'admin');
  const asAdmin = (path: string, body: unknown, headers = {}) =>
    call('POST', path, { token: admin.token, body, headers });
  const buyer = async (fields = {}) => {
    const { id } = (await asAdmin('/api/admin/buyers', { name: 'B', kyc_status: 'approved', ...fields }))
      .body;
    const { token } = (await asAdmin(`/api/admin/buyers/${id}/tokens`, {})).body;
    return { id: id as string, token: token as string };
  };
  const balance = async (token: string) =>
    (await call('GET', '/api/buyer/me/balance', { token })).body.balance;
  t.afterEach(async () => t.same(await invariants(pool), []));

  /** A session that relayed a GB for each buyer, at $2. */
  const session = async (...buyers: { id: string }[]) => {
    const { sessionId, userId } = await addSession(pool, await addUser(pool));
    const meters = buyers.map((b) => new TestMeter('g1', sessionId, b.id).count(400_000_000, 600_000_000));
    await reportMeters(
      redis,
      'g1',
      meters.map((meter) => meter.report({ final: true, allocationEnded: true })),
    );
    await services.settlement.settleNow();
    return { sessionId, userId };
  };
  const refund = (sessionId: string, body: object, headers = {}) =>
    asAdmin(`/api/admin/sessions/${sessionId}/refund`, { reason: 'unusable exit', ...body }, headers);

  await t.test('a part, the rest, and no more; the provider keeps the earnings', async (t) => {
    const one = await buyer();
    const { sessionId, userId } = await session(one);
    t.equal(await balance(one.token), '-2.000000');
    t.match(await refund(sessionId, { amount: '0.5' }), {
      status: 201,
      body: {
        buyer_id: one.id,
        amount: '0.500000',
        charged: '2.000000',
        refunded: '0.500000',
        balance: '-1.500000',
      },
    });
    t.match(await refund(sessionId, { amount: '1.500001' }), {
      status: 422,
      body: { code: 'above_charged', left: '1.500000' },
    });
    t.match(await refund(sessionId, {}), { status: 201, body: { amount: '1.500000', refunded: '2.000000' } });
    t.match(await refund(sessionId, {}), { status: 422, body: { code: 'above_charged', left: '0.000000' } });
    t.equal(await balance(one.token), '0.000000');
    const { rows } = await pool.query(
      "SELECT sum(amount_micros)::int AS earned FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE a.owner_id = $1 AND e.kind = 'traffic_earning'",
      [userId],
    );
    t.equal(rows[0].earned, 500_000);
    const { rows: audit } = await pool.query(
      "SELECT actor_id, after FROM audit_log WHERE action = 'session_refunded' AND object_id = $1 ORDER BY id",
      [sessionId],
    );
    t.equal(audit.length, 2);
    t.match(audit[0], { actor_id: admin.userId, after: { reason: 'unusable exit', refunded: '0.500000' } });
  });

  await t.test('of several buyers one has to be named', async (t) => {
    const [one, two, other] = [await buyer(), await buyer(), await buyer()];
    const { sessionId } = await session(one, two);
    t.match(await refund(sessionId, {}), {
      status: 422,
      body: { code: 'several_buyers', buyer_ids: [one.id, two.id].sort() },
    });
    t.match(await refund(sessionId, { buyer_id: two.id }), { status: 201, body: { amount: '2.000000' } });
    t.equal(await balance(two.token), '0.000000');
    t.equal(await balance(one.token), '-2.000000');
    t.match(await refund(sessionId, { buyer_id: other.id }), {
      status: 422,
      body: { code: 'above_charged' },
    });
  });

  await t.test('30 refunds at once, and one Idempotency-Key', async (t) => {
    const one = await buyer();
    const { sessionId } = await session(one);
    const answers = await Promise.all(Array.from({ length: 30 }, () => refund(sessionId, { amount: '0.3' })));
    t.equal(answers.filter((a) => a.status === 201).length, 6, '6 × 0.3 of 2.0');
    t.ok(answers.every((a) => a.status === 201 || a.body.code === 'above_charged'));
    t.equal(await balance(one.token), '-0.200000');
    const key = { 'idempotency-key': randomUUID() };
    const first = await refund(sessionId, { amount: '0.1' }, key);
    t.same((await refund(sessionId, { amount: '0.1' }, key)).body, first.body);
    t.match(await refund(sessionId, { amount: '0.05' }, key), { status: 409 });
    t.equal(await balance(one.token), '-0.100000');
  });

  await t.test('what is refused', async (t) => {
    const { sessionId } = await session();
    t.match(
      await refund(sessionId, {}),
      { status: 422, body: { code: 'above_charged' } },
      'nothing was charged',
    );
    t.equal((await refund(randomUUID(), {})).status, 404);
    for (const body of [
      { amount: '0' },
      { amount: '-1' },
      { amount: 1 },
      { reason: 'x' },
      { buyer_id: 'x' },
      { more: 1 },
    ])
      t.equal((await refund(sessionId, body)).status, 400, JSON.stringify(body));
    const { token } = await buyer();
    const path = `/api/admin/sessions/${sessionId}/refund`;
    t.equal((await call('POST', path, { token, body: { reason: 'because' } })).status, 403);
    t.equal((await call('POST', path, { body: { reason: 'because' } })).status, 401);
  });

  await t.test('the trial: once per buyer, at the buyer’s price', async (t) => {
    const one = await buyer({ price_per_gb: '3.5' });
    const take = (token: string) => call('POST', '/api/buyer/trial', { token });
    const answers = await Promise.all(Array.from({ length: 30 }, () => take(one.token)));
    t.equal(answers.filter((a) => a.status === 201).length, 1);
    t.ok(answers.every((a) => a.status === 201 || (a.status === 409 && a.body.code === 'trial_used')));
    t.match(answers.find((a) => a.status === 201)?.body, {
      bytes: 100_000_000,
      amount: '0.350000',
      balance: '0.350000',
    });
    await call('PATCH', `/api/admin/buyers/${one.id}`, { token: admin.token, body: { price_per_gb: '5' } });
    t.match(
      await take(one.token),
      { status: 409, body: { code: 'trial_used' } },
      'not at another price either',
    );
    t.equal(await balance(one.token), '0.350000');
    const free = await buyer({ price_per_gb: '0' });
    t.match(await take(free.token), { status: 422, body: { code: 'trial_unavailable' } });
    await call('PATCH', '/api/admin/settings', { token: admin.token, body: { trial_bytes: 0 } });
    t.match(await take((await buyer()).token), { status: 422, body: { code: 'trial_unavailable' } });
    const user = await signedIn(world);
    t.equal((await take(user.token)).status, 403);
    t.equal((await call('POST', '/api/buyer/trial')).status, 401);
  });
});
