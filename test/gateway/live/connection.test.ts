import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import { LiveStateAwayError } from '../../../gateway/live/connection.js';
import type { CommandCall } from '../../../gateway/live/live-redis.js';
import { freePort, redisKinds } from '../../helpers/services.js';
import { stopwatch } from '../../helpers/stopwatch.js';
import { connect, onEachRedis, recordingLog } from './servers.js';

onEachRedis(t, async (t, server) => {
  for (const protocol of [2, 3] as const)
    t.test(`RESP${protocol}: big numbers are exact, pipelines and scripts work`, async (t) => {
      const redis = server.connect(t, { protocol });
      await redis.set('big', '9223372036854775807');
      t.equal(await redis.get('big'), '9223372036854775807');
      await redis.hset('hash', 'a', '1', 'b', '2');
      t.same(await redis.hgetall('hash'), { a: '1', b: '2' });
      t.same(await redis.claimTake('c', '{"allocationId":"x"}', '1000', 'x', ''), [1, '']);
      await redis.script('FLUSH');
      t.same(
        await redis.claimTake('c', '{"allocationId":"x"}', '1000', 'x', ''),
        [1, ''],
        'after a script flush',
      );
    });

  t.test(
    'each command has its own reply, also when some of a batch were refused before it was sent',
    async (t) => {
      const redis = server.connect(t, { offlineCommandsMax: 5 });
      t.not(redis.status, 'ready');
      const calls = Array.from({ length: 8 }, (_, n): CommandCall => ['set', `k${n}`, `v${n}`]);
      const replies = await redis.sendAll(calls);
      t.same(
        replies.map(([error, reply]) => (error === null ? reply : error.constructor)),
        [...Array(5).fill('OK'), ...Array(3).fill(LiveStateAwayError)],
      );
      t.equal(await redis.incr('counter'), 1);
      const read = await redis.sendAll(calls.map(([, key]) => ['get', key as string]));
      t.same(read, [...Array(5).keys()].map((n) => [null, `v${n}`]).concat(Array(3).fill([null, null])));
    },
  );
});

for (const kind of redisKinds())
  t.test(`${kind}: away and back`, async (t) => {
    const first = await startRedis({ prefer: kind });
    t.teardown(() => first.stop());
    const log = recordingLog();
    const redis = connect(t, { url: first.url, log });
    await redis.set('k', '1');
    await first.kill();

    const tookMs = stopwatch();
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => redis.get('k')));
    t.ok(outcomes.every((outcome) => outcome.status === 'rejected'));
    t.ok(tookMs() < 1_500, 'they fail fast');
    await t.rejects(redis.get('k'), 'and go on failing');
    t.equal(
      log.events.filter((event) => event === 'live_state_away').length,
      1,
      'logged once, not at each attempt',
    );

    const second = await startRedis({ prefer: kind, port: first.port });
    t.teardown(() => second.stop());
    if (redis.status !== 'ready') await once(redis, 'ready');
    t.equal(await redis.get('k'), null, 'it came back empty');
    redis.disconnect();
    await once(redis, 'end');
    t.same(
      log.events,
      ['live_state_connected', 'live_state_away', 'live_state_connected'],
      'closing is not away',
    );
  });

t.test('a server that takes connections and never answers', async (t) => {
  const sockets = new Set<Socket>();
  const mute = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
  }).listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    mute.close();
  });
  const { port } = mute.address() as { port: number };
  const redis = connect(t, { url: `redis://127.0.0.1:${port}`, commandTimeoutMs: 200 });
  const tookMs = stopwatch();
  await t.rejects(redis.get('k'));
  t.ok(tookMs() < 1_000);
});

t.test('what waits for a connection is bounded', async (t) => {
  const redis = connect(t, { url: `redis://127.0.0.1:${await freePort()}`, offlineCommandsMax: 5 });
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => redis.get('k')));
  const refused = outcomes.filter((o) => o.status === 'rejected' && o.reason instanceof LiveStateAwayError);
  t.ok(outcomes.every((outcome) => outcome.status === 'rejected'));
  t.equal(refused.length, 3);
  const later = await Promise.allSettled([redis.get('k')]);
  t.notOk((later[0] as PromiseRejectedResult).reason instanceof LiveStateAwayError, 'room again afterwards');
});
