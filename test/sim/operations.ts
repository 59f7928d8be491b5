import { withTransaction } from '../../control-plane/db/pool.js';
import { writeOffMeters } from '../../control-plane/settlement/write-off.js';
import type { GatewayHost, GatewayProcess } from './gateway-process.js';
import { type Device, type Keeper, PRICES, type Settler, type Stream, uuid, type World } from './world.js';

/** One kind of thing that happens. Does nothing when the world is not in a state for it. */
export interface Operation {
  name: string;
  /** How often it happens, beside the others. */
  weight: number;
  happen(world: World): void | Promise<void>;
}

const ADMIN = uuid('m', 0);
const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 24 * 60 * MINUTE_MS;

function running(world: World): GatewayProcess[] {
  const processes: GatewayProcess[] = [];
  for (const { process } of world.hosts) if (process !== null) processes.push(process);
  return processes;
}

function prices(world: World, buyerId: string) {
  return {
    providerPriceMicrosPerGb: PRICES[world.providerPrice] as string,
    buyerPriceMicrosPerGb: PRICES[world.buyerPrice[world.buyers.indexOf(buyerId)] as number] as string,
  };
}

/** A buyer's connection goes to a device: a new allocation, or one that was served before. */
function openStream(world: World): void {
  const { random } = world;
  const device = random.pick(world.devices);
  if (device.gateway?.process == null) connect(world, device);
  const process = device.gateway?.process;
  if (process == null) return;
  const { sessionId } = device;
  const before = world.allocations.filter((a) => a.sessionId === sessionId);
  const again = before.length > 0 && random.chance(0.6) ? random.pick(before) : null;
  const { allocationId, buyerId, packageId } =
    again ?? world.newAllocation(sessionId, random.pick(world.buyers));
  const subUserId = uuid('u', world.buyers.indexOf(buyerId));
  const bySubUser = world.db.subUsers.has(subUserId) && random.chance(0.5);
  const wallets = [process.wallets.wallet({ kind: 'buyer', ownerId: buyerId })];
  if (packageId !== null) wallets.push(process.wallets.wallet({ kind: 'package', ownerId: allocationId }));
  if (bySubUser) wallets.push(process.wallets.wallet({ kind: 'sub_user', ownerId: subUserId }));
  for (const ownerId of bySubUser ? [buyerId, subUserId] : [buyerId])
    for (const kind of world.quotasOf(ownerId)) wallets.push(process.wallets.wallet({ kind, ownerId }));
  const opened = process.registry.open({
    sessionId,
    allocationId,
    buyerId,
    packageId,
    subUserId: bySubUser ? subUserId : null,
    wallets,
    ...prices(world, buyerId),
  });
  if (!opened.ok) {
    world.say(`  refused: ${opened.code}`);
    return;
  }
  const { binding } = opened;
  if (world.streams.some((s) => s.binding === binding)) return;
  world.streams.push({
    device,
    sessionId,
    allocationId,
    buyerId,
    process,
    binding,
    waiting: false,
    cut: false,
  });
  world.say(`  ${allocationId.slice(-2)} on ${process.host.id}`);
}

function count(world: World): void | Promise<void> {
  const { random } = world;
  if (world.streams.length === 0) openStream(world);
  if (world.streams.length === 0) return;
  const stream = random.pick(world.streams);
  if (stream.waiting && random.chance(0.7))
    return fillWallets(world, stream.process).then(() => countOn(world, stream));
  countOn(world, stream);
}

function countOn(world: World, stream: Stream): void {
  const { random } = world;
  const times = random.between(1, 3);
  for (let i = 0; i < times; i++) {
    const bytes = random.chance(0.5) ? random.between(1, 1_500) : random.between(1, 65_536);
    world.count(stream, random.chance(0.3), bytes);
  }
}

function endStream(world: World, stream: Stream, allocationEnded: boolean): void {
  stream.process.registry.close(stream.binding, { allocationEnded });
  world.streams = world.streams.filter((s) => s !== stream);
}

/** What a gateway does when the tunnel of a device is gone. */
function tunnelGone(world: World, device: Device, host: GatewayHost): void {
  for (const stream of world.streams)
    if (stream.device === device && stream.process.host === host)
      endStream(world, stream, world.random.chance(0.5));
}

async function tick(world: World): Promise<void> {
  const processes = running(world);
  if (processes.length === 0) return;
  const process = world.random.pick(processes);
  await process.tick(world.random.chance(0.6) ? undefined : world.random.between(1, 4));
}

async function walletTick(world: World): Promise<void> {
  const processes = running(world);
  if (processes.length === 0) return;
  const process = world.random.pick(processes);
  await process.walletTick(world.random.chance(0.7) ? undefined : world.random.between(1, 4));
}

/** A keeper hears the bell, or looks through everything; or goes on with what it is at. */
async function keeperActs(keeping: Keeper, rings: boolean, steps?: number): Promise<void> {
  const { thread, keeper, bell } = keeping;
  if (thread.busy) await thread.advance(steps);
  else await thread.start(() => (rings ? keeper.answerRings(bell) : keeper.sweep()), steps);
}

/** An ask, its answer, and the reading of it: what it takes for a stream to begin. */
export async function fillWallets(world: World, chosen: GatewayProcess | null = null): Promise<void> {
  const processes = running(world);
  if (processes.length === 0) return;
  const process = chosen ?? world.random.pick(processes);
  await process.walletTick();
  // The bell brings it at once to whoever has listened before; else it takes a sweep.
  await keeperActs(world.random.pick(world.keepers), world.random.chance(0.7));
  world.replaceDead();
  if (process.host.process === process) await process.walletTick();
}

/** The variant `lease-freed-by-time`: what was granted a while ago is given back. */
function freeByTime(world: World): void {
  const nowMs = world.databaseClock.monotonicMs();
  for (const hold of world.db.holds.values())
    if (nowMs - (world.holdWrittenAtMs.get(hold) ?? nowMs) > 3_000) hold.closed = true;
}

async function keep(world: World): Promise<void> {
  const { random } = world;
  const keeping = random.pick(world.keepers);
  const steps = random.chance(0.6) ? undefined : random.between(1, 12);
  if (world.variant === 'lease-freed-by-time') freeByTime(world);
  await keeperActs(keeping, false, steps);
  world.replaceDead();
}

/** Whatever rang is answered, by a keeper that may be killed on the way. */
async function hearBell(world: World): Promise<void> {
  const { random } = world;
  const keeping = random.pick(world.keepers);
  await keeperActs(keeping, true, random.chance(0.6) ? undefined : random.between(1, 12));
  world.replaceDead();
}

async function settle(world: World, settler: Settler): Promise<void> {
  const { random } = world;
  const steps = random.chance(0.5) ? undefined : random.between(1, 12);
  if (settler.thread.busy) await settler.thread.advance(steps);
  else await settler.thread.start(() => settler.worker.settleNow(), steps);
  world.replaceDead();
}

function kill(world: World, process: GatewayProcess): void {
  process.kill();
  world.streams = world.streams.filter((s) => s.process !== process);
  for (const device of world.devices) if (device.gateway === process.host) device.gateway = null;
}

/** Started again on the same host: streams end, meters become FINAL, what Postgres lacks stays in the journal. */
async function rollingRestart(world: World): Promise<void> {
  const processes = running(world);
  if (processes.length === 0) return;
  const process = world.random.pick(processes);
  const { host } = process;
  for (const stream of world.streams.filter((s) => s.process === process)) endStream(world, stream, true);
  const rounds = world.random.below(3);
  for (let i = 0; i < rounds; i++) {
    world.pass(100);
    await process.tick();
    if (world.random.chance(0.5)) await settle(world, world.random.pick(world.settlers));
  }
  await process.finishWallets();
  await process.stop();
  if (process.journal.failure === null) world.truth.synced(host.id);
  kill(world, process);
  await world.start(host);
}

function movePrice(world: World): void {
  const { random } = world;
  if (random.chance(0.5)) world.providerPrice = random.below(PRICES.length);
  else world.buyerPrice[random.below(world.buyers.length)] = random.below(PRICES.length);
  hearPrices(world);
}

/** A gateway learns the prices in force; others may learn them later. */
function hearPrices(world: World): void {
  const processes = running(world);
  if (processes.length === 0) return;
  const process = world.random.pick(processes);
  for (const binding of process.registry.rollAll((identity) => prices(world, identity.buyerId)))
    for (const stream of world.streams.filter((s) => s.binding === binding)) endStream(world, stream, false);
}

function stopSession(world: World): void {
  const { random } = world;
  const device = random.pick(world.devices);
  const session = world.db.sessions.get(device.sessionId);
  if (session?.status !== 'active') return;
  session.status = 'stopping';
  session.stoppedAtMs = world.databaseClock.nowMs();
  const { gateway } = device;
  // The command may reach the gateway at once, or the streams go on for a while: late bytes.
  if (gateway !== null && random.chance(0.6)) {
    tunnelGone(world, device, gateway);
    device.gateway = null;
  }
  if (random.chance(0.6)) world.newSession(device);
}

/** A device's tunnel is made, or moves to another gateway. */
function connect(world: World, device: Device): void {
  const { random } = world;
  const hosts = world.hosts.filter((h) => h.process !== null && h !== device.gateway);
  if (hosts.length === 0) return;
  const left = device.gateway;
  device.gateway = random.pick(hosts);
  // The gateway that was left may notice at once, or count what is still in its buffers.
  if (left !== null && random.chance(0.5)) tunnelGone(world, device, left);
  if (world.db.sessions.get(device.sessionId)?.status !== 'active') world.newSession(device);
}

async function sync(world: World): Promise<void> {
  const processes = running(world);
  if (processes.length === 0) return;
  const { journal, host } = world.random.pick(processes);
  await journal.sync();
  if (journal.state === 'open') world.truth.synced(host.id);
}

function loseHost(world: World): void {
  const host = world.random.pick(world.hosts);
  if (host.process !== null) kill(world, host.process);
  host.disk.loseHost(world.random);
  world.truth.hostLost(host.id);
}

function jumpClock(world: World): void {
  const { random } = world;
  const clock = random.pick([world.clock, ...world.hosts.map((h) => h.clock)]);
  clock.jumpWall((random.chance(0.5) ? 1 : -1) * (random.chance(0.7) ? 60 * MINUTE_MS : YEAR_MS));
}

function diskFault(world: World): void {
  const { random } = world;
  const { disk } = random.pick(world.hosts);
  const what = random.below(4);
  if (what === 0) disk.failNextWrite = 'whole';
  else if (what === 1) disk.failNextWrite = 'half';
  else if (what === 2) disk.failNextSync = true;
  else disk.full = true;
}

/**
 * An admin gives up a run that is over and that nobody has finished: its gateway seems to be lost. It may come back
 * all the same, and what it has in its journal is booked then.
 */
async function writeOff(world: World): Promise<void> {
  const { admin, random } = world;
  const steps = random.chance(0.6) ? undefined : random.between(1, 6);
  if (admin.busy) await admin.advance(steps);
  else {
    const over = [...world.db.holds.values()].filter(
      (h) => !h.closed && world.hosts.every((host) => host.id !== h.gatewayId || host.process?.run !== h.run),
    );
    if (over.length === 0) return;
    const { gatewayId, run } = random.pick(over);
    world.say(`  ${run} of ${gatewayId}`);
    world.runsGivenUp.add(`${gatewayId}|${run}`);
    const pool = world.poolOf(admin);
    await admin.start(
      () => withTransaction(pool, (client) => writeOffMeters(client, { gatewayId, run }, ADMIN, 'lost')),
      steps,
    );
  }
  world.replaceDead();
}

/** Faults that last: each history has its own share of them, and some have none. */
export function redisWeather(world: World): void {
  const { random, redis, db } = world;
  const bad = random.chance(0.6);
  const some = () => (bad && random.chance(0.6) ? random.below(30) / 100 : 0);
  // Now and then a network that brings half of everything late: what is old must never win.
  const old = bad && random.chance(0.3) ? 0.3 : 0;
  redis.faults = { answerLost: some(), late: old + some(), twice: old + some() };
  db.faults = {
    connectionLost: some() / 4,
    answerLost: some() / 2,
    killedAtCommit: some() / 2,
  };
}

async function advance(world: World): Promise<void> {
  const { random } = world;
  const busy = [
    ...running(world).map((p) => p.deliveryThread),
    ...world.settlers.map((s) => s.thread),
    world.admin,
  ].filter((thread) => thread.busy);
  if (busy.length === 0) return;
  await random.pick(busy).advance(random.chance(0.4) ? undefined : random.between(1, 5));
  world.replaceDead();
}

/** Everything that happens, with how often. */
export const OPERATIONS: readonly Operation[] = [
  { name: 'open', weight: 8, happen: openStream },
  { name: 'count', weight: 40, happen: count },
  { name: 'tick', weight: 16, happen: tick },
  { name: 'settle', weight: 12, happen: (w) => settle(w, w.random.pick(w.settlers)) },
  { name: 'wallets filled', weight: 10, happen: fillWallets },
  { name: 'wallets', weight: 6, happen: walletTick },
  { name: 'keeper', weight: 5, happen: keep },
  { name: 'bell', weight: 5, happen: hearBell },
  { name: 'advance', weight: 10, happen: advance },
  { name: 'arrive', weight: 8, happen: (w) => w.redis.arrive(w.random) },
  { name: 'sync', weight: 2, happen: sync },
  {
    name: 'close',
    weight: 4,
    happen(w) {
      if (w.streams.length > 0) endStream(w, w.random.pick(w.streams), w.random.chance(0.6));
    },
  },
  {
    name: 'kill',
    weight: 2,
    async happen(w) {
      const processes = running(w);
      if (processes.length === 0) return;
      const process = w.random.pick(processes);
      kill(w, process);
      if (w.random.chance(0.6)) await w.start(process.host);
    },
  },
  {
    name: 'start',
    weight: 4,
    async happen(w) {
      const down = w.hosts.filter((h) => h.process === null || h.process.journal.state === 'failed');
      if (down.length === 0) return;
      const host = w.random.pick(down);
      if (host.process !== null) kill(w, host.process);
      await w.start(host);
    },
  },
  { name: 'rolling restart', weight: 1, happen: rollingRestart },
  { name: 'host lost', weight: 0.4, happen: loseHost },
  {
    name: 'kill control plane',
    weight: 1,
    happen(w) {
      w.random.pick([...w.settlers, ...w.keepers]).thread.kill();
      w.replaceDead();
    },
  },
  { name: 'redis wiped', weight: 1, happen: (w) => w.redis.wipe() },
  { name: 'redis saved', weight: 1.5, happen: (w) => w.redis.save() },
  { name: 'redis rolled back', weight: 1, happen: (w) => w.redis.rollBack() },
  {
    name: 'redis away or back',
    weight: 1.5,
    happen(w) {
      w.redis.away = !w.redis.away && w.random.chance(0.5);
    },
  },
  { name: 'weather', weight: 1.5, happen: redisWeather },
  { name: 'clock jumps', weight: 1, happen: jumpClock },
  { name: 'connect', weight: 4, happen: (w) => connect(w, w.random.pick(w.devices)) },
  { name: 'price', weight: 2, happen: movePrice },
  { name: 'prices heard', weight: 1, happen: hearPrices },
  { name: 'stop session', weight: 1, happen: stopSession },
  {
    name: 'top-up',
    weight: 0.5,
    happen(w) {
      w.topUp(w.random.pick(w.buyers), BigInt(w.random.below(50_000)));
      for (const row of w.db.subUsers.values())
        if (w.random.chance(0.5)) row.bytesMax += BigInt(w.random.below(500_000));
      for (const row of w.db.quotas.values())
        if (row.monthMax !== null && w.random.chance(0.5)) row.monthMax += BigInt(w.random.below(500_000));
    },
  },
  {
    name: 'midnight',
    weight: 0.5,
    happen(w) {
      for (const row of w.db.quotas.values()) row.dayBytes = 0n;
    },
  },
  { name: 'write-off', weight: 2, happen: writeOff },
  { name: 'disk fault', weight: 0.5, happen: diskFault },
  {
    name: 'disks have room',
    weight: 0.5,
    happen(w) {
      for (const host of w.hosts) host.disk.full = false;
    },
  },
];

export { kill, openStream, running };
