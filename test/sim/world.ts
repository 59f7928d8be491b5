import type pg from 'pg';
import { Verdict } from '../../agent-protocol/verdict.js';
import { redisMeterInbox } from '../../control-plane/settlement/inbox.js';
import { SETTLEMENT_DEFAULTS, type SettlementSettings } from '../../control-plane/settlement/settings.js';
import { SettlementWorker } from '../../control-plane/settlement/worker.js';
import { WalletKeeper } from '../../control-plane/wallets/keeper.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { QuotaPeriod } from '../../gateway/live/records.js';
import type { MeterBinding } from '../../gateway/metering/meter.js';
import { ManualClock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Books } from './books.js';
import { Checks, InvariantBroken } from './checks.js';
import { accountKey, type HoldRow, SimulatedDatabase } from './database.js';
import { SimulatedFault } from './disk.js';
import { GatewayHost, GatewayProcess, type GatewayWorld } from './gateway-process.js';
import { simulatedPool } from './postgres.js';
import { Random } from './random.js';
import { SimulatedRedis } from './redis.js';
import { redisClient } from './redis-client.js';
import { Thread } from './thread.js';
import { Truth } from './truth.js';
import type { Variant } from './variants.js';

/** A device of a provider. It has one tunnel at most. */
export interface Device {
  providerId: string;
  /** Where its tunnel is; null: it is away. */
  gateway: GatewayHost | null;
  sessionId: string;
}

/** What a buyer was given on a traffic session. */
export interface Allocation {
  allocationId: string;
  sessionId: string;
  buyerId: string;
  /** Of a package that was pulled; null: made on connect. */
  packageId: string | null;
}

/** One allocation of a buyer on a device, as the gateway serves it. */
export interface Stream {
  device: Device;
  sessionId: string;
  allocationId: string;
  buyerId: string;
  process: GatewayProcess;
  binding: MeterBinding;
  /** It was told to wait. */
  waiting: boolean;
  /** It was told that it may never go on. */
  cut: boolean;
}

/** A control plane's settlement: killed and replaced now and then. */
export interface Settler {
  thread: Thread;
  worker: SettlementWorker;
}

/** A control plane's keeper of wallets. */
export interface Keeper {
  thread: Thread;
  keeper: WalletKeeper;
  /** The connection on which it hears the bell. */
  bell: LiveRedis;
}

/** Prices that round, prices of nothing, and one that makes a byte cost a micro-dollar. */
export const PRICES = ['2000000', '0', '999999937', '1000000000', '3'] as const;

export const BOOKING_SETTINGS: SettlementSettings = {
  ...SETTLEMENT_DEFAULTS,
  batchMetersMax: 2,
  batchesInFlight: 1,
  holdMs: 0,
  completionGraceMs: 500,
  sweepIntervalMs: 4_000,
};

const uuids = new Map<string, string>();
/** The same ids in every history: drawing them would cost more than using them. */
export function uuid(kind: string, n: number): string {
  const name = `${kind}${n}`;
  let found = uuids.get(name);
  if (found === undefined) {
    found = `${String(kind.charCodeAt(0)).padStart(8, '0')}-0000-4000-8000-${String(n).padStart(12, '0')}`;
    uuids.set(name, found);
  }
  return found;
}

/** Everything one history happens in. */
export class World {
  readonly random: Random;
  readonly variant: Variant;
  readonly db = new SimulatedDatabase();
  readonly truth = new Truth((ownerId) => this.quotasOf(ownerId));
  readonly clock = new ManualClock();
  readonly redis = new SimulatedRedis(this.clock);
  /** Of the database server. */
  readonly databaseClock = new ManualClock();
  readonly hosts: GatewayHost[] = [];
  readonly devices: Device[] = [];
  readonly buyers: string[] = [];
  readonly settlers: Settler[] = [];
  readonly keepers: Keeper[] = [];
  /** Writes off what is lost. */
  admin: Thread;
  /** Runs that an admin has written off, by gateway id + run: what is booked of them later may overdraw. */
  readonly runsGivenUp = new Set<string>();
  readonly checks = new Checks(this);
  streams: Stream[] = [];
  readonly allocations: Allocation[] = [];
  /** Lines about what happened, for a history that failed. Kept only when `verbose`. */
  readonly log: string[] = [];
  readonly verbose: boolean;
  readonly books: Books;
  providerPrice = 0;
  readonly buyerPrice: number[] = [];
  /** Σ of what buyers paid in. */
  readonly funded = new Map<string, bigint>();
  readonly holdWrittenAtMs = new WeakMap<HoldRow, number>();
  /** The first thing that went wrong. */
  broken: Error | null = null;
  #sessions = 0;
  readonly #log: Log = {
    debug: () => {},
    info: () => {},
    warn: (fields) => this.#ended((fields as { err?: unknown }).err ?? null),
    error: (fields, event) => this.#alarm(fields as { meter?: string; reason?: string }, event),
    child: () => this.#log,
  };
  readonly #gatewayWorld: GatewayWorld;

  constructor(seed: number, variant: Variant, verbose: boolean) {
    this.random = new Random(seed);
    this.variant = variant;
    this.verbose = verbose;
    this.redis.setInsteadOfMax = variant === 'set-instead-of-max';
    this.redis.acknowledgesReports = variant === 'freed-on-redis-ack';
    this.#gatewayWorld = {
      random: this.random,
      redis: this.redis,
      log: this.#log,
      drawEpoch: () => (variant === 'no-epoch' ? '0'.repeat(32) : this.random.hex(32)),
      ended: (error) => this.#ended(error),
    };
    const { random } = this;
    const gateways = 1 + (random.chance(0.6) ? 1 : 0) + (random.chance(0.2) ? 1 : 0);
    for (let i = 0; i < gateways; i++) this.hosts.push(new GatewayHost(`gateway-${i}`, new ManualClock()));
    const buyers = random.between(1, 3);
    for (let i = 0; i < buyers; i++) {
      const id = uuid('b', i);
      this.buyers.push(id);
      this.buyerPrice.push(random.below(PRICES.length));
      this.topUp(id, BigInt(random.below(10 ** random.between(2, 8))));
      if (random.chance(0.4)) {
        const bytesMax = BigInt(random.below(10 ** random.between(3, 7)));
        this.db.subUsers.set(uuid('u', i), { id: uuid('u', i), buyerId: id, bytesMax, bytesUsed: 0n });
        if (random.chance(0.4)) this.#limit(uuid('u', i));
      }
      if (random.chance(0.3)) this.#limit(id);
    }
    this.providerPrice = random.below(PRICES.length);
    const devices = random.between(1, 2);
    for (let i = 0; i < devices; i++) {
      const device: Device = { providerId: uuid('p', i), gateway: random.pick(this.hosts), sessionId: '' };
      this.newSession(device);
      this.devices.push(device);
    }
    this.books = new Books(this.db, new Set(this.buyers), BOOKING_SETTINGS, this.checks, {
      markPerSession: variant === 'mark-per-session',
      setInsteadOfMax: variant === 'set-instead-of-max',
    });
    this.admin = this.#newAdmin();
    const settlers = random.between(1, 2);
    for (let i = 0; i < settlers; i++) this.settlers.push(this.newSettler());
    const keepers = random.between(1, 2);
    for (let i = 0; i < keepers; i++) this.keepers.push(this.newKeeper());
  }

  say(line: string): void {
    if (this.verbose) this.log.push(line);
  }
  /** Time passes everywhere. */
  pass(ms: number): void {
    this.clock.advance(ms);
    this.databaseClock.advance(ms);
    for (const host of this.hosts) host.clock.advance(ms);
  }

  newSession(device: Device): void {
    const id = uuid('s', this.#sessions++);
    device.sessionId = id;
    this.db.sessions.set(id, {
      id,
      providerId: device.providerId,
      inviterId: this.random.chance(0.3) ? uuid('p', 9) : null,
      status: 'active',
      stoppedAtMs: 0,
      bytes: 0n,
    });
  }
  newAllocation(sessionId: string, buyerId: string): Allocation {
    const n = this.allocations.length;
    const pulled = this.random.chance(0.3);
    const allocationId = uuid('a', n);
    const packageId = pulled ? uuid('k', n) : null;
    const allocation = { allocationId, sessionId, buyerId, packageId };
    this.allocations.push(allocation);
    if (pulled)
      this.db.allocations.set(allocationId, {
        id: allocationId,
        buyerId,
        packageId,
        subUserId: null,
        status: 'allocated',
        via: 'pull',
        sessionId,
        sizeBytes: BigInt(this.random.below(10 ** this.random.between(3, 7))),
        bytes: 0n,
      });
    return allocation;
  }
  #limit(ownerId: string): void {
    const { random } = this;
    const bytes = () => (random.chance(0.6) ? BigInt(random.below(10 ** random.between(3, 7))) : null);
    const [dayMax, monthMax] = [bytes(), bytes()];
    this.db.quotas.set(ownerId, { ownerId, dayMax, monthMax, dayBytes: 0n, monthBytes: 0n });
  }

  /** Which periods bound the bytes of a buyer or sub-user. */
  quotasOf(ownerId: string): QuotaPeriod[] {
    const row = this.db.quotas.get(ownerId);
    if (row === undefined) return [];
    return [
      ...(row.dayMax === null ? [] : ['day' as const]),
      ...(row.monthMax === null ? [] : ['month' as const]),
    ];
  }

  topUp(buyerId: string, micros: bigint): void {
    this.funded.set(buyerId, (this.funded.get(buyerId) ?? 0n) + micros);
    const account = accountKey('buyer_prepaid', buyerId);
    const source = accountKey('platform_funding', null);
    this.db.accounts.set(account, (this.db.accounts.get(account) ?? 0n) + micros);
    this.db.accounts.set(source, (this.db.accounts.get(source) ?? 0n) - micros);
  }

  newSettler(): Settler {
    const thread = new Thread('settler', (error) => this.#ended(error));
    const worker: SettlementWorker = new SettlementWorker({
      inbox: redisMeterInbox(redisClient(this.redis, thread, this.random)),
      book: (gatewayId, claims) => this.books.book(thread, this.random, gatewayId, claims),
      housekeeping: () => this.#completeSessions(thread),
      clock: this.clock,
      log: this.#log,
      settings: () => BOOKING_SETTINGS,
    });
    return { thread, worker };
  }

  newKeeper(): Keeper {
    const thread = new Thread('keeper', (error) => this.#ended(error));
    const redis = redisClient(this.redis, thread, this.random);
    const keeper = new WalletKeeper({
      pool: this.poolOf(thread),
      redis,
      openBell: () => redis,
      log: this.#log,
      defaultBuyerPriceMicrosPerGb: () => 2_000_000n,
    });
    return { thread, keeper, bell: redis };
  }
  #newAdmin(): Thread {
    return new Thread('admin', (error) => this.#ended(error));
  }
  poolOf(thread: Thread): pg.Pool {
    return simulatedPool(this.db, thread, this.random, this.checks);
  }

  /** A control plane that was killed is started anew, with nothing but what is in Redis and Postgres. */
  replaceDead(): void {
    if (this.admin.dead) this.admin = this.#newAdmin();
    for (let i = 0; i < this.keepers.length; i++)
      if (this.keepers[i]?.thread.dead) this.keepers[i] = this.newKeeper();
    for (let i = 0; i < this.settlers.length; i++)
      if (this.settlers[i]?.thread.dead) this.settlers[i] = this.newSettler();
  }
  threads(): Thread[] {
    const threads = [...this.settlers, ...this.keepers].map((s) => s.thread);
    threads.push(this.admin);
    for (const { process } of this.hosts)
      if (process !== null) threads.push(process.deliveryThread, process.walletThread);
    return threads;
  }

  /** `completeSessions` of the project, on the simulated tables. */
  async #completeSessions(thread: Thread): Promise<void> {
    const { db } = this;
    if (![...db.sessions.values()].some((s) => s.status === 'stopping')) return;
    const open = (sessionId: string) => {
      for (const m of db.meters.values())
        if (m.sessionId === sessionId && !m.final && !m.writtenOff) return true;
      return false;
    };
    const stoppedBeforeMs = this.databaseClock.nowMs() - BOOKING_SETTINGS.completionGraceMs;
    const gone: string[] = [];
    for (const s of db.sessions.values())
      if (
        s.status === 'stopping' &&
        s.stoppedAtMs <= stoppedBeforeMs &&
        !open(s.id) &&
        !this.devices.some((d) => d.sessionId === s.id && d.gateway !== null)
      )
        gone.push(s.id);
    if (gone.length === 0) return;
    await db.transaction(thread, this.random, async (tx) => {
      await tx.lock('sessions', gone);
      tx.write(() => {
        for (const id of gone) {
          const session = db.sessions.get(id);
          if (session?.status === 'stopping' && !open(id)) session.status = 'completed';
        }
      });
    });
  }

  /** Starts the gateway of a host and checks what it found in its journal. */
  async start(host: GatewayHost): Promise<void> {
    try {
      const { registry } = await GatewayProcess.start(host, this.#gatewayWorld);
      this.checks.replayed(host, registry);
    } catch (error) {
      if (error instanceof InvariantBroken) throw error;
      // Only the disk may keep a gateway from starting.
      const code = (error as { code?: string }).code;
      if (code !== 'EIO' && code !== 'ENOSPC' && code !== 'JOURNAL_NO_SPACE') throw error;
      this.say(`  did not start: ${code}`);
    }
  }

  /** Bytes arrive on a stream; what the meter lets go on is part of the truth. */
  count(stream: Stream, up: boolean, bytes: number): void {
    const { binding, process } = stream;
    if (stream.cut) return;
    const verdict = up ? binding.countUp(bytes) : binding.countDown(bytes);
    stream.waiting = verdict === Verdict.WAIT;
    if (stream.waiting)
      binding.wait({
        retry: () => this.count(stream, up, bytes),
        cut: () => {
          stream.cut = true;
        },
      });
    if (verdict !== Verdict.GO) return;
    const meter = this.truth.of(process.host.id, binding.meter);
    this.truth.went(meter, up, bytes);
    this.checks.counted(meter, binding.meter);
  }

  /** What an operator would be woken for. */
  #alarm(fields: { meter?: string; reason?: string; err?: unknown }, event: string): void {
    if (event === 'settlement_meter_not_bookable') this.#ended(fields.err ?? null);
    if (event === 'settlement_report_set_aside') this.checks.reportSetAside(fields.meter, fields.reason);
  }

  /** Only faults that were injected may end what a thread does. */
  #ended(error: unknown): void {
    if (error === null || error instanceof SimulatedFault) return;
    this.broken ??= error instanceof Error ? error : new Error(String(error));
  }
}
