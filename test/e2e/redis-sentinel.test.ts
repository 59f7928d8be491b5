/** The master of the live state is killed, and a sentinel makes its replica the master. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { startFailoverWorld } from '../helpers/failover-world.js';
import { startRedisWithSentinel } from '../helpers/redis-groups.js';
import { redisKinds } from '../helpers/services.js';

t.setTimeout(120_000);

if (redisKinds().includes('redis-server'))
  t.test('the master is killed: buyers notice nothing, every byte is paid for once', async (t) => {
    const group = await startRedisWithSentinel();
    t.teardown(() => group.stop());
    const { world, traffic, share, assertBooked } = await startFailoverWorld(t, group.url, 'one');
    t.match(world.redis.primaries, `:${group.nodes[0]?.port}`);
    const buyer = traffic();
    while (buyer.done < 5) await delay(10);
    await group.nodes[0]?.kill();
    const before = buyer.done;
    while (!world.redis.primaries.endsWith(`:${group.nodes[1]?.port}`)) await delay(10);
    t.ok(buyer.done > before, 'traffic goes on while nobody is master');
    // What needs the new master: a ticket, its claim, a wallet.
    await share();
    const after = buyer.done;
    while (buyer.done < after + 5) await delay(10);
    await buyer.stop();
    t.same(buyer.refused, []);
    await assertBooked(t);
  });
else t.pass('there is no redis-server here');
