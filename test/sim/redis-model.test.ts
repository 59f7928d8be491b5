import t from 'tap';
import { connectLive, type LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { forgetSettled, reportMeters, settleMeters } from '../../gateway/live/meters.js';
import { type MeterReport, meterKey } from '../../gateway/live/records.js';
import {
  askWallets,
  forgetWallets,
  readLastRingId,
  readWalletBell,
  ringWalletBell,
  showWallets,
} from '../../gateway/live/wallets.js';
import { ManualClock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { redisKinds, startRedis } from '../helpers/services.js';
import { Random } from './random.js';
import { SimulatedRedis } from './redis.js';
import { redisClient } from './redis-client.js';
import { Thread } from './thread.js';
import { uuid } from './world.js';

const GATEWAY = 'gateway-0';
const SEQUENCES = 40;
const STEPS = 40;

function report(random: Random): MeterReport {
  return {
    sessionId: uuid('s', 0),
    allocationId: uuid('a', random.below(3)),
    epoch: '0'.repeat(32),
    providerPriceMicrosPerGb: '3',
    buyerPriceMicrosPerGb: '5',
    buyerId: uuid('b', 0),
    packageId: null,
    subUserId: null,
    // Beyond 14 digits, too: there Lua prints numbers differently.
    bytesUp: random.chance(0.2) ? 2 ** 52 + random.below(4) : random.below(4),
    bytesDown: random.below(4),
    openedAtMs: 1,
    activeAtMs: random.below(1_000),
    final: random.chance(0.3),
    allocationEnded: random.chance(0.3),
  };
}

const field = (random: Random) => `${'0'.repeat(24)}.buyer.${uuid('b', random.below(3))}`;

/** One thing that gateways or the control plane do, with the arguments drawn before. */
function step(random: Random): (redis: LiveRedis) => Promise<unknown> {
  const reports = Array.from({ length: random.between(1, 3) }, () => report(random));
  const keys = reports.map(meterKey);
  const wallets = Array.from({ length: random.between(1, 2) }, () => field(random));
  const amount = () => String(random.chance(0.2) ? 2 ** 52 + random.below(4) : random.below(5));
  switch (random.below(8)) {
    case 0:
    case 1:
      return (redis) => reportMeters(redis, GATEWAY, reports);
    case 2: {
      const marks = reports.map(({ bytesUp, bytesDown, final }, i) => ({
        key: keys[i] as string,
        bytesUp,
        bytesDown,
        final,
      }));
      return (redis) => settleMeters(redis, GATEWAY, marks);
    }
    case 3: {
      const asks = wallets.map((name) => ({
        field: name,
        wantGranted: amount(),
        renounced: amount(),
        withdrawn: amount(),
        finished: random.chance(0.2),
      }));
      return (redis) => askWallets(redis, GATEWAY, asks);
    }
    case 4: {
      const shown = wallets.map((name) => ({
        field: name,
        granted: amount(),
        answered: amount(),
        state: random.pick(['open', 'wait', 'exhausted'] as const),
        beyond: random.chance(0.5) ? amount() : undefined,
      }));
      return (redis) => showWallets(redis, GATEWAY, shown);
    }
    case 5:
      return (redis) => ringWalletBell(redis, GATEWAY, wallets);
    case 6: {
      const [skipped, max] = [random.below(5), random.between(1, 3)];
      return (redis) => readRings(redis, skipped, max);
    }
    default: {
      const what = random.below(3);
      if (what === 0) return (redis) => forgetSettled(redis, GATEWAY, keys);
      if (what === 1) return (redis) => forgetWallets(redis, GATEWAY, wallets);
      return (redis) =>
        redis.dropOrphanMeters(liveKeys.meters(GATEWAY), liveKeys.dirtyMeters(GATEWAY), ...keys);
    }
  }
}

/** Up to `max` rings after the first `skipped` ones; ids differ, because the servers' clocks do. */
async function readRings(redis: LiveRedis, skipped: number, max: number) {
  const all = await readWalletBell(redis, '0-0', 1_000, 0);
  const after = all.slice(0, skipped).at(-1)?.id ?? '0-0';
  const some = await readWalletBell(redis, after, max, 0);
  return {
    rings: some.map(({ gatewayId, field }) => ({ gatewayId, field })),
    lastIsNewest: (await readLastRingId(redis)) === (all.at(-1)?.id ?? '0-0'),
  };
}

/** Everything there is, with the JSON read: the order of its fields is nobody's business. */
async function everything(redis: LiveRedis): Promise<unknown> {
  const hashes = await Promise.all(
    [
      liveKeys.meters(GATEWAY),
      liveKeys.settled(GATEWAY),
      liveKeys.wallets(GATEWAY),
      liveKeys.walletAsks(GATEWAY),
    ].map((key) => redis.hgetall(key)),
  );
  return {
    hashes: hashes.map((hash) =>
      Object.entries(hash)
        .map(([name, text]) => [name, JSON.parse(text)])
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
    dirty: (await redis.smembers(liveKeys.dirtyMeters(GATEWAY))).sort(),
    gateways: (await redis.smembers(liveKeys.gateways())).sort(),
    bell: await readRings(redis, 0, 1_000),
  };
}

/** A client of the model whose every step happens at once. */
function modelled(): { redis: LiveRedis; run: <T>(what: () => Promise<T>) => Promise<T> } {
  const thread = new Thread('test', () => {});
  return {
    redis: redisClient(new SimulatedRedis(), thread, new Random(0)),
    async run(what) {
      let result: ReturnType<typeof what> | undefined;
      await thread.start(() => {
        result = what();
        return result;
      });
      return result as ReturnType<typeof what>;
    },
  };
}

for (const kind of redisKinds())
  t.test(`the simulated Redis does what the scripts do on ${kind}`, async (t) => {
    const server = await startRedis(kind);
    t.teardown(() => server.stop());
    const real = connectLive({ url: server.url, log: silentLog });
    t.teardown(() => real.disconnect());
    for (let seed = 0; seed < SEQUENCES; seed++) {
      await real.flushall();
      const random = new Random(seed);
      const model = modelled();
      for (let i = 0; i < STEPS; i++) {
        const act = step(random);
        const answers = [await act(real), await model.run(() => act(model.redis))];
        if (JSON.stringify(answers[0]) !== JSON.stringify(answers[1]))
          t.same(answers[1], answers[0], `seed ${seed}, step ${i}`);
      }
      t.same(await model.run(() => everything(model.redis)), await everything(real), `seed ${seed}`);
    }
  });

t.test('the ids of a stream grow while its clock goes back, and begin anew when it is wiped', async (t) => {
  const clock = new ManualClock();
  const redis = new SimulatedRedis(clock);
  const ring = () => redis.xadd('bell', ['w', 'x']);
  const first = ring();
  clock.jumpWall(-3_600_000);
  const second = ring();
  t.same(redis.xread('bell', first, 10), [[second, ['w', 'x']]], 'after the first');
  redis.save();
  ring();
  redis.rollBack();
  t.same(
    redis.xrevrange('bell', 10).map(([id]) => id),
    [second, first],
    'as when it was saved, the newest first',
  );
  redis.wipe();
  const third = ring();
  t.same(redis.xread('bell', second, 10), [], 'too early an id for whoever has read on');
  t.same(redis.xrevrange('bell', 1), [[third, ['w', 'x']]]);
});
