import t from 'tap';
import { isMicros, microsOfDecimal, shareOf } from '../../../control-plane/cryptomus/amounts.js';
import { CryptomusClient, idOfOrder, orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { CRYPTOMUS_KEYS, CryptomusServer } from '../../helpers/cryptomus.js';

const ID = '7b0c2f4e-3c58-4a39-9d0f-0f6a5a0d4a11';
const payout = {
  orderId: orderIdOf(ID),
  amount: '5.000000',
  currency: 'USDT',
  network: 'TRON',
  address: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
  callbackUrl: 'https://api.example/hook',
};

t.test('calls of Cryptomus and what they come to', async (t) => {
  const server = await CryptomusServer.start(t);
  const settings = {
    url: server.url,
    merchantId: CRYPTOMUS_KEYS.TS_CRYPTOMUS_MERCHANT_ID,
    paymentKey: CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYMENT_KEY,
    payoutKey: CRYPTOMUS_KEYS.TS_CRYPTOMUS_PAYOUT_KEY,
    timeoutMs: 5_000,
  };
  const client = new CryptomusClient(settings);

  await t.test('done: signed as documented, the same order id once', async (t) => {
    const made = await client.createPayout(payout);
    t.match(made, { outcome: 'done', result: { status: 'process', isFinal: false, txid: null } });
    t.same(await client.createPayout({ ...payout, amount: '6' }), made, 'the payout there is');
    t.same(await client.payoutInfo(payout.orderId), made);
    t.match(server.callsOf('/v1/payout')[0], {
      order_id: '7b0c2f4e3c584a399d0f0f6a5a0d4a11',
      is_subtract: true,
      url_callback: 'https://api.example/hook',
    });
    const invoice = { orderId: payout.orderId, amount: '10.00', lifetimeS: 600, callbackUrl: null };
    const opened = await client.createInvoice(invoice);
    t.match(opened, { outcome: 'done', result: { url: /^https:/, expiresAt: Date, paymentAmount: null } });
    t.notOk('url_callback' in (server.callsOf('/v1/payment')[0] as object));
    t.same(await client.paymentInfo(payout.orderId), opened);
    const services = await client.payoutServices();
    t.match(services, {
      outcome: 'done',
      result: [{ network: 'TRON', isAvailable: true, minAmount: '1.00000000' }],
    });
    t.same(await client.paymentServices(), services);
  });

  await t.test('refused: state 1 with 200 and with 422, a wrong key', async (t) => {
    const other = { ...payout, orderId: 'b'.repeat(32) };
    server.disturb('/v1/payout', {
      kind: 'answer',
      status: 200,
      body: '{"state":1,"message":"Not enough funds"}',
    });
    t.same(await client.createPayout(other), { outcome: 'refused', message: 'Not enough funds' });
    t.same(await client.createPayout({ ...other, orderId: 'with blank' }), {
      outcome: 'refused',
      message: 'order_id: validation.alpha_dash',
    });
    const wrong = new CryptomusClient({ ...settings, payoutKey: 'another' });
    t.same(await wrong.createPayout(other), { outcome: 'refused', message: 'Invalid Sign' });
    t.same(
      await wrong.payoutInfo(payout.orderId),
      { outcome: 'unknown', message: 'Invalid Sign' },
      'tells nothing',
    );
    t.same(await client.payoutInfo(other.orderId), { outcome: 'absent' });
    t.same(await client.paymentInfo(other.orderId), { outcome: 'absent' });
    t.equal(server.payouts.size, 1);
  });

  await t.test('unknown: everything that may have been done', async (t) => {
    const hasty = new CryptomusClient({ ...settings, timeoutMs: 100 });
    const bodies: [number, string][] = [
      [500, '{"state":1,"message":"Server error, #1"}'],
      [502, '<html>Bad gateway</html>'],
      [429, '{"message":"Too Many Attempts."}'],
      [403, '<html>Just a moment…</html>'],
      [200, ''],
      [200, '{"state":0}'],
      [200, '{"state":0,"result":{"uuid":"x","status":"paid","amount":"1","currency":"USDT"}}'],
      [200, '[]'],
      [204, ''],
    ];
    for (const [status, body] of bodies) {
      server.disturb('/v1/payout', { kind: 'answer', status, body });
      t.match(await client.createPayout(payout), { outcome: 'unknown' }, `${status} ${body}`);
    }
    for (const kind of ['cut', 'drop'] as const) {
      server.disturb('/v1/payout', { kind });
      t.match(await client.createPayout(payout), { outcome: 'unknown', message: /no answer/ }, kind);
    }
    server.disturb('/v1/payout', { kind: 'stall' });
    t.same(await hasty.createPayout(payout), { outcome: 'unknown', message: 'no answer: TimeoutError' });
    const nobody = new CryptomusClient({ ...settings, url: 'http://127.0.0.1:1' });
    t.match(await nobody.createPayout(payout), { outcome: 'unknown' });
  });
});

t.test('order ids and amounts', (t) => {
  t.equal(idOfOrder(orderIdOf(ID)), ID);
  for (const other of [null, 5, '', ID, 'x'.repeat(32), `${orderIdOf(ID)}0`]) t.equal(idOfOrder(other), null);
  t.equal(microsOfDecimal('12.3456789'), 12_345_678n);
  t.equal(microsOfDecimal('7'), 7_000_000n);
  for (const bad of ['', '-1', '1e3', '1.', '.5', 'NaN', ' 1']) t.equal(microsOfDecimal(bad), null, bad);
  t.equal(shareOf(25_000_000n, '24.9', '25.00000000'), 24_900_000n);
  t.equal(shareOf(10_000_000n, '1', '3'), 3_333_333n, 'rounded down');
  t.equal(shareOf(10_000_000n, '1', '0'), null);
  t.ok(isMicros('5.00000000', 5_000_000n));
  t.notOk(isMicros('5.00000001', 5_000_000n));
  t.end();
});
