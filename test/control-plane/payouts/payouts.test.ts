import { randomUUID } from 'node:crypto';
import t from 'tap';
import { withTransaction } from '../../../control-plane/db/pool.js';
import { movePayout, PAYOUT_MOVES, type PayoutStatus } from '../../../control-plane/payouts/payouts.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { type ApiProcess, startApiProcesses } from '../../helpers/api-processes.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { assertLedger } from '../../helpers/ledger.js';

const TARGET = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';
const env = { TS_API_REQUESTS_PER_MINUTE: '100000', TS_WITHDRAW_DAY_MICROS_MAX: '300000000' };

t.test('withdrawals', async (t) => {
  const world = await startWorld(t, { env });
  const { pool, call } = world;
  const admin = await signedIn(world, 'admin');
  const provider = async (amount: string) => {
    const user = await signedIn(world);
    const credit = await call('POST', '/api/admin/credits', {
      token: admin.token,
      body: { user_id: user.userId, amount, reason: 'test' },
    });
    if (credit.status !== 201) throw new Error(JSON.stringify(credit.body));
    return user;
  };
  const body = (amount: string, changes = {}) => ({
    amount,
    method: 'cryptomus',
    network: 'TRON',
    currency: 'USDT',
    target: TARGET,
    ...changes,
  });
  const withdraw = (token: string, amount: string, changes = {}, headers = {}, path = '/api/withdraw') =>
    call('POST', path, { token, body: body(amount, changes), headers });
  const balanceOf = async (token: string) => {
    const { available, withdrawn, lifetime } = (await call('GET', '/api/balance', { token })).body;
    return { available, withdrawn, lifetime };
  };

  await t.test('the money leaves at once, and comes back when the payout is cancelled', async (t) => {
    const user = await provider('12.345678');
    const made = await withdraw(user.token, '7.3', {}, {}, '/api/withdraw/request');
    t.equal(made.status, 201);
    t.match(made.body, {
      status: 'pending',
      user_id: user.userId,
      amount: '7.300000',
      network: 'TRON',
      currency: 'USDT',
      target: TARGET,
      tx_reference: null,
      ended_at: null,
    });
    const id = made.body.payment_id;
    t.same(await balanceOf(user.token), {
      available: '5.045678',
      withdrawn: '7.300000',
      lifetime: '12.345678',
    });
    const { rows } = await pool.query(
      "SELECT source_id, kind FROM ledger_transactions WHERE kind LIKE 'payout%' AND source_id = $1",
      [id],
    );
    t.same(rows, [{ source_id: id, kind: 'payout' }]);
    t.same((await call('GET', `/api/withdraw/status/${id}`, { token: user.token })).body, made.body);

    const stranger = await provider('10');
    for (const [method, path] of [
      ['GET', `/api/withdraw/status/${id}`],
      ['POST', `/api/withdraw/${id}/cancel`],
    ] as const) {
      t.equal((await call(method, path, { token: stranger.token })).status, 403, path);
      t.equal((await call(method, path)).status, 401, path);
      t.equal(
        (await call(method, path.replace(id, randomUUID()), { token: user.token })).status,
        404,
        `${path}: no such payout`,
      );
    }
    const cancel = () => call('POST', `/api/withdraw/${id}/cancel`, { token: user.token });
    const cancelled = await cancel();
    t.match(cancelled, { status: 200, body: { status: 'cancelled', ended_at: String } });
    t.same((await cancel()).body, cancelled.body, 'repeating it is harmless');
    t.same(await balanceOf(user.token), {
      available: '12.345678',
      withdrawn: '0.000000',
      lifetime: '12.345678',
    });
    const { rows: audit } = await pool.query(
      'SELECT action, before, after, actor_id FROM audit_log WHERE object_id = $1 ORDER BY id',
      [id],
    );
    t.match(audit, [
      { action: 'payout_requested', actor_id: user.userId, after: { amount: '7.300000' } },
      { action: 'payout_cancelled', before: { status: 'pending' }, after: { status: 'cancelled' } },
    ]);
    t.equal(audit.length, 2);
    await assertLedger(t, pool);
  });

  await t.test('what is refused, and takes nothing', async (t) => {
    const user = await provider('400');
    const cases: [string, object, number, string][] = [
      ['4.999999', {}, 422, 'below_minimum'],
      ['400.000001', {}, 422, 'over_available'],
      ['5', { target: TARGET.replace('ZY', 'YZ') }, 422, 'bad_address'],
      [
        '5',
        { network: 'BSC', target: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed' },
        422,
        'network_not_allowed',
      ],
      ['5', { network: 'DOGE' }, 422, 'network_not_allowed'],
      ['301', {}, 422, 'over_daily_limit'],
      ['0', {}, 400, 'validation_failed'],
      ['-5', {}, 400, 'validation_failed'],
      ['5.0000001', {}, 400, 'validation_failed'],
      ['5e2', {}, 400, 'validation_failed'],
      ['5', { currency: 'BTC' }, 400, 'validation_failed'],
      ['5', { colour: 'red' }, 400, 'validation_failed'],
    ];
    for (const [amount, changes, status, code] of cases)
      t.match(
        await withdraw(user.token, amount, changes),
        { status, body: { code } },
        `${amount} ${JSON.stringify(changes)}`,
      );
    t.equal((await withdraw(admin.token, '5')).status, 403);
    t.same((await balanceOf(user.token)).available, '400.000000');
    const { rows } = await pool.query('SELECT count(*)::int AS n FROM payouts WHERE user_id = $1', [
      user.userId,
    ]);
    t.equal(rows[0].n, 0);

    const first = await withdraw(user.token, '200');
    t.match(await withdraw(user.token, '100.000001'), {
      status: 422,
      body: { code: 'over_daily_limit', left: '100.000000' },
    });
    await call('POST', `/api/withdraw/${first.body.payment_id}/cancel`, { token: user.token });
    t.equal((await withdraw(user.token, '300')).status, 201, 'a cancelled one does not count');

    await call('PATCH', '/api/admin/settings', {
      token: admin.token,
      body: { withdraw_networks: ['TRON', 'BSC'], withdraw_min: '50' },
    });
    const { items } = (await call('GET', '/api/withdraw/networks', { token: user.token })).body;
    t.same(
      items.map((one: { network: string; open: boolean }) => [one.network, one.open]),
      [
        ['TRON', true],
        ['ETH', false],
        ['BSC', true],
        ['POLYGON', false],
      ],
      'pages offer what is open',
    );
    const evm = { network: 'BSC', target: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed' };
    const other = await provider('60');
    t.match(await withdraw(other.token, '49.999999', evm), {
      body: { code: 'below_minimum', minimum: '50.000000' },
    });
    t.equal((await withdraw(other.token, '50', evm)).status, 201, 'settings are in force at once');
    await call('PATCH', '/api/admin/settings', {
      token: admin.token,
      body: { withdraw_networks: ['TRON'], withdraw_min: '5' },
    });
    await assertLedger(t, pool);
  });

  await t.test('one Idempotency-Key, one payout', async (t) => {
    const user = await provider('30');
    const key = { 'idempotency-key': 'withdraw-1' };
    const first = await withdraw(user.token, '10', {}, key);
    t.same((await withdraw(user.token, '10', {}, key)).body, first.body);
    t.match(await withdraw(user.token, '11', {}, key), {
      status: 409,
      body: { code: 'idempotency_key_reused' },
    });
    t.equal((await balanceOf(user.token)).available, '20.000000');
    const at = `/api/withdraw/${first.body.payment_id}/cancel`;
    const cancelKey = { token: user.token, headers: { 'idempotency-key': 'cancel-1' } };
    t.same((await call('POST', at, cancelKey)).body, (await call('POST', at, cancelKey)).body);
    t.equal((await balanceOf(user.token)).available, '30.000000');
  });

  await t.test('lists: own ones, by status, in pages; admins see all', async (t) => {
    const user = await provider('30');
    const ids: string[] = [];
    for (const amount of ['5', '6', '7']) ids.unshift((await withdraw(user.token, amount)).body.payment_id);
    await call('POST', `/api/withdraw/${ids[1]}/cancel`, { token: admin.token });
    const list = async (query: string, token = user.token) =>
      (await call('GET', `/api/withdraw${query}`, { token })).body;
    const idsOf = (page: { items: { payment_id: string }[] }) => page.items.map((item) => item.payment_id);
    t.same(idsOf(await list('')), ids);
    t.same(idsOf(await list('?status=cancelled')), [ids[1]]);
    const first = await list('?limit=2');
    t.same(idsOf(first), ids.slice(0, 2));
    t.same(idsOf(await list(`?limit=2&cursor=${first.next_cursor}`)), ids.slice(2));
    t.ok((await list('', admin.token)).items.length > 3, 'of everyone');
    t.same(idsOf(await list(`?user_id=${user.userId}`, admin.token)), ids);
    t.equal((await list(`?user_id=${admin.userId}`)).status, 403);
  });

  await t.test('states follow each other as drawn; failing gives the money back', async (t) => {
    const user = await provider('300');
    const states = Object.keys(PAYOUT_MOVES) as PayoutStatus[];
    const pathTo: Record<PayoutStatus, PayoutStatus[]> = {
      pending: [],
      processing: ['processing'],
      completed: ['processing', 'completed'],
      failed: ['processing', 'failed'],
      cancelled: ['cancelled'],
    };
    const move = (id: string, to: PayoutStatus) =>
      withTransaction(pool, (client) => movePayout(client, id, to, { txReference: 'tx', reason: 'why' }));
    let paid = 0;
    for (const from of states)
      for (const to of states) {
        const { payment_id: id } = (await withdraw(user.token, '5')).body;
        for (const step of pathTo[from]) await move(id, step);
        const answer = await move(id, to);
        const legal = PAYOUT_MOVES[from].includes(to);
        t.match(
          answer,
          legal ? { ok: true, before: from } : { ok: false, code: 'illegal_move', from },
          `${from} → ${to}`,
        );
        if (!legal && to !== from)
          await t.rejects(
            pool.query(
              'UPDATE payouts SET status = $2, ended_at = CASE WHEN $3 THEN now() END WHERE id = $1',
              [id, to, PAYOUT_MOVES[to].length === 0],
            ),
            { code: '23514' },
            `the database says so, too: ${from} → ${to}`,
          );
        const is = legal ? to : from;
        if (is !== 'cancelled' && is !== 'failed') paid += 5;
      }
    t.same(await move(randomUUID(), 'processing'), { ok: false, code: 'unknown' });
    t.equal((await balanceOf(user.token)).available, `${300 - paid}.000000`);
    const { payment_id: id } = (await withdraw(user.token, '5')).body;
    await move(id, 'processing');
    t.match(await call('POST', `/api/withdraw/${id}/cancel`, { token: user.token }), {
      status: 409,
      body: { code: 'payout_not_pending', from: 'processing' },
    });
    await t.rejects(pool.query('UPDATE payouts SET target = $2 WHERE id = $1', [id, 'T']), { code: '23514' });
    await t.rejects(pool.query('DELETE FROM payouts WHERE id = $1', [id]), { code: '23001' });
    await assertLedger(t, pool);
  });

  await t.test(
    '100 withdrawals of the whole balance at once, on two API processes: one succeeds',
    async (t) => {
      const apis = await startApiProcesses(t, 2, world, env);
      const api = (i: number) => apis[i % apis.length] as ApiProcess;
      const user = await provider('250');
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          // Each process gets both paths.
          api(i).post(i % 3 === 0 ? '/api/withdraw' : '/api/withdraw/request', user.token, body('250')),
        ),
      );
      const by = (status: number) => answers.filter((a) => a.status === status);
      t.equal(by(201).length, 1);
      t.equal(by(422).length, 99);
      t.ok(by(422).every((a) => a.body.code === 'over_available'));
      t.same(await balanceOf(user.token), {
        available: '0.000000',
        withdrawn: '250.000000',
        lifetime: '250.000000',
      });
      const [{ body: made } = { body: null }] = by(201);
      const payouts = await pool.query('SELECT id, status FROM payouts WHERE user_id = $1', [user.userId]);
      t.same(payouts.rows, [{ id: made.payment_id, status: 'pending' }], 'one payout');
      /** What payouts took from the provider's money and gave back, in order. */
      const takenFrom = async (userId: string) =>
        (
          await pool.query(
            `SELECT x.kind, x.source_id, e.amount_micros::text AS micros
               FROM ledger_entries e JOIN ledger_transactions x ON x.id = e.transaction_id
               JOIN ledger_accounts a ON a.id = e.account_id
              WHERE a.kind = 'provider_available' AND a.owner_id = $1 AND x.kind IN ('payout', 'payout_refund')
              ORDER BY e.account_version`,
            [userId],
          )
        ).rows;
      const hold = { kind: 'payout', source_id: made.payment_id, micros: '-250000000' };
      t.same(await takenFrom(user.userId), [hold], 'and its money is held once');
      t.same(await invariants(pool), []);

      const cancels = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          api(i).post(`/api/withdraw/${made.payment_id}/cancel`, user.token),
        ),
      );
      t.ok(cancels.every((a) => a.status === 200 && a.body.status === 'cancelled'));
      t.equal((await balanceOf(user.token)).available, '250.000000', 'and comes back once');
      t.same(await takenFrom(user.userId), [hold, { ...hold, kind: 'payout_refund', micros: '250000000' }]);

      // Within the daily limit the money decides, beyond it the limit does, whatever comes at once.
      const rich = await provider('1000');
      const many = await Promise.all(
        Array.from({ length: 40 }, (_, i) => api(i).post('/api/withdraw', rich.token, body('20'))),
      );
      t.equal(many.filter((a) => a.status === 201).length, 15, '15 × 20 = 300, the limit of a day');
      t.ok(many.every((a) => a.status === 201 || a.body.code === 'over_daily_limit'));
      t.equal((await balanceOf(rich.token)).available, '700.000000');
      t.equal((await takenFrom(rich.userId)).length, 15);
      t.same(await invariants(pool), []);
    },
  );
});
