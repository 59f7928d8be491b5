import t from 'tap';
import { chargeMicros } from '../../../control-plane/ledger/money.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { startMoneyDatabase, startMoneyRedis } from '../../helpers/money-world.js';
import { measureSettlement } from './throughput.js';

/** What even a machine that runs other tests meanwhile reaches; a quiet one with 2 cores does several times this. */
const FLOOR_PER_S = 1_500;

t.test('settlement keeps up with thousands of dirty meters a second', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const load = { meters: 10_000, sessions: 200, buyers: 100, rounds: 3 };
  const { meters, insertedPerS, grownPerS } = await measureSettlement(pool, redis, load);
  const round = (perS: number) => Math.round(perS).toLocaleString('en');
  t.comment(`meters/s: ${round(insertedPerS)} new, ${grownPerS.map(round).join(', ')} grown`);
  t.ok(Math.max(...grownPerS) >= FLOOR_PER_S, `at least ${FLOOR_PER_S} meters/s in the best round`);

  const { rows } = await pool.query<{ charged: bigint }>(
    'SELECT sum(charged_micros)::bigint AS charged FROM meters',
  );
  const charged = meters.reduce(
    (sum, m) => sum + chargeMicros(BigInt(m.bytesUp + m.bytesDown), BigInt(m.prices.buyer)),
    0n,
  );
  t.equal(rows[0]?.charged, charged, 'and to the micro-dollar');
  t.same(await invariants(pool), []);
});
