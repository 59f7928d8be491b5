import type pg from 'pg';
import { Verdict } from '../../agent-protocol/verdict.js';
import { chargeMicros } from '../../control-plane/ledger/money.js';
import { redisMeterInbox } from '../../control-plane/settlement/inbox.js';
import { SETTLEMENT_DEFAULTS, type SettlementSettings } from '../../control-plane/settlement/settings.js';
import { SettlementWorker } from '../../control-plane/settlement/worker.js';
import { WalletKeeper } from '../../control-plane/wallets/keeper.js';
import { runOf } from '../../gateway/live/records.js';
import type { MeterBinding } from '../../gateway/metering/meter.js';
import { ManualClock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Books } from './books.js';
import { type HoldRow, holdKey, type MeterRow, SimulatedDatabase } from './database.js';
import { SimulatedFault } from './disk.js';
import { GatewayHost, GatewayProcess, type GatewayWorld } from './gateway-process.js';
import { simulatedPool } from './postgres.js';
import { Random } from './random.js';
import { SimulatedRedis } from './redis.js';
import { Thread } from './thread.js';
import { Truth } from './truth.js';
import type { Variant } from './variants.js';

/** Something that must never happen has happened. */
export class InvariantBroken extends Error {
  readonly invariant: string;
  constructor(invariant: string, detail: string) {
    super(`${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

/** A device of a provider. It has one tunnel at most. */
export interface Device {
  providerId: string;
  /** Where its tunnel is; null: it is away. */
  gateway: GatewayHost | null;
  sessionId: string;
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

const stillHeld = (hold: HoldRow) => hold.granted > hold.renounced + hold.spent;

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
  readonly truth = new Truth();
  readonly clock = new ManualClock();
  readonly redis = new SimulatedRedis(() => this.clock.monotonicMs());
  /** Of the database server. */
  readonly databaseClock = new ManualClock();
  readonly hosts: GatewayHost[] = [];
  readonly devices: Device[] = [];
  readonly buyers: string[] = [];
  readonly settlers: Settler[] = [];
  readonly keepers: Keeper[] = [];
  /** Buyers with bytes that came after an admin had given them up: these may overdraw. */
  readonly overdrawable = new Set<string>();
  streams: Stream[] = [];
  readonly allocations: Array<{ sessionId: string; buyerId: string; allocationId: string }> = [];
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
    const gateways = random.between(1, 3);
    for (let i = 0; i < gateways; i++) this.hosts.push(new GatewayHost(`gateway-${i}`, new ManualClock()));
    const buyers = random.between(1, 3);
    for (let i = 0; i < buyers; i++) {
      const id = uuid('b', i);
      this.buyers.push(id);
      this.buyerPrice.push(random.below(PRICES.length));
      this.topUp(id, BigInt(random.below(10 ** random.between(2, 8))));
    }
    this.providerPrice = random.below(PRICES.length);
    const devices = random.between(1, 2);
    for (let i = 0; i < devices; i++) {
      const device: Device = { providerId: uuid('p', i), gateway: random.pick(this.hosts), sessionId: '' };
      this.newSession(device);
      this.devices.push(device);
    }
    this.books = new Books(
      this.db,
      new Set(this.buyers),
      BOOKING_SETTINGS,
      {
        meterBooked: (before, after) => this.#meterBooked(before, after),
        bookedBefore: (sourceId) => this.fail('no range is booked twice', sourceId),
        moneyMoved: (buyerIds) => {
          for (const id of buyerIds) this.#checkBuyer(id);
        },
      },
      {
        markPerSession: variant === 'mark-per-session',
        setInsteadOfMax: variant === 'set-instead-of-max',
      },
    );
    const settlers = random.between(1, 2);
    for (let i = 0; i < settlers; i++) this.settlers.push(this.newSettler());
    const keepers = random.between(1, 2);
    for (let i = 0; i < keepers; i++) this.keepers.push(this.newKeeper());
  }

  say(line: string): void {
    if (this.verbose) this.log.push(line);
  }
  /** Kept, too: the project's code may take the throw for a failure of its own and go on. */
  fail(invariant: string, detail: string): never {
    this.broken ??= new InvariantBroken(invariant, detail);
    throw this.broken;
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
  newAllocation(sessionId: string, buyerId: string): string {
    const allocationId = uuid('a', this.allocations.length);
    this.allocations.push({ sessionId, buyerId, allocationId });
    return allocationId;
  }
  topUp(buyerId: string, micros: bigint): void {
    this.funded.set(buyerId, (this.funded.get(buyerId) ?? 0n) + micros);
    const account = `buyer_prepaid|${buyerId}`;
    this.db.accounts.set(account, (this.db.accounts.get(account) ?? 0n) + micros);
    this.db.accounts.set('platform_funding|', (this.db.accounts.get('platform_funding|') ?? 0n) - micros);
  }

  newSettler(): Settler {
    const thread = new Thread('settler', (error) => this.#ended(error));
    const worker: SettlementWorker = new SettlementWorker({
      inbox: redisMeterInbox(this.redis.client(thread, this.random)),
      book: (gatewayId, claims) => this.books.book(thread, this.random, gatewayId, claims),
      housekeeping: () => this.#completeSessions(thread),
      clock: this.clock,
      log: this.#log,
      settings: () => BOOKING_SETTINGS,
      balancesChanged: async () => {},
    });
    return { thread, worker };
  }

  newKeeper(): Keeper {
    const thread = new Thread('keeper', (error) => this.#ended(error));
    const keeper = new WalletKeeper({
      pool: this.poolOf(thread),
      redis: this.redis.client(thread, this.random),
      openBell: () => {
        throw new Error('nothing rings here');
      },
      log: this.#log,
      defaultBuyerPriceMicrosPerGb: () => 2_000_000n,
    });
    return { thread, keeper };
  }
  poolOf(thread: Thread): pg.Pool {
    return simulatedPool(this.db, thread, this.random, {
      holdWritten: (before, after) => this.#holdWritten(before, after),
    });
  }

  /** A control plane that was killed is started anew, with nothing but what is in Redis and Postgres. */
  replaceDead(): void {
    this.keepers.forEach((keeper, i) => {
      if (keeper.thread.dead) this.keepers[i] = this.newKeeper();
    });
    this.settlers.forEach((settler, i) => {
      if (settler.thread.dead) this.settlers[i] = this.newSettler();
    });
  }
  threads(): Thread[] {
    const threads = [...this.settlers, ...this.keepers].map((s) => s.thread);
    for (const { process } of this.hosts)
      if (process !== null) threads.push(process.deliveryThread, process.walletThread);
    return threads;
  }

  /** `completeSessions` of the project, on the simulated tables. */
  async #completeSessions(thread: Thread): Promise<void> {
    const { db } = this;
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
      await tx.lock('sessions', gone.sort());
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
      this.#checkReplayed(host, registry);
    } catch (error) {
      if (error instanceof InvariantBroken) throw error;
      // Only the disk may keep a gateway from starting.
      const code = (error as { code?: string }).code;
      if (code !== 'EIO' && code !== 'ENOSPC' && code !== 'JOURNAL_NO_SPACE') throw error;
      this.say(`  did not start: ${code}`);
    }
  }

  #checkReplayed(host: GatewayHost, registry: GatewayProcess['registry']): void {
    const found = new Map<string, { bytesUp: number; bytesDown: number }>();
    for (const meter of registry.meters()) found.set(meter.key, meter);
    for (const m of this.truth.meters.values()) {
      if (m.gatewayId !== host.id) continue;
      const replayed = found.get(m.key);
      if (replayed === undefined) {
        if (m.leastUp + m.leastDown > 0 && !m.final)
          this.fail(
            'a counted meter is not in the journal',
            `${m.key} with ${m.leastUp} + ${m.leastDown} bytes`,
          );
        continue;
      }
      const { bytesUp, bytesDown } = replayed;
      if (bytesUp < m.leastUp || bytesDown < m.leastDown || bytesUp > m.up || bytesDown > m.down)
        this.fail(
          'the journal says what was counted',
          `${m.key}: ${bytesUp} + ${bytesDown}, counted ${m.leastUp}…${m.up} + ${m.leastDown}…${m.down}`,
        );
      m.leastUp = bytesUp;
      m.leastDown = bytesDown;
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
    const meter = this.truth.of(process.host.id, binding.meter, runOf(binding.meter.identity.epoch));
    if (up) {
      meter.up += bytes;
      meter.leastUp += bytes;
    } else {
      meter.down += bytes;
      meter.leastDown += bytes;
    }
    this.#checkSpent(process.host.id, meter.run, meter.buyerId);
    if (binding.meter.bytesUp !== meter.up || binding.meter.bytesDown !== meter.down)
      this.fail(
        'a meter says what went through it',
        `${meter.key}: ${binding.meter.bytesUp} + ${binding.meter.bytesDown}, truly ${meter.up} + ${meter.down}`,
      );
  }

  /** A run never counts beyond what Postgres has set aside for it. */
  #checkSpent(gatewayId: string, run: string, buyerId: string): void {
    let spent = 0n;
    for (const m of this.truth.meters.values())
      if (m.gatewayId === gatewayId && m.run === run && m.buyerId === buyerId)
        spent += chargeMicros(BigInt(m.up + m.down), m.buyerPrice);
    if (spent === 0n) return;
    const hold = this.db.holds.get(holdKey({ kind: 'buyer', ownerId: buyerId, gatewayId, run }));
    const may = hold === undefined || hold.closed ? 0n : hold.granted - hold.renounced;
    if (spent > may)
      this.fail('a run counts no more than is held for it', `${spent} of ${may} micro-dollars`);
  }

  #holdWritten(before: HoldRow | undefined, after: HoldRow): void {
    this.holdWrittenAtMs.set(after, this.databaseClock.monotonicMs());
    if (before !== undefined && (after.granted < before.granted || after.renounced < before.renounced))
      this.fail('holds never fall', holdKey(after));
    if (before?.closed && !after.closed) this.fail('a closed hold stays closed', holdKey(after));
    if (after.kind === 'buyer') this.#checkBuyer(after.ownerId);
  }

  /** What is held of a buyer is there: spent + held ≤ funded. */
  #checkBuyer(buyerId: string): void {
    if (this.overdrawable.has(buyerId)) return;
    let held = 0n;
    for (const h of this.db.holds.values())
      if (h.kind === 'buyer' && h.ownerId === buyerId && !h.closed && h.granted > h.renounced + h.spent)
        held += h.granted - h.renounced - h.spent;
    const balance = this.db.accounts.get(`buyer_prepaid|${buyerId}`) ?? 0n;
    if (balance < held)
      this.fail('nobody overdraws', `${held} held of a balance of ${balance} micro-dollars`);
  }

  /** What an operator would be woken for. */
  #alarm(fields: { meter?: string; reason?: string; err?: unknown }, event: string): void {
    if (event === 'settlement_meter_not_bookable') this.#ended(fields.err ?? null);
    if (event !== 'settlement_report_set_aside') return;
    // After a loss of the host its last second may still be in Redis, above a FINAL that does not know it.
    for (const m of this.truth.meters.values()) if (m.key === fields.meter && m.hostLost) return;
    this.broken ??= new InvariantBroken('every report can be booked', `${fields.meter}: ${fields.reason}`);
  }

  #meterBooked(before: MeterRow | undefined, after: MeterRow): void {
    const truth = this.truth.meters.get(`${after.gatewayId}|${after.key}`);
    if (truth === undefined) {
      if (after.bytesUp + after.bytesDown > 0n)
        this.fail('booked ≤ counted', `${after.key} never counted a byte`);
      return;
    }
    if (after.bytesUp > BigInt(truth.up) || after.bytesDown > BigInt(truth.down))
      this.fail(
        'booked ≤ counted',
        `${after.key}: booked ${after.bytesUp} + ${after.bytesDown}, counted ${truth.up} + ${truth.down}`,
      );
    if (after.bytesUp < truth.bookedUp || after.bytesDown < truth.bookedDown || (truth.final && !after.final))
      this.fail(
        'marks never fall',
        `${after.key}: ${truth.bookedUp} + ${truth.bookedDown} → ${after.bytesUp} + ${after.bytesDown}`,
      );
    if (before !== undefined && before.id !== after.id) this.fail('one row for each meter', after.key);
    const charge = chargeMicros(after.bytesUp + after.bytesDown, after.buyerPrice);
    if (after.chargedMicros !== charge)
      this.fail('charged what the bytes cost', `${after.key}: ${after.chargedMicros}, not ${charge}`);
    truth.bookedUp = after.bytesUp;
    truth.bookedDown = after.bytesDown;
    truth.final = after.final;
  }

  /** Nothing is left to do for anybody. */
  isQuiet(): boolean {
    for (const { process } of this.hosts)
      if (process === null || process.registry.meterCount > 0) return false;
    for (const session of this.db.sessions.values()) if (session.status !== 'completed') return false;
    for (const hold of this.db.holds.values()) if (!hold.closed && stillHeld(hold)) return false;
    return true;
  }
  whatIsLeft(): string {
    const slots = this.hosts.map((h) => `${h.id}: ${h.process?.registry.meterCount ?? 'down'} meters`);
    const sessions = [...this.db.sessions.values()].filter((s) => s.status !== 'completed');
    const holds = [...this.db.holds.values()].filter((h) => !h.closed && stillHeld(h));
    return [
      ...slots,
      ...sessions.map((s) => `session ${s.id.slice(-2)} ${s.status}`),
      ...holds.map((h) => `${holdKey(h)}: ${h.granted} - ${h.renounced} - ${h.spent} held`),
    ].join(', ');
  }

  /** An admin gives up what no gateway will ever report: only what was lost with a host may need it. */
  writeOffLost(): void {
    for (const row of this.db.meters.values()) {
      if (row.final || row.writtenOff) continue;
      const truth = this.truth.meters.get(`${row.gatewayId}|${row.key}`);
      const registry = this.hosts.find((h) => h.id === row.gatewayId)?.process?.registry;
      if (registry?.has(row.key)) continue;
      if (truth !== undefined && !truth.hostLost)
        this.fail('every meter becomes FINAL', `${row.key} is in no journal`);
      row.writtenOff = true;
    }
  }

  /** All is quiet: what was counted is what was booked, to the byte and to the micro-dollar. */
  checkEnd(): void {
    const charged = new Map<string, bigint>();
    for (const m of this.truth.meters.values()) {
      const row = this.db.meters.get(`${m.gatewayId}|${m.key}`);
      const up = row?.bytesUp ?? 0n;
      const down = row?.bytesDown ?? 0n;
      if (up < BigInt(m.leastUp) || down < BigInt(m.leastDown))
        this.fail(
          'everything counted is booked',
          `${m.key}: booked ${up} + ${down}, counted ${m.leastUp} + ${m.leastDown}`,
        );
    }
    for (const row of this.db.meters.values())
      charged.set(row.buyerId, (charged.get(row.buyerId) ?? 0n) + row.chargedMicros);
    for (const buyerId of this.buyers) {
      const balance = this.db.accounts.get(`buyer_prepaid|${buyerId}`) ?? 0n;
      const owed = (this.funded.get(buyerId) ?? 0n) - (charged.get(buyerId) ?? 0n);
      if (balance !== owed)
        this.fail('a balance is what was paid in less what was charged', `${balance}, not ${owed}`);
    }
    let sum = 0n;
    for (const balance of this.db.accounts.values()) sum += balance;
    if (sum !== 0n) this.fail('the ledger sums to zero', String(sum));
  }

  /** Only faults that were injected may end what a thread does. */
  #ended(error: unknown): void {
    if (error === null || error instanceof SimulatedFault) return;
    this.broken ??= error instanceof Error ? error : new Error(String(error));
  }
}
