import t from 'tap';
import { CryptomusClient, orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { releaseSmallPayouts } from '../../../control-plane/payouts/release.js';
import { PayoutSender } from '../../../control-plane/payouts/sender.js';
import { cryptomusOf } from '../../../control-plane/services.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn } from '../../helpers/control-plane.js';
import { type PaymentsWorld, startPaymentsWorld } from '../../helpers/payments-world.js';

const created = (world: PaymentsWorld, id: string) =>
  world.cryptomus.callsOf('/v1/payout').filter((body) => body.order_id === orderIdOf(id)).length;

/** A sender beside the world's own, with a client that may be broken. */
function otherSender(world: PaymentsWorld, client: Partial<CryptomusClient> = {}, resendAfterS?: number) {
  const real = new CryptomusClient(cryptomusOf(world.config) as never);
  return new PayoutSender({
    pool: world.pool,
    log: silentLog,
    cryptomus: {
      createPayout: client.createPayout ?? ((p) => real.createPayout(p)),
      payoutInfo: client.payoutInfo ?? ((o) => real.payoutInfo(o)),
    },
    rules: () => ({ autoApproveMicrosMax: 0n, twoAdminMicrosMin: 10n ** 12n }),
    callbackUrl: null,
    timeoutMs: 2_000,
    intervalMs: 1_000,
    ...(resendAfterS !== undefined && { resendAfterS }),
  });
}

t.test('a released payout on its way', async (t) => {
  const world = await startPaymentsWorld(t);
  const { pool, cryptomus, services, due } = world;
  const sender = services.payouts;
  /** An approved payout of $7 of a provider with $10. */
  const released = async () => {
    const user = await world.provider('10');
    const id = await world.withdraw(user, '7');
    t.match(await world.approve(id), { status: 200, body: { status: 'processing', send_state: 'queued' } });
    return { user, id, orderId: orderIdOf(id) };
  };
  t.afterEach(async () => t.same(await invariants(pool), []));

  await t.test('sent, looked up, paid', async (t) => {
    const { user, id, orderId } = await released();
    t.equal(await sender.runOnce(), 1);
    t.match(await world.payment(id), { status: 'processing', send_state: 'accepted', calls: 1 });
    t.match(cryptomus.callsOf('/v1/payout').at(-1), {
      amount: '7.000000',
      currency: 'USDT',
      network: 'TRON',
      is_subtract: true,
      url_callback: 'https://api.example/api/webhook/cryptomus',
    });
    t.equal(await sender.runOnce(), 0, 'not due yet');
    cryptomus.change(orderId, { status: 'check' });
    await due(id);
    await sender.runOnce();
    t.match(await world.payment(id), { status: 'processing', provider_status: 'check' });
    cryptomus.change(orderId, { status: 'paid', is_final: true, txid: 'chain-1' });
    await due(id);
    await sender.runOnce();
    t.match(await world.payment(id), { status: 'completed', tx_reference: 'chain-1', send_state: 'ended' });
    await due(id);
    t.equal(await sender.runOnce(), 0, 'it is over');
    t.equal(created(world, id), 1);
    t.equal(await world.available(user), '3.000000');
    const { rows } = await pool.query('SELECT action FROM audit_log WHERE object_id = $1 ORDER BY id', [id]);
    t.same(
      rows.map((r) => r.action),
      ['payout_requested', 'payout_approved', 'payout_sent', 'payout_completed'],
    );
  });

  await t.test('the money comes back on a failed status that is final, and only then', async (t) => {
    for (const status of ['fail', 'cancel', 'system_fail']) {
      const { user, id, orderId } = await released();
      await sender.runOnce();
      cryptomus.change(orderId, { status, is_final: false });
      await due(id);
      await sender.runOnce();
      t.match(await world.payment(id), { status: 'processing', provider_status: status });
      t.equal(await world.available(user), '3.000000', `${status} may still be sent`);
      cryptomus.change(orderId, { is_final: true });
      await due(id);
      await sender.runOnce();
      t.match(await world.payment(id), { status: 'failed', failure_reason: `Cryptomus: ${status}` });
      t.equal(await world.available(user), '10.000000');
      cryptomus.change(orderId, { status: 'paid' });
      await due(id);
      await sender.runOnce();
      t.equal(await world.available(user), '10.000000');
    }
  });

  await t.test('an answer that is lost is asked about, not sent again', async (t) => {
    for (const kind of ['cut', 'stall'] as const) {
      const { id } = await released();
      cryptomus.disturb('/v1/payout', { kind });
      await sender.runOnce();
      t.match(await world.payment(id), { send_state: 'unknown', last_error: /no answer/ }, kind);
      await due(id);
      await sender.runOnce();
      t.match(await world.payment(id), { send_state: 'accepted', calls: 1 });
      t.equal(created(world, id), 1);
    }
  });

  await t.test('a request that is lost is sent again once Cryptomus says it has none, later', async (t) => {
    const { id } = await released();
    cryptomus.disturb('/v1/payout', { kind: 'drop' });
    await sender.runOnce();
    cryptomus.disturb('/v1/payout/info', { kind: 'answer', status: 502, body: 'bad gateway' });
    await due(id);
    await sender.runOnce();
    t.match(await world.payment(id), { send_state: 'unknown', last_error: 'HTTP 502', calls: 1 });
    await due(id);
    await sender.runOnce();
    t.match(await world.payment(id), { send_state: 'unknown', calls: 1 }, 'it may still arrive');
    await pool.query("UPDATE payout_sends SET sent_at = now() - interval '121 s' WHERE payout_id = $1", [id]);
    await due(id);
    await sender.runOnce();
    t.match(await world.payment(id), { send_state: 'accepted', calls: 2 });
    t.equal(cryptomus.payouts.has(orderIdOf(id)), true);
  });

  await t.test('a crash between send and answer: one payout', async (t) => {
    const { id, orderId } = await released();
    const real = new CryptomusClient(cryptomusOf(world.config) as never);
    const dies = otherSender(world, {
      createPayout: async (payout) => {
        await real.createPayout(payout);
        throw new Error('killed');
      },
    });
    await t.rejects(dies.work(id), { message: 'killed' });
    t.match(await world.payment(id), { send_state: 'sending', calls: 1 });
    t.equal(await sender.runOnce(), 0, 'another worker has it');
    await due(id); // its lease is over
    await sender.runOnce();
    t.match(await world.payment(id), {
      send_state: 'accepted',
      calls: 1,
      provider_uuid: cryptomus.payouts.get(orderId)?.uuid,
    });
    t.equal(created(world, id), 1);
  });

  await t.test('a crash before the send: sent once, after all', async (t) => {
    const { id } = await released();
    const dies = otherSender(world, { createPayout: () => Promise.reject(new Error('killed')) });
    await t.rejects(dies.work(id), { message: 'killed' });
    await due(id);
    await otherSender(world, {}, 0).runOnce();
    t.match(await world.payment(id), { send_state: 'accepted', calls: 2 });
    t.equal(created(world, id), 1);
  });

  await t.test('a worker that lost its lease writes nothing', async (t) => {
    const { user, id, orderId } = await released();
    await sender.runOnce();
    const real = new CryptomusClient(cryptomusOf(world.config) as never);
    const slow = otherSender(world, {
      payoutInfo: async (order) => {
        const stale = await real.payoutInfo(order);
        cryptomus.change(orderId, { status: 'paid', is_final: true, txid: 'chain-2' });
        await due(id);
        await sender.runOnce();
        return stale.outcome === 'done'
          ? { ...stale, result: { ...stale.result, status: 'fail', isFinal: true } }
          : stale;
      },
    });
    await due(id);
    await slow.work(id);
    t.match(await world.payment(id), { status: 'completed', tx_reference: 'chain-2' });
    t.equal(await world.available(user), '3.000000');
  });

  await t.test('refused: an admin decides; the money is not given back by itself', async (t) => {
    for (const [status, body] of [
      [200, '{"state":1,"message":"Not enough funds"}'],
      [422, '{"state":1,"errors":{"address":["validation.address"]}}'],
    ] as const) {
      const { user, id } = await released();
      cryptomus.disturb('/v1/payout', { kind: 'answer', status, body });
      await sender.runOnce();
      t.match(await world.payment(id), {
        status: 'processing',
        send_state: 'refused',
        last_error: /funds|address/,
      });
      t.equal(await world.available(user), '3.000000');
      await due(id);
      t.equal(await sender.runOnce(), 0, 'nobody sends it again by itself');
      if (status === 200) {
        t.match(await world.approve(id), { status: 200, body: { send_state: 'queued' } });
        await sender.runOnce();
        t.match(await world.payment(id), { send_state: 'accepted' });
        t.match(await world.reject(id), { status: 409, body: { code: 'payout_not_pending' } });
      } else {
        t.match(await world.reject(id), {
          status: 200,
          body: { status: 'failed', failure_reason: 'not today' },
        });
        t.equal(await world.available(user), '10.000000');
      }
    }
  });

  await t.test('refused, but an earlier call was not', async (t) => {
    const { id } = await released();
    const real = new CryptomusClient(cryptomusOf(world.config) as never);
    await otherSender(world, {
      createPayout: async (payout) => {
        await real.createPayout(payout);
        return { outcome: 'refused', message: 'Not enough funds' };
      },
    }).work(id);
    t.match(await world.payment(id), { send_state: 'accepted' });
  });

  await t.test(
    'what Cryptomus has otherwise than asked for is never paid or given back by itself',
    async (t) => {
      const { user, id, orderId } = await released();
      await sender.runOnce();
      cryptomus.change(orderId, { status: 'paid', is_final: true, amount: '70.00000000' });
      await due(id);
      await sender.runOnce();
      t.match(await world.payment(id), { status: 'processing', last_error: 'amount 70.00000000' });
      t.equal(await world.available(user), '3.000000');
      cryptomus.change(orderId, { amount: '7' });
      await due(id);
      await sender.runOnce();
      t.match(await world.payment(id), { status: 'completed' });
    },
  );

  await t.test('many workers at once: each payout is sent once', async (t) => {
    const ids: string[] = [];
    for (let i = 0; i < 12; i++) ids.push((await released()).id);
    const senders = [sender, ...Array.from({ length: 4 }, () => otherSender(world))];
    await Promise.all(senders.map((s) => s.runOnce()));
    for (const id of ids) t.equal(created(world, id), 1);
  });

  await t.test('released by the rule: small ones of active providers', async (t) => {
    for (const { token } of [world.admin, await signedIn(world, 'admin')])
      await world.call('PATCH', '/api/admin/settings', { token, body: { payout_auto_approve_max: '6' } });
    const [small, large, banned] = [
      await world.provider('10'),
      await world.provider('10'),
      await world.provider('10'),
    ];
    const smallId = await world.withdraw(small, '6');
    const largeId = await world.withdraw(large, '6.000001');
    const bannedId = await world.withdraw(banned, '6');
    await pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [banned.userId]);
    await sender.runOnce();
    t.match(await world.payment(smallId), { status: 'processing', send_state: 'accepted', approvals: [] });
    t.match(await world.payment(largeId), { status: 'pending' });
    t.match(await world.payment(bannedId), { status: 'pending' });
    const rules = { autoApproveMicrosMax: 100_000_000n, twoAdminMicrosMin: 6_000_000n };
    t.equal(await releaseSmallPayouts(pool, rules), 0, 'nothing that takes two admins');
    t.equal(await releaseSmallPayouts(pool, { ...rules, twoAdminMicrosMin: 6_000_001n }), 1);
  });
});

t.test('without Cryptomus nothing is released or sent', async (t) => {
  const world = await startPaymentsWorld(t, {
    env: {
      TS_CRYPTOMUS_MERCHANT_ID: '',
      TS_CRYPTOMUS_PAYMENT_KEY: '',
      TS_CRYPTOMUS_PAYOUT_KEY: '',
      TS_PAYOUT_AUTO_APPROVE_MICROS_MAX: '100000000',
    },
  });
  const id = await world.withdraw(await world.provider('10'), '7');
  t.equal(await world.services.payouts.runOnce(), 0);
  const detail =
    /Set TS_CRYPTOMUS_MERCHANT_ID, .*TS_CRYPTOMUS_PAYOUT_KEY .* in the environment of every control plane/;
  t.match(await world.approve(id), { status: 503, body: { code: 'payments_unavailable', detail } });
  const buyer = await world.buyer();
  const options = { token: buyer.token, body: { amount: '25.00' } };
  t.match((await world.call('POST', '/api/buyer/topups', options)).body, { status: 503, detail });
  t.match(await world.payment(id), { status: 'pending' });
  t.match(await world.reject(id), { status: 200, body: { status: 'cancelled' } });
});
