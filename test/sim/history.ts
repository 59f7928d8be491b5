import { InvariantBroken } from './checks.js';
import { NO_DATABASE_FAULTS } from './database.js';
import { fillWallets, kill, OPERATIONS, openStream, redisWeather, running } from './operations.js';
import { NO_FAULTS } from './redis.js';
import type { Variant } from './variants.js';
import { type Keeper, type Settler, World } from './world.js';

/** How a history ended. */
export type HistoryResult =
  | { ok: true; operations: number; log: string[] }
  | {
      ok: false;
      seed: number;
      /** What broke, or `threw` when the project's code threw what no fault explains. */
      invariant: string;
      detail: string;
      /** What happened, latest last; only of a verbose run. */
      log: string[];
    };

/** Each as often as its weight says, in tenths. */
const OPERATIONS_BY_WEIGHT = OPERATIONS.flatMap((o) =>
  new Array<typeof o>(Math.round(o.weight * 10)).fill(o),
);
const OPERATIONS_MIN = 12;
const OPERATIONS_MAX = 32;
/** Rounds of ticks and settlement within which everything must be quiet once nothing fails any more. */
const ROUNDS_MAX = 60;

/** One random history, from an empty world to a quiet one. Equal seeds give equal histories. */
export async function runHistory(
  seed: number,
  variant: Variant = 'good',
  verbose = false,
): Promise<HistoryResult> {
  const world = new World(seed, variant, verbose);
  let operations = 0;
  try {
    for (const host of world.hosts) await world.start(host);
    for (const { thread, keeper, bell } of world.keepers) await thread.start(() => keeper.answerRings(bell));
    for (let i = world.random.below(4); i > 0; i--) openStream(world);
    for (let i = world.random.below(4); i > 0; i--) await fillWallets(world);
    if (world.random.chance(0.7)) redisWeather(world);
    operations = world.random.between(OPERATIONS_MIN, OPERATIONS_MAX);
    for (let i = 0; i < operations; i++) {
      await happen(world, i);
      if (world.broken !== null) throw world.broken;
    }
    await heal(world);
    world.checks.end();
    if (world.broken !== null) throw world.broken;
    return { ok: true, operations, log: world.log };
  } catch (error) {
    const first = world.broken ?? (error as Error);
    return {
      ok: false,
      seed,
      invariant: first instanceof InvariantBroken ? first.invariant : 'threw',
      detail: first instanceof InvariantBroken ? first.message : String(first.stack ?? first),
      log: world.log,
    };
  }
}

async function happen(world: World, i: number): Promise<void> {
  const operation = world.random.pick(OPERATIONS_BY_WEIGHT);
  if (world.verbose) world.say(`${i} ${operation.name}`);
  // Most of them are over at once.
  const happening = operation.happen(world);
  if (happening !== undefined) await happening;
  world.pass(world.random.chance(0.8) ? world.random.below(300) : world.random.below(5_000));
}

/** Nothing fails any more: all of it must come to an end by itself. */
async function heal(world: World): Promise<void> {
  const { random, redis, db } = world;
  world.say('heal');
  redis.away = false;
  redis.faults = NO_FAULTS;
  db.faults = NO_DATABASE_FAULTS;
  await finishThreads(world);
  for (const host of world.hosts) {
    host.disk.full = false;
    host.disk.failNextWrite = null;
    host.disk.failNextSync = false;
    if (host.process !== null && host.process.journal.state === 'failed') kill(world, host.process);
    if (host.process === null) await world.start(host);
    if (host.process === null) world.checks.fail('a gateway starts on a sound disk', host.id);
    else host.process.registry.closeAll({ allocationEnded: true });
  }
  world.streams = [];
  for (const device of world.devices) device.gateway = null;
  for (const session of db.sessions.values())
    if (session.status === 'active')
      Object.assign(session, { status: 'stopping', stoppedAtMs: world.databaseClock.nowMs() });
  // What is under way arrives when newer is there and not booked yet, or when that is booked already.
  const arriveInRound = random.chance(0.5) ? 0 : 1;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    world.pass(round < 10 ? 2_500 : 5_000);
    const processes = running(world);
    for (const process of processes) await process.tick();
    if (round >= arriveInRound) while (redis.underWay > 0) redis.arrive(random);
    const { thread, worker } = world.settlers[0] as Settler;
    await thread.start(() => worker.settleNow());
    for (const process of processes) {
      // Reads what is committed. Where nothing is left, there is nothing to read.
      if (process.registry.meterCount > 0) await process.tick();
      await process.walletTick();
    }
    if (world.checks.holdsOpen()) {
      const { thread: keeping, keeper } = world.keepers[0] as Keeper;
      await keeping.start(() => keeper.sweep());
    }
    if (world.broken !== null) throw world.broken;
    if (redis.underWay === 0 && world.checks.isQuiet()) {
      world.say(`quiet after ${round + 1} rounds`);
      return;
    }
    // Only what was lost with a host needs an admin.
    if (round === ROUNDS_MAX / 2) world.checks.writeOffLost();
  }
  world.checks.fail('everything comes to an end', world.checks.whatIsLeft());
}

/** Whatever is under way ends; two that wait for each other never would. */
async function finishThreads(world: World): Promise<void> {
  for (let i = 0; i < 20; i++) {
    const busy = world.threads().filter((thread) => thread.busy);
    if (busy.length === 0) return;
    for (const thread of busy) await thread.advance();
    world.replaceDead();
  }
  world.checks.fail(
    'nobody waits for ever',
    world
      .threads()
      .filter((t) => t.busy)
      .map((t) => t.name)
      .join(', '),
  );
}
