import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ALL_GONE, describeLeaks, type LeakReport, leaksAfter } from '../helpers/leaks.js';
import type { Books } from './books.js';
import type { Fault } from './catalogue.js';
import { whoHolds } from './holders.js';
import { Random } from './random.js';
import { type ProxyAddress, Traffic, type TransferPlan } from './traffic.js';
import { BUYER_PRICE_MICROS_PER_GB, type Site, type World } from './world.js';

/** What may be counted and not delivered of each stream that lived when a process was killed. */
const OVER_BYTES_MAX_PER_STREAM = 64 * 1024;
/** Everything must be served and booked again so soon after the trouble is over. */
const RECOVERY_MS_MAX = 10_000;
/** Streams that do not end by themselves so long after the trouble are stuck. */
const END_TIMEOUT_MS = 45_000;
const SETTLE_TIMEOUT_MS = 30_000;
/** What is left of the traffic then, is left for ever. */
const LEAK_WAIT_MS = 60_000;
/** Who has not served by then is looked at, and so often again. */
const LATE_MS = 4_000;
/** A short transfer begins on each gateway this often while the trouble lasts. */
const CHURN_MS = 400;

/** The figures of one fault with one seed. */
export interface CaseResult {
  fault: string;
  seed: number;
  /** Streams that lived when it struck. */
  streams: number;
  transfers: number;
  complete: number;
  relayedBytes: number;
  bookedBytes: number;
  /** Relayed and not booked. */
  underBytes: number;
  /** Booked and not delivered. */
  overBytes: number;
  /** From the end of the trouble until each gateway serves again. */
  servesAfterMs: number;
  /** From the end of the trouble until what had been relayed then was booked. */
  bookedAfterMs: number;
  /** From the end of the traffic until no stream, connection, claim, lease or open meter was left of it; null: never. */
  cleanAfterMs: number | null;
  /** Looks at the invariants that found them held. */
  samples: number;
  tookMs: number;
  notes: string[];
  /** What did not hold; empty: passed. */
  failures: string[];
}

/** Runs one fault with one seed on a system that is in order, and leaves it so if it can. */
export async function runCase(
  world: World,
  books: Books,
  fault: Fault,
  seed: number,
  scale: number,
): Promise<CaseResult> {
  const startMs = performance.now();
  const random = new Random(createHash('sha256').update(`${fault.id} ${seed}`).digest().readUInt32LE(0));
  for (const site of world.sites)
    await world.withShape(site, fault.gatewayWorkers ?? 1, fault.linked ?? false);
  for (const site of world.sites) await world.untilDevicesOnline(site);
  const site = fault.id === 'disk-full' ? world.sites[0] : random.pick(world.sites);
  const other = site === world.sites[0] ? world.sites[1] : world.sites[0];
  await world.untilDevicesAtEase(site);
  if (fault.hitsGateway) site.onlineSinceMs = null;
  // Linked ones have to have read what each other has.
  if (fault.linked) await untilServing(world, fault, new Traffic(world.origin), performance.now(), []);
  const before = await books.settled(0, 700, SETTLE_TIMEOUT_MS);
  const [samplesBefore, violationsBefore] = [books.samples, books.violations.length];
  const traffic = new Traffic(world.origin);
  const notes: string[] = [];
  const failures: string[] = [];

  const thin = new Traffic(world.origin);
  startStreams(world, traffic, fault, scale, random);
  if (fault.streams !== 'none') await startThin(world, thin, random);
  await untilFlowing(traffic);
  const churn = fault.streams === 'none' ? null : startChurn(world, fault, traffic, random);
  let streams = 0;
  const strike = () => {
    streams = Math.max(streams, traffic.liveCount + thin.liveCount);
  };
  await fault.run(
    {
      world,
      random,
      traffic,
      scale,
      site,
      other,
      note: (text) => notes.push(text),
      fail: (text) => failures.push(text),
    },
    strike,
  );

  const healedMs = performance.now();
  const relayedThen = traffic.relayedBytes + thin.relayedBytes;
  const bookedAfter = untilBooked(books, before + relayedThen, healedMs);
  const servesAfterMs = await untilServing(world, fault, traffic, healedMs, notes);
  if (churn) clearInterval(churn);
  const stuck = (await traffic.end(END_TIMEOUT_MS)) + (await thin.end(END_TIMEOUT_MS));
  const bookedAfterMs = await bookedAfter;
  const relayedBytes = traffic.relayedBytes + thin.relayedBytes;
  world.thinRelayedBytes += thin.relayedBytes;
  const bookedBytes = (await books.settled(before + relayedBytes, 1_200, SETTLE_TIMEOUT_MS)) - before;
  const underBytes = Math.max(0, relayedBytes - bookedBytes);
  const overBytes = Math.max(0, bookedBytes - relayedBytes);

  const left = await leaksAfter(world, LEAK_WAIT_MS, ALL_GONE);
  failures.push(...describeLeaks(left), ...world.ended());
  failures.push(...new Set(books.violations.slice(violationsBefore)), ...(await books.proof()));
  if (underBytes > 0) failures.push(`${underBytes} bytes relayed and not booked`);
  if (overBytes > (OVER_BYTES_MAX_PER_STREAM + (fault.linkBytesMaxPerStream ?? 0)) * streams)
    failures.push(`${overBytes} bytes booked and not delivered, with ${streams} streams`);
  if (servesAfterMs > RECOVERY_MS_MAX)
    failures.push(
      `served again after ${Math.round(servesAfterMs)} ms: ${JSON.stringify([...traffic.refusals])}`,
    );
  if (bookedAfterMs > RECOVERY_MS_MAX) failures.push(`booked again after ${Math.round(bookedAfterMs)} ms`);
  // What a meter counted beyond whole micro-dollars is not charged.
  const freeBytes = Math.ceil(1e9 / BUYER_PRICE_MICROS_PER_GB) * (await books.meterCount(world.thinBuyerId));
  const thinBytesMax = (world.thinFundedMicros * 1e9) / BUYER_PRICE_MICROS_PER_GB + freeBytes;
  if (world.thinRelayedBytes > thinBytesMax)
    failures.push(`a buyer with money for ${thinBytesMax} bytes relayed ${world.thinRelayedBytes}`);
  if (stuck > 0) failures.push(`${stuck} streams did not end`);
  world.origin.forget();
  return {
    fault: fault.id,
    seed,
    streams,
    transfers: traffic.transfers.length,
    complete: traffic.transfers.filter((t) => t.state === 'complete').length,
    relayedBytes,
    bookedBytes,
    underBytes,
    overBytes,
    servesAfterMs: Math.round(servesAfterMs),
    bookedAfterMs: Math.round(bookedAfterMs),
    cleanAfterMs: cleanAfter(left),
    samples: books.samples - samplesBefore,
    tookMs: Math.round(performance.now() - startMs),
    notes,
    failures,
  };
}

function cleanAfter({ goneAfterMs }: LeakReport): number | null {
  const all = Object.values(goneAfterMs);
  return all.includes(null) ? null : Math.round(Math.max(...all.map(Number)));
}

/** Long enough to be there during the whole trouble, fast when it is short. */
function startStreams(world: World, traffic: Traffic, fault: Fault, scale: number, random: Random): void {
  const perSite = { none: 0, some: 3, many: 8 }[fault.streams];
  for (const site of world.sites)
    for (let i = 0; i < perSite; i++) {
      const buyer = i % world.thinBuyer;
      const seconds = fault.lastsS * scale + random.integer(2, 5);
      const kind = random.pick(['download', 'download', 'upload']);
      const fast = fault.streams === 'many' && kind === 'download';
      const paceBytesPerS = fast
        ? random.integer(5e6, 4e7)
        : random.integer(5e4, fault.lastsS > 10 ? 5e5 : 3e6);
      traffic.start(proxyOf(world, fault, site, buyer, i), {
        kind,
        sizeBytes: Math.ceil(paceBytesPerS * seconds),
        paceBytesPerS,
      });
    }
}

/** A buyer with money for less than its streams ask for, at both gateways: they are cut, and not too late. */
async function startThin(world: World, thin: Traffic, random: Random): Promise<void> {
  await world.fundThin(random.integer(100_000, 3_000_000));
  for (const site of world.sites)
    for (let i = 0; i < 2; i++)
      thin.start(world.proxy(site, world.thinBuyer), {
        kind: random.pick(['download', 'upload']),
        sizeBytes: 5_000_000,
        paceBytesPerS: random.integer(2e5, 3e6),
      });
}

async function untilFlowing(traffic: Traffic): Promise<void> {
  const untilMs = performance.now() + 3_000;
  const flowing = () =>
    traffic.transfers.every((t) => t.state !== 'running' || t.upBytes + t.downBytes > 1_000);
  await delay(200);
  while (!flowing() && performance.now() < untilMs) await delay(20);
}

/** Of linked gateways every other stream goes across. */
function proxyOf(world: World, { linked }: Fault, site: Site, buyer: number, nth: number): ProxyAddress {
  return linked && nth % 2 === 0 ? world.proxyAcross(site, buyer) : world.proxy(site, buyer);
}

function startChurn(world: World, fault: Fault, traffic: Traffic, random: Random): NodeJS.Timeout {
  let nth = 0;
  return setInterval(() => {
    nth++;
    for (const site of world.sites) {
      const plan: TransferPlan = {
        kind: random.pick(['download', 'upload']),
        sizeBytes: random.integer(1, 200_000),
        paceBytesPerS: 2e6,
      };
      traffic.start(proxyOf(world, fault, site, random.integer(0, 1), nth), plan);
    }
  }, CHURN_MS);
}

async function untilServing(
  world: World,
  fault: Fault,
  traffic: Traffic,
  healedMs: number,
  notes: string[],
): Promise<number> {
  let lookAtMs = healedMs + LATE_MS;
  const waiting = new Set<ProxyAddress>(world.sites.map((site) => world.proxy(site, 0)));
  if (fault.linked) for (const site of world.sites) waiting.add(world.proxyAcross(site, 0));
  while (waiting.size > 0 && performance.now() - healedMs < 3 * RECOVERY_MS_MAX) {
    await Promise.all(
      [...waiting].map(async (proxy) => {
        if (await traffic.probe(proxy, 2_000)) waiting.delete(proxy);
      }),
    );
    if (waiting.size > 0 && performance.now() > lookAtMs) {
      lookAtMs += LATE_MS;
      notes.push(`late; exits are held by ${whoHolds(world)}`);
    }
    if (waiting.size > 0) await delay(50);
  }
  return waiting.size > 0 ? Number.POSITIVE_INFINITY : performance.now() - healedMs;
}

async function untilBooked(books: Books, bytes: number, healedMs: number): Promise<number> {
  while (((await books.bookedBytes()) ?? -1) < bytes) {
    if (performance.now() - healedMs > 3 * RECOVERY_MS_MAX) return Number.POSITIVE_INFINITY;
    await delay(50);
  }
  return performance.now() - healedMs;
}
