import type { LiveRedis } from '../../gateway/live/connection.js';
import { writeGatewayPresence } from '../../gateway/live/presence.js';
import { runOf } from '../../gateway/live/records.js';
import { MeterDelivery } from '../../gateway/metering/delivery.js';
import { Journal } from '../../gateway/metering/journal.js';
import { type MeteringSettings, meteringSettings } from '../../gateway/metering/limits.js';
import { redisMeterSink } from '../../gateway/metering/redis-sink.js';
import { MeterRegistry } from '../../gateway/metering/registry.js';
import { WalletBook } from '../../gateway/metering/wallet-book.js';
import { redisWalletChannel } from '../../gateway/metering/wallet-channel.js';
import type { WalletSettings } from '../../gateway/metering/wallet-settings.js';
import type { ManualClock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { SimulatedDisk } from './disk.js';
import type { Random } from './random.js';
import type { SimulatedRedis } from './redis.js';
import { redisClient } from './redis-client.js';
import { Thread } from './thread.js';

/** Everything tiny: growth, full journals, second epochs and several batches happen within some dozen steps. */
const SETTINGS: Readonly<MeteringSettings> = meteringSettings({
  journalSlots: 6,
  journalExtentSlots: 6,
  journalSlotsMax: 18,
  journalReserveSlots: 1,
  journalGrowRetryMs: 500,
  deliveryIntervalMs: 250,
  deliveryGrowthMs: 400,
  deliveryResendMs: 1_000,
  deliveryBatchMeters: 2,
  deliveryBatchesPerTick: 2,
  deliveryPollMeters: 3,
  finalKeysRemembered: 3,
});

const WALLET_SETTINGS: Partial<WalletSettings> = {
  walletWaitMs: 3_000,
  walletTermMs: 5_000,
  walletRecheckMs: 500,
  walletRefreshMs: 500,
  walletRetryMs: 500,
  walletResendMs: 2_000,
  walletIdleMs: 2_000,
  walletFillBytesMin: 128 * 1_024,
  walletFillMs: 1_000,
  leaseBytesMax: 32 * 1_024,
};

/** A gateway shows itself this often. */
const PRESENCE_MS = 4_000;

const NEVER_LATER = { cancel: () => {} };

/** A machine on which a gateway is started again and again. Its disk and clock outlive the processes. */
export class GatewayHost {
  readonly id: string;
  readonly path: string;
  readonly disk = new SimulatedDisk();
  readonly clock: ManualClock;
  process: GatewayProcess | null = null;

  constructor(id: string, clock: ManualClock) {
    this.id = id;
    this.path = `/${id}/journal`;
    this.clock = clock;
  }
}

/** What a process needs of the world. */
export interface GatewayWorld {
  random: Random;
  redis: SimulatedRedis;
  log: Log;
  drawEpoch(): string;
  /** Told how each tick ended: null, or what was thrown. */
  ended(error: unknown): void;
}

/**
 * One run of a gateway: the project's journal, registry, meters and delivery over simulated disk and Redis. Its
 * timers never fire; the history ticks it.
 */
export class GatewayProcess {
  readonly host: GatewayHost;
  readonly journal: Journal;
  readonly registry: MeterRegistry;
  readonly delivery: MeterDelivery;
  readonly deliveryThread: Thread;
  readonly wallets: WalletBook;
  readonly walletThread: Thread;
  readonly run: string;
  readonly #life: { dead: boolean };
  readonly #walletRedis: LiveRedis;
  readonly #epoch: string;
  #shownAtMs = Number.NEGATIVE_INFINITY;

  private constructor(
    host: GatewayHost,
    world: GatewayWorld,
    life: { dead: boolean },
    journal: Journal,
    epoch: string,
  ) {
    this.host = host;
    this.journal = journal;
    this.#life = life;
    this.registry = new MeterRegistry(journal, epoch, host.clock, SETTINGS, () => world.random.hex(8));
    this.deliveryThread = new Thread(`delivery of ${host.id}`, world.ended);
    this.delivery = new MeterDelivery({
      gatewayId: host.id,
      registry: this.registry,
      sink: redisMeterSink(redisClient(world.redis, this.deliveryThread, world.random)),
      clock: host.clock,
      log: world.log,
      settings: SETTINGS,
    });
    this.walletThread = new Thread(`wallets of ${host.id}`, world.ended);
    this.#walletRedis = redisClient(world.redis, this.walletThread, world.random);
    this.#epoch = epoch;
    this.run = runOf(epoch);
    this.wallets = new WalletBook({
      epoch,
      channel: redisWalletChannel(this.#walletRedis, host.id),
      clock: host.clock,
      log: world.log,
      unsettledRuns: () => this.registry.runs(),
      settings: WALLET_SETTINGS,
    });
  }

  /** Throws what a start of a gateway throws: no room for the journal, a damaged header. */
  static async start(host: GatewayHost, world: GatewayWorld): Promise<GatewayProcess> {
    const life = { dead: false };
    const epoch = world.drawEpoch();
    try {
      const journal = await Journal.open({
        path: host.path,
        gatewayId: host.id,
        epoch,
        clock: host.clock,
        log: world.log,
        settings: SETTINGS,
        disk: host.disk.for(life),
        later: () => NEVER_LATER,
      });
      const process = new GatewayProcess(host, world, life, journal, epoch);
      host.process = process;
      return process;
    } catch (error) {
      life.dead = true; // a process that cannot start exits
      throw error;
    }
  }

  /** A delivery tick, or the continuation of the one under way, of at most so many steps. */
  async tick(steps?: number): Promise<void> {
    if (this.deliveryThread.busy) await this.deliveryThread.advance(steps);
    else await this.deliveryThread.start(() => this.delivery.tick(), steps);
  }

  /** The same for its wallets. */
  async walletTick(steps?: number): Promise<void> {
    if (this.walletThread.busy) await this.walletThread.advance(steps);
    else await this.walletThread.start(() => this.#walletTick(), steps);
  }

  async #walletTick(): Promise<void> {
    const nowMs = this.host.clock.monotonicMs();
    if (nowMs - this.#shownAtMs >= PRESENCE_MS) {
      this.#shownAtMs = nowMs;
      await writeGatewayPresence(this.#walletRedis, {
        gatewayId: this.host.id,
        epoch: this.#epoch,
        version: 'simulated',
        startedAtMs: 0,
        tunnels: 0,
        streams: 0,
        draining: false,
      }).catch(() => {
        this.#shownAtMs = Number.NEGATIVE_INFINITY;
      });
    }
    await this.wallets.tick();
  }

  /** kill -9. */
  kill(): void {
    this.#life.dead = true;
    this.deliveryThread.kill();
    this.walletThread.kill();
    this.host.process = null;
  }

  /** The end of serving: what is not used of the wallets goes back. */
  async finishWallets(): Promise<void> {
    if (this.walletThread.busy) await this.walletThread.advance();
    if (!this.walletThread.busy) await this.walletThread.start(() => this.wallets.finish());
  }

  /** An orderly end: flushed, closed, the lock released. What is not settled stays in the journal. */
  async stop(): Promise<void> {
    this.deliveryThread.kill();
    this.walletThread.kill();
    await this.journal.close();
    this.#life.dead = true;
    this.host.process = null;
  }
}
