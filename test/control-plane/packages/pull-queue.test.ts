import { randomUUID } from 'node:crypto';
import t from 'tap';
import type { PullFilter } from '../../../control-plane/packages/allocate.js';
import { PullQueue } from '../../../control-plane/packages/pull-queue.js';
import { readClaim } from '../../../gateway/live/claims.js';
import { readPackageRoute } from '../../../gateway/live/store.js';
import { startWorld } from '../../helpers/control-plane.js';
import { addBuyer, addUser } from '../../helpers/money-world.js';

const ANY: PullFilter = { countries: null, city: null, asn: null, bytesMin: null, packageId: null };

t.test('pulls that come together', async (t) => {
  const world = await startWorld(t);
  const { pool, redis, collaborators } = world;
  const userId = await addUser(pool);
  const make = async (count: number, from = 0) => {
    for (let i = 0; i < count; i++)
      await pool.query(
        `INSERT INTO packages (id, user_id, exit_ip, size_bytes, origin, created_at)
         VALUES ($1, $2, $3, 1000, 'ingest', now() + $4 * interval '1 ms')`,
        [randomUUID(), userId, `198.51.100.${from + i}`, i],
      );
  };
  const buyers = await Promise.all(
    Array.from({ length: 12 }, async () => ({ buyerId: await addBuyer(pool), account: 'me' })),
  );
  const transactions = async () => {
    const { rows } = await pool.query('SELECT count(DISTINCT xmin::text)::int AS n FROM allocations');
    return rows[0].n as number;
  };

  await t.test('each gets its own, the first two the oldest, in few transactions', async (t) => {
    await make(30);
    const queue = new PullQueue(collaborators, 60_000);
    const answers = await Promise.all(buyers.map((buyer) => queue.pull(buyer, ANY, 2)));
    t.same(
      answers.map((packages) => packages.length),
      buyers.map(() => 2),
    );
    const all = answers.flat();
    t.equal(new Set(all.map((p) => p.packageId)).size, 24, 'no package twice');
    t.equal(new Set(all.map((p) => p.password)).size, 24);
    // Two transactions are under way at once: the one of the second buyer may look first.
    const firstTwo = answers.slice(0, 2).flatMap((packages) => packages.map(({ exitIp }) => exitIp));
    t.same(
      firstTwo.sort(),
      [0, 1, 2, 3].map((n) => `198.51.100.${n}`),
      'who came first has the oldest',
    );
    t.ok((await transactions()) <= 4, `${await transactions()} transactions`);
    for (const [i, packages] of answers.entries())
      for (const { packageId, exitIp, allocationId } of packages) {
        const buyerId = buyers[i]?.buyerId;
        const { rows } = await pool.query('SELECT id, buyer_id FROM allocations WHERE package_id = $1', [
          packageId,
        ]);
        t.same(rows, [{ id: allocationId, buyer_id: buyerId }]);
        t.match(await readClaim(redis, userId, exitIp), { allocationId, buyerId });
        t.match(await readPackageRoute(redis, packageId), { allocationId, buyerId });
      }
  });

  await t.test('when there are too few, those who came first get them', async (t) => {
    const queue = new PullQueue(collaborators, 60_000);
    const counts = (await Promise.all(buyers.map((buyer) => queue.pull(buyer, ANY, 1)))).map((p) => p.length);
    t.equal(
      counts.reduce((a, b) => a + b, 0),
      6,
    );
    t.same(await queue.pull(buyers[0] as { buyerId: string; account: string }, ANY, 1), []);
  });

  await t.test('those who ask for something else do not wait in the same line', async (t) => {
    await make(4, 100);
    const queue = new PullQueue(collaborators, 60_000);
    const [first, second, third] = buyers as [{ buyerId: string; account: string }, never, never];
    const [any, big, german] = await Promise.all([
      queue.pull(first, ANY, 1),
      queue.pull(second, { ...ANY, bytesMin: 1_000n }, 1),
      queue.pull(third, { ...ANY, countries: ['DE'] }, 1),
    ]);
    t.same([any.length, big.length, german.length], [1, 1, 0]);
  });

  await t.test('what fails, fails for those who were served together, and not for the next', async (t) => {
    await make(4, 200);
    let broken = true;
    const flaky = new Proxy(pool, {
      get: (target, name) =>
        name === 'connect' && broken
          ? () => Promise.reject(new Error('no connection'))
          : Reflect.get(target, name, target),
    });
    const queue = new PullQueue({ ...collaborators, pool: flaky }, 60_000);
    const [buyer] = buyers as [{ buyerId: string; account: string }];
    const outcomes = await Promise.allSettled([queue.pull(buyer, ANY, 1), queue.pull(buyer, ANY, 1)]);
    t.same(
      outcomes.map((o) => o.status),
      ['rejected', 'rejected'],
    );
    broken = false;
    t.equal((await queue.pull(buyer, ANY, 1)).length, 1);
  });
});
