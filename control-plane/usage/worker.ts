import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import {
  forgetUsageGatewayWhenGone,
  listUsageBatches,
  readUsageBatch,
  readUsageGateways,
  settleUsage,
  type UsageBatchId,
} from '../../gateway/live/usage.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { isDatabaseAway, withTransaction } from '../db/pool.js';
import { bookUsageBatch } from './book.js';
import { makeUsagePartition } from './partitions.js';
import { readUsage, type UsageBatch } from './usage-batch.js';

export interface UsageWorkerDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  /** Pause between two rounds over the gateways, ms. */
  intervalMs: number;
}

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Since this process started. */
export interface UsageCounts {
  batches: number;
  /** Batches that came again after they had been booked. */
  duplicates: number;
  entries: number;
  /** Entries that were left out, by why. */
  setAside: { unreadable: number; unknown: number };
  /** Rounds, and bookings of single batches, that failed. */
  failures: number;
}

/**
 * Books the usage that gateways put into the live state. Each batch is committed with its number and then taken out of
 * Redis, so it does not matter who else does the same, or how often a batch comes.
 */
export class UsageWorker {
  readonly counts: UsageCounts = {
    batches: 0,
    duplicates: 0,
    entries: 0,
    setAside: { unreadable: 0, unknown: 0 },
    failures: 0,
  };
  readonly #deps: UsageWorkerDeps;
  readonly #job: Periodic;
  /** Months whose partition is known to be there. */
  readonly #months = new Set<string>();

  constructor(deps: UsageWorkerDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs,
      onError: (error) => this.#failed(error),
    });
  }

  start(): void {
    this.#job.start();
  }

  /** Ends with a last round: gateways that stopped before have left their last batches. */
  async stop(): Promise<void> {
    await this.#job.stop();
    await this.runOnce().catch((error) => this.#failed(error));
  }

  /** One round over all gateways; resolves to how many batches it booked. */
  async runOnce(): Promise<number> {
    const { redis } = this.#deps;
    let booked = 0;
    for (const gatewayId of await readUsageGateways(redis)) {
      const ids = await listUsageBatches(redis, gatewayId);
      for (const id of ids) if (await this.#tryOne(gatewayId, id)) booked++;
      if (ids.length === 0) await forgetUsageGatewayWhenGone(redis, gatewayId);
    }
    return booked;
  }

  /** A batch that can not be booked for a reason of its own does not keep the others waiting. */
  async #tryOne(gatewayId: string, id: UsageBatchId): Promise<boolean> {
    try {
      return await this.#bookOne(gatewayId, id);
    } catch (error) {
      const sqlState = (error as { code?: unknown }).code;
      const ofItsOwn = typeof sqlState === 'string' && SQLSTATE.test(sqlState) && !isDatabaseAway(error);
      if (!ofItsOwn) throw error;
      this.#failed(error);
      return false;
    }
  }

  async #bookOne(gatewayId: string, id: UsageBatchId): Promise<boolean> {
    const { pool, redis, clock, log } = this.#deps;
    const text = await readUsageBatch(redis, gatewayId, id);
    if (text === null) return false; // another control plane was faster
    const batch = readUsage(id, text, clock.nowMs());
    await this.#makePartitions(batch);
    const { fresh, booked, unknown } = await withTransaction(pool, (client) =>
      bookUsageBatch(client, gatewayId, batch),
    );
    await settleUsage(redis, gatewayId, id, booked);
    if (!fresh) {
      this.counts.duplicates++;
      return false;
    }
    this.counts.batches++;
    this.counts.entries += batch.claims.length + batch.refusals.length - unknown;
    this.counts.setAside.unreadable += batch.unreadable;
    this.counts.setAside.unknown += unknown;
    if (batch.unreadable + unknown > 0)
      log.error({ gateway_id: gatewayId, ...id, unreadable: batch.unreadable, unknown }, 'usage_set_aside');
    return true;
  }

  async #makePartitions({ claims }: UsageBatch): Promise<void> {
    for (const { day } of claims) {
      const month = day.slice(0, 7);
      if (this.#months.has(month)) continue;
      await makeUsagePartition(this.#deps.pool, day);
      this.#months.add(month);
    }
  }

  #failed(error: unknown): void {
    this.counts.failures++;
    this.#months.clear(); // should one have been dropped, it is made again
    if (this.counts.failures === 1 || this.counts.failures % 60 === 0)
      this.#deps.log.warn({ err: error, failures: this.counts.failures }, 'usage_not_booked');
  }
}
