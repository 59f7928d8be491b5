import t from 'tap';
import { type Claim, readClaim, releaseClaim, takeClaim, takeClaims } from '../../../gateway/live/claims.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { claimRecord, onEachRedis, recordingLog } from './servers.js';

const EXIT = { providerId: 'p1', exitIp: '203.0.113.7' };
const claim = (allocationId: string, more: Partial<Claim> = {}): Claim => ({
  ...EXIT,
  record: claimRecord(allocationId),
  ttlMs: 30_000,
  ...more,
});

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('one holder; its own again; free after release', async (t) => {
    const redis = server.connect(t);
    t.same(await takeClaim(redis, claim('a')), { held: true });
    t.same(await takeClaim(redis, claim('a')), { held: true });
    t.same(await takeClaim(redis, claim('b')), { held: false, holder: claimRecord('a') });
    t.equal(await releaseClaim(redis, { ...EXIT, allocationId: 'b' }), false, 'not the holder');
    t.same(await readClaim(redis, EXIT.providerId, EXIT.exitIp), claimRecord('a'));
    t.equal(await releaseClaim(redis, { ...EXIT, allocationId: 'a' }), true);
    t.equal(await releaseClaim(redis, { ...EXIT, allocationId: 'a' }), false, 'once');
    t.equal(await readClaim(redis, EXIT.providerId, EXIT.exitIp), null);
    t.same(await takeClaim(redis, claim('b')), { held: true });
    t.same(await takeClaim(redis, claim('a', { exitIp: '203.0.113.8' })), { held: true }, 'another exit');
  });

  t.test('100 takers over 10 connections: one wins, every other is told who', async (t) => {
    const connections = Array.from({ length: 10 }, () => server.connect(t));
    for (let round = 0; round < 3; round++) {
      const exitIp = `198.51.100.${round}`;
      const outcomes = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          takeClaim(connections[i % 10] as (typeof connections)[0], claim(`taker-${i}`, { exitIp })),
        ),
      );
      const winners = outcomes.flatMap((outcome, i) => (outcome.held ? [`taker-${i}`] : []));
      t.equal(winners.length, 1);
      for (const outcome of outcomes)
        if (!outcome.held && outcome.holder?.allocationId !== winners[0])
          t.fail(`told ${outcome.holder?.allocationId}, but ${winners[0]} won`);
    }
  });

  t.test('a claim lapses, is never shortened, and is renewed', async (t) => {
    const redis = server.connect(t);
    const key = liveKeys.claim(EXIT.providerId, EXIT.exitIp);
    await takeClaim(redis, claim('a', { ttlMs: 3_600_000 }));
    await takeClaim(redis, claim('a', { ttlMs: 1_000 }));
    t.ok((await redis.pttl(key)) > 3_000_000, 'a pulled package’s long hold survives a short renewal');
    await redis.pexpire(key, 500);
    await takeClaims(redis, [claim('a')]);
    t.ok((await redis.pttl(key)) > 20_000);
    await redis.pexpire(key, 1);
    while ((await redis.exists(key)) === 1);
    t.same(await takeClaim(redis, claim('b')), { held: true });
  });

  t.test('many renewals in one batch, each with its own outcome', async (t) => {
    const redis = server.connect(t);
    const exits = Array.from({ length: 50 }, (_, i) => `192.0.2.${i}`);
    for (const exitIp of exits.slice(0, 25)) await takeClaim(redis, claim('mine', { exitIp }));
    for (const exitIp of exits.slice(25, 40)) await takeClaim(redis, claim('theirs', { exitIp }));
    const outcomes = await takeClaims(
      redis,
      exits.map((exitIp) => claim('mine', { exitIp })),
    );
    t.same(
      outcomes.map((outcome) => outcome?.held),
      exits.map((_, i) => i < 25 || i >= 40),
      'held ones and missing ones are ours, the others are not',
    );
    t.equal((outcomes[30] as { holder?: { allocationId: string } }).holder?.allocationId, 'theirs');
    t.same(await takeClaims(redis, []), []);
  });

  t.test('after a wipe the holder asserts its claim again, unless another was faster', async (t) => {
    const redis = server.connect(t);
    await takeClaim(redis, claim('a'));
    await redis.flushall();
    t.same(await takeClaims(redis, [claim('a')]), [{ held: true }]);
    t.match(await takeClaim(redis, claim('b')), { held: false });
    await redis.flushall();
    await takeClaim(redis, claim('b'));
    t.same(await takeClaims(redis, [claim('a')]), [{ held: false, holder: claimRecord('b') }]);
  });

  t.test('a dead allocation is displaced, no other', async (t) => {
    const redis = server.connect(t);
    await takeClaim(redis, claim('dead'));
    t.match(await takeClaim(redis, claim('new', { displacesAllocationId: 'other' })), { held: false });
    t.same(await takeClaim(redis, claim('new', { displacesAllocationId: 'dead' })), { held: true });
    t.same(await readClaim(redis, EXIT.providerId, EXIT.exitIp), claimRecord('new'));
  });

  t.test('an unreadable claim is logged and in nobody’s way', async (t) => {
    const log = recordingLog();
    const redis = server.connect(t, { log });
    for (const rubbish of ['{', '"text"', '[]', '{"allocationId":7}', 'null']) {
      await redis.set(liveKeys.claim(EXIT.providerId, EXIT.exitIp), rubbish);
      t.equal(await readClaim(redis, EXIT.providerId, EXIT.exitIp), null, rubbish);
      t.equal(await releaseClaim(redis, { ...EXIT, allocationId: 'a' }), false);
    }
    t.ok(log.events.includes('live_value_unreadable'));
    await redis.set(liveKeys.claim(EXIT.providerId, EXIT.exitIp), '{"allocationId":');
    t.same(await takeClaim(redis, claim('a')), { held: true });
  });
});
