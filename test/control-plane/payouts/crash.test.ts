import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { startApiProcesses } from '../../helpers/api-processes.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';

t.test('control planes that are killed while they pay out: each payout is made once', async (t) => {
  const world = await startPaymentsWorld(t);
  const { cryptomus, pool } = world;
  const env = { ...cryptomus.env, TS_CRYPTOMUS_INTERVAL_MS: '20', TS_API_REQUESTS_PER_MINUTE: '100000' };
  const start = (t2: typeof t) => startApiProcesses(t2, 2, world, env);
  const user = await world.provider('100');
  const readyFor = async (id: string, sendState: string) => {
    for (;;) {
      const { rows } = await pool.query('SELECT state FROM payout_sends WHERE payout_id = $1', [id]);
      if (rows[0]?.state === sendState) return;
      await delay(20); // a commit of another process is no event here
    }
  };

  for (const when of ['between send and answer', 'between look and booking'] as const) {
    await t.test(when, { timeout: 120_000 }, async (t) => {
      const id = await world.withdraw(user, '7');
      const path = when === 'between send and answer' ? '/v1/payout' : '/v1/payout/info';
      const doomed = await start(t);
      if (path === '/v1/payout') cryptomus.disturb(path, { kind: 'stall' });
      const struck = cryptomus.called(path);
      await world.approve(id);
      if (path === '/v1/payout/info') {
        await readyFor(id, 'accepted');
        cryptomus.change(orderIdOf(id), { status: 'paid', is_final: true, txid: 'chain' });
        cryptomus.disturb(path, { kind: 'stall' });
        await world.due(id);
      }
      await struck;
      await Promise.all(doomed.map((api) => api.kill()));
      t.match(await world.payment(id), { status: 'processing', calls: 1 });

      await start(t);
      await world.due(id); // the dead one's lease is over
      await readyFor(id, path === '/v1/payout' ? 'accepted' : 'ended');
      if (path === '/v1/payout') {
        cryptomus.change(orderIdOf(id), { status: 'paid', is_final: true, txid: 'chain' });
        await world.due(id);
        await readyFor(id, 'ended');
      }
      t.match(await world.payment(id), { status: 'completed', tx_reference: 'chain', calls: 1 });
      const made = cryptomus.callsOf('/v1/payout').filter((body) => body.order_id === orderIdOf(id));
      t.equal(made.length, 1, 'Cryptomus was called once');
      t.same(await invariants(pool), []);
    });
  }
  t.equal(cryptomus.payouts.size, 2);
  t.equal(await world.available(user), '86.000000');
});
