import t from 'tap';
import { connect, onEachRedis } from '../../gateway/live/servers.js';
import { measureAllocation } from './allocation.js';

onEachRedis(t, async (t, server) => {
  t.test('figures of a small load; what finds no exit fails it', async (t) => {
    const redis = connect(t, { url: server.url });
    const load = { devices: 1_200, connections: 2_000, claims: 40, concurrency: 8 };
    const figures = await measureAllocation(redis, load);
    for (const name of ['allocation_held_per_s', 'allocation_city_per_s', 'allocation_claims_per_s'])
      t.ok((figures[name] ?? 0) > 0, `${name} ${figures[name]}`);
    t.ok((figures.allocation_held_per_s ?? 0) > (figures.allocation_claims_per_s ?? 0), 'memory beats Redis');
    t.same(await redis.keys('ts:claim:*'), [], 'nothing is left behind');
    await t.rejects(measureAllocation(redis, { ...load, devices: 10 }), /NO_PEER/);
  });
});
