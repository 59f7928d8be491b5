import { execFileSync } from 'node:child_process';
import { statfsSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { liveKeys } from '../../gateway/live/keys.js';
import { killEverything } from './everything.js';
import { linkFaults } from './link-faults.js';
import { callApi } from './people.js';
import type { Random } from './random.js';
import { postgresTap, Replayer, redisTap } from './taps.js';
import type { Traffic } from './traffic.js';
import type { Site, World } from './world.js';

/** What a fault works with. */
export interface Scene {
  world: World;
  random: Random;
  traffic: Traffic;
  /** Long faults are this much shorter: 1 as documented, less for a quick look. */
  scale: number;
  /** The site that the fault is about. */
  site: Site;
  other: Site;
  /** Notes a figure for the report. */
  note(text: string): void;
  /** Something did not hold. */
  fail(text: string): void;
}

/** One kind of trouble. */
export interface Fault {
  id: string;
  title: string;
  /** Streams that run when it strikes. */
  streams: 'none' | 'some' | 'many';
  /** Devices lose their gateway by it. */
  hitsGateway?: boolean;
  /** Processes of each gateway; left out: one. */
  gatewayWorkers?: number;
  /** The gateways are linked, and half of the streams go through devices of the other one. */
  linked?: boolean;
  /** Bytes of a stream that may be lost on the link between the gateways, counted as they are. */
  linkBytesMaxPerStream?: number;
  /** Seconds it lasts by itself, so that transfers are made long enough. */
  lastsS: number;
  /**
   * Makes the trouble and ends it: when this resolves, everything runs again and recovery is measured from here.
   * `strike` is to be called at the moment bytes may be lost: streams that live then may each be 64 KiB over.
   */
  run(scene: Scene, strike: () => void): Promise<void>;
}

const KILL_WAIT_MS = 300;

async function killGateway({ site }: Scene, strike: () => void): Promise<void> {
  strike();
  await site.gateway.killAndWait();
  await delay(KILL_WAIT_MS);
  await site.gateway.start();
}

/** Waits for something that the traffic will bring about, or a while at most. */
async function orAfter(ms: number, happened: Promise<void>): Promise<boolean> {
  return Promise.race([happened.then(() => true), delay(ms, false)]);
}

/** Kills the program at a moment that a tap chooses, then starts it again. */
async function killAtMessage(
  program: Site['gateway'],
  install: (kill: () => void) => () => void,
  strike: () => void,
): Promise<boolean> {
  let hit: () => void = () => {};
  const struck = new Promise<void>((resolve) => {
    hit = resolve;
  });
  const remove = install(() => {
    strike();
    program.signal('SIGKILL');
    hit();
  });
  const inTime = await orAfter(10_000, struck);
  remove();
  if (!inTime) {
    strike();
    program.signal('SIGKILL');
  }
  await program.gone();
  await delay(KILL_WAIT_MS);
  await program.start();
  return inTime;
}

/** Kills a settler around one of the first messages of a kind that it sends to Postgres. */
async function killSettler(
  { site, random, note }: Scene,
  strike: () => void,
  what: 'statement' | 'commit',
  nthMax: number,
): Promise<void> {
  const moment = random.pick(['before', 'after']);
  const nth = random.integer(1, nthMax);
  const hit = await killAtMessage(
    site.controlPlane,
    (kill) => postgresTap(site.links.controlPostgres, { what, moment, nth }, kill),
    strike,
  );
  note(hit ? `${what} ${nth}, ${moment}` : 'no message in time');
}

/** Waits until another process has taken the place of the worker. */
async function untilBack({ world, site, fail }: Scene, worker: number, before: number): Promise<void> {
  const until = performance.now() + 20_000;
  for (;;) {
    const status = await world.gatewayStatus(site);
    const now = status?.workers?.find((one) => one.worker === worker);
    if (now !== undefined && now.pid !== before) return;
    if (performance.now() > until) return fail(`worker ${worker} did not come back`);
    await delay(50);
  }
}

/** One of the workers of the site's gateway. */
async function pickWorker({ world, site, random }: Scene): Promise<{ worker: number; pid: number }> {
  const [first, second] = (await world.gatewayStatus(site))?.workers ?? [];
  if (!first || !second) throw new Error('the gateway has no workers');
  return random.pick([first, second]);
}

/** Every fault, in the order in which they are run. */
export const catalogue: readonly Fault[] = [
  {
    id: 'gateway-kill-idle',
    hitsGateway: true,
    title: 'kill -9 of a gateway without streams',
    streams: 'none',
    lastsS: 0,
    run: killGateway,
  },
  {
    id: 'gateway-kill-chunk',
    hitsGateway: true,
    title: 'kill -9 of a gateway in mid-transfer',
    streams: 'many',
    lastsS: 0,
    async run(scene, strike) {
      await delay(scene.random.integer(0, 1_500));
      await killGateway(scene, strike);
    },
  },
  {
    id: 'gateway-kill-delivery',
    hitsGateway: true,
    title: 'kill -9 of a gateway around a delivery of meters',
    streams: 'some',
    lastsS: 0,
    async run({ site, random, note }, strike) {
      const moment = random.pick(['before', 'after']);
      const hit = await killAtMessage(
        site.gateway,
        (kill) =>
          redisTap(site.links.gatewayRedis, { what: 'report', moment, nth: random.integer(1, 4) }, kill),
        strike,
      );
      note(hit ? moment : 'no message in time');
    },
  },
  {
    id: 'gateway-kill-flush',
    hitsGateway: true,
    title: 'kill -9 of a gateway that drains and flushes',
    streams: 'some',
    lastsS: 0,
    async run({ site, random }, strike) {
      strike();
      site.gateway.signal('SIGTERM');
      await delay(random.integer(0, 4_000));
      await site.gateway.killAndWait();
      await delay(KILL_WAIT_MS);
      await site.gateway.start();
    },
  },
  {
    id: 'gateway-kill-final',
    hitsGateway: true,
    title: 'kill -9 of a gateway around a FINAL',
    streams: 'some',
    lastsS: 0,
    async run({ site, random, note, world }, strike) {
      const moment = random.pick(['before', 'after']);
      const what = random.pick(['final', 'forget']);
      const hit = killAtMessage(
        site.gateway,
        (kill) => redisTap(site.links.gatewayRedis, { what, moment, nth: 1 }, kill),
        strike,
      );
      await delay(200);
      await setProviderPrice(world, random); // rolls every meter: the old ones are FINAL
      note((await hit) ? `${what}, ${moment}` : 'no message in time');
    },
  },
  {
    id: 'worker-kill',
    hitsGateway: true,
    title: 'kill -9 of one of two gateway workers in mid-transfer',
    streams: 'many',
    gatewayWorkers: 2,
    lastsS: 1,
    async run(scene, strike) {
      const { worker, pid } = await pickWorker(scene);
      await delay(scene.random.integer(0, 1_500));
      strike();
      process.kill(pid, 'SIGKILL');
      scene.note(`worker ${worker}`);
      await untilBack(scene, worker, pid);
    },
  },
  {
    id: 'worker-kill-passing',
    hitsGateway: true,
    title: 'kill -9 of one of two gateway workers while connections that were passed to it wait',
    streams: 'some',
    gatewayWorkers: 2,
    lastsS: 4,
    async run(scene, strike) {
      const { world, site, traffic, random } = scene;
      const { worker, pid } = await pickWorker(scene);
      strike();
      // It stands still: whatever the other one passes to it from now on is not taken.
      process.kill(pid, 'SIGSTOP');
      const asking = Array.from({ length: 20 }, (_, n) => traffic.probe(world.proxy(site, n % 2), 15_000));
      await delay(random.integer(200, 2_000));
      process.kill(pid, 'SIGKILL');
      await untilBack(scene, worker, pid);
      const served = (await Promise.all(asking)).filter(Boolean).length;
      scene.note(`worker ${worker}, ${served} of 20 served`);
    },
  },
  {
    id: 'settler-kill-statement',
    title: 'kill -9 of a settler around a statement of its transaction',
    streams: 'some',
    lastsS: 0,
    run: (scene, strike) => killSettler(scene, strike, 'statement', 12),
  },
  {
    id: 'settler-kill-commit',
    title: 'kill -9 of a settler around COMMIT',
    streams: 'some',
    lastsS: 0,
    run: (scene, strike) => killSettler(scene, strike, 'commit', 6),
  },
  {
    id: 'redis-empty',
    title: 'Redis restarted empty',
    streams: 'some',
    lastsS: 1,
    async run({ world, random }, strike) {
      await delay(random.integer(0, 1_000));
      strike();
      await world.killRedis();
      await delay(random.integer(0, 1_000));
      await world.startRedisAgain('empty');
    },
  },
  {
    id: 'redis-rollback',
    title: 'Redis rolled back to an old snapshot',
    streams: 'some',
    lastsS: 3,
    async run({ world, random }, strike) {
      execFileSync('redis-cli', ['-p', String(world.redisPort), 'SAVE'], { stdio: 'ignore' });
      await delay(random.integer(500, 3_000));
      strike();
      await world.killRedis();
      await world.startRedisAgain('snapshot');
    },
  },
  {
    id: 'redis-gone',
    title: 'Redis gone for 60 s',
    streams: 'some',
    lastsS: 60,
    async run({ world, scale }, strike) {
      strike();
      await world.killRedis();
      await delay(60_000 * scale);
      await world.startRedisAgain('empty');
    },
  },
  {
    id: 'postgres-crash',
    title: 'Postgres restarted in the middle of a transaction',
    streams: 'some',
    lastsS: 1,
    async run({ world, site, random, note }, strike) {
      let hit: () => void = () => {};
      const struck = new Promise<void>((resolve) => {
        hit = resolve;
      });
      const nth = random.integer(2, 12);
      const remove = postgresTap(
        site.links.controlPostgres,
        { what: 'statement', moment: 'after', nth },
        () => {
          process.kill(world.postgresPid, 'SIGQUIT');
          hit();
        },
      );
      note((await orAfter(10_000, struck)) ? `statement ${nth}` : 'no message in time');
      remove();
      strike();
      await world.crashPostgres();
      await world.startPostgresAgain();
    },
  },
  {
    id: 'postgres-gone',
    title: 'Postgres gone for 60 s',
    streams: 'some',
    lastsS: 60,
    async run({ world, scale }, strike) {
      strike();
      await world.crashPostgres();
      await delay(60_000 * scale);
      await world.startPostgresAgain();
    },
  },
  {
    id: 'everything-kill',
    hitsGateway: true,
    title: 'kill -9 of everything at once, Redis comes back empty',
    streams: 'some',
    lastsS: 1,
    run: killEverything,
  },
  {
    id: 'partition',
    title: 'partition of 30 s between two parts',
    streams: 'some',
    lastsS: 30,
    async run({ site, other, random, scale, note }, strike) {
      const which = random.pick([
        'gateway-redis',
        'control-redis',
        'control-postgres',
        'all-gateways-redis',
        'all-control-redis',
      ]);
      note(which);
      const links = {
        'gateway-redis': [site.links.gatewayRedis],
        'control-redis': [site.links.controlRedis],
        'control-postgres': [site.links.controlPostgres],
        'all-gateways-redis': [site.links.gatewayRedis, other.links.gatewayRedis],
        'all-control-redis': [site.links.controlRedis, other.links.controlRedis],
      }[which] as Site['links']['gatewayRedis'][];
      strike();
      for (const link of links) link.mode = 'stall';
      await delay(30_000 * scale);
      for (const link of links) link.mode = 'pass';
    },
  },
  ...linkFaults,
  {
    id: 'fsync-slow',
    title: 'fdatasync of the journal takes 15 s',
    streams: 'some',
    lastsS: 20,
    async run({ site, scale }, strike) {
      strike();
      site.gateway.tell({ syncDelayMs: Math.round(15_000 * scale) });
      await delay(20_000 * scale);
      site.gateway.tell({ syncDelayMs: 0 });
      await delay(15_000 * scale);
    },
  },
  {
    id: 'disk-full',
    title: 'disk of the journal full, prices rolling',
    streams: 'some',
    lastsS: 12,
    run: fillDisk,
  },
  {
    id: 'repeat-reorder',
    title: 'every message about meters and wallets twice, late and out of order',
    streams: 'some',
    lastsS: 8,
    async run({ world, site, other, random }, strike) {
      strike();
      const replayers = [
        site.links.gatewayRedis,
        other.links.gatewayRedis,
        site.links.controlRedis,
        other.links.controlRedis,
      ].map((link) => new Replayer(link, world.redisPort, random));
      await delay(4_000);
      await setProviderPrice(world, random);
      await delay(4_000);
      await Promise.all(replayers.map((r) => r.stop()));
    },
  },
  {
    id: 'clocks',
    title: 'wall clocks jump by an hour and by a year, back and forth',
    streams: 'some',
    lastsS: 6,
    async run({ site, other, random }, strike) {
      strike();
      const hourMs = 3_600_000;
      const jumps = [hourMs, -hourMs, 365 * 24 * hourMs, -365 * 24 * hourMs] as const;
      for (let i = 0; i < 4; i++) {
        for (const program of [site.gateway, other.gateway, site.controlPlane, other.controlPlane])
          program.tell({ clockOffsetMs: random.chance(0.3) ? 0 : random.pick(jumps) });
        await delay(1_500);
      }
      for (const program of [site.gateway, other.gateway, site.controlPlane, other.controlPlane])
        program.tell({ clockOffsetMs: 0 });
    },
  },
  {
    id: 'settler-frozen',
    title: 'SIGSTOP of a settler for 60 s',
    streams: 'some',
    lastsS: 60,
    async run({ site, scale }, strike) {
      strike();
      site.controlPlane.signal('SIGSTOP');
      await delay(60_000 * scale);
      site.controlPlane.signal('SIGCONT');
    },
  },
  {
    id: 'gateway-frozen',
    hitsGateway: true,
    title: 'SIGSTOP of a gateway for 60 s',
    streams: 'some',
    lastsS: 60,
    async run({ site, scale }, strike) {
      strike();
      site.gateway.signal('SIGSTOP');
      await delay(60_000 * scale);
      site.gateway.signal('SIGCONT');
    },
  },
];

/** Another day's price: every open meter is FINAL and goes on under a new key. */
async function setProviderPrice(world: World, random: Random): Promise<void> {
  await callApi(world.sites[0].apiUrl, '/api/admin/daily_price', world.adminToken, {
    price_per_gb: `0.${random.integer(100_000, 900_000)}`,
  });
}

/** Price changes while the disk is full, at most: each takes a slot for every meter that is open. */
const ROLLS_MAX = 600;

/**
 * Fills the file system of the first gateway's journal and freezes both settlers, then lets prices roll: each roll
 * takes slots that nobody frees. The journal cannot grow: new connections are refused, and nothing may be relayed
 * uncounted. Then there is room again.
 */
async function fillDisk({ world, random, traffic, note, fail }: Scene, strike: () => void): Promise<void> {
  const [site, other] = world.sites;
  if (!world.smallJournalDisk) {
    note('not tried: no right to mount a small file system');
    return;
  }
  strike();
  const filler = join(site.journalDir, 'filler');
  const { bavail, bsize } = statfsSync(site.journalDir);
  try {
    writeFileSync(filler, Buffer.alloc(Number(bavail) * Number(bsize)));
  } catch {} // full is what is wanted
  for (const s of [site, other]) s.controlPlane.signal('SIGSTOP');
  let rolls = 0;
  while (rolls < ROLLS_MAX && (await world.journalAdmits(site))) {
    rolls++;
    rollPriceInRedis(world, random);
    await delay(100);
  }
  note(`${rolls} rolls`);
  if (rolls === ROLLS_MAX) fail('the journal never was full');
  const served = await traffic.probe(world.proxy(site, 0), 2_000);
  if (served) fail('new connections were served while the journal was full');
  for (const s of [site, other]) s.controlPlane.signal('SIGCONT');
  await rm(filler, { force: true });
}

/** With the control planes frozen, the price is changed where gateways read it. */
function rollPriceInRedis(world: World, random: Random): void {
  const price = { microsPerGb: String(random.integer(100_000, 900_000)), effectiveFromMs: 0 };
  const call = (...words: string[]) =>
    execFileSync('redis-cli', ['-p', String(world.redisPort), ...words], { stdio: 'ignore' });
  call('SET', liveKeys.providerPrice(), JSON.stringify(price));
  call('XADD', liveKeys.commands(), '*', 'c', JSON.stringify({ kind: 'price_changed' }));
}
