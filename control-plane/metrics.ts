import type pg from 'pg';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { exposeRedis, type ShownConnection } from '../gateway/live/redis-metrics.js';
import { exposeBuild } from '../gateway/runtime/build-info.js';
import type { Clock } from '../gateway/runtime/clock.js';
import type { JobCounts } from './jobs/runner.js';
import type { Measures } from './measures.js';
import type { MoneyFigures, MoneyWatch } from './reconciliation/figures.js';
import type { SettlementCounts } from './settlement/worker.js';
import type { RecordFigures, RecordWatch } from './system/record-figures.js';
import { noDeliveries, type TelegramQueue } from './telegram/telegram-queue.js';
import type { UsageCounts } from './usage/worker.js';
import type { WalletKeeperCounts } from './wallets/keeper.js';

export interface ControlPlaneMetricsDeps {
  clock: Clock;
  pool: Pick<pg.Pool, 'totalCount' | 'idleCount' | 'waitingCount'>;
  settlement: { counts: SettlementCounts };
  wallets: { counts: WalletKeeperCounts };
  usage: { counts: UsageCounts };
  jobs: { counts: JobCounts };
  money: Pick<MoneyWatch, 'read' | 'ageS' | 'failures' | 'latest'>;
  record: Pick<RecordWatch, 'read' | 'failures'>;
  measures: Measures;
  redis: ShownConnection;
  limiterRedis: ShownConnection;
  /** Null: there is no bot. */
  bot: { worker: { counts: Readonly<Record<string, number>> } } | null;
  /** Null: no message leaves. */
  telegramQueue: Pick<TelegramQueue, 'length' | 'counts'> | null;
}

/** Without a pass for this long, seconds, `/health` says so. */
const PASS_AGE_MAX_S = 60;

/** Metrics of one control plane: settlement, wallets, the books, its connections, and those of Node itself. */
export class ControlPlaneMetrics {
  readonly registry = new Registry();
  readonly #deps: ControlPlaneMetricsDeps;
  readonly #startedAtMs: number;

  constructor(deps: ControlPlaneMetricsDeps) {
    this.#deps = deps;
    this.#startedAtMs = deps.clock.nowMs();
    collectDefaultMetrics({ register: this.registry });
    exposeBuild(this.registry);
    this.#settlement();
    this.#wallets();
    this.#money();
    this.#usage();
    this.#record();
    this.#jobs();
    this.#bot();
    deps.measures.expose(this.registry);
    exposeRedis(this.registry, { live: deps.redis, rate_limit: deps.limiterRedis });
    this.#gauge('ts_postgres_connections', 'Connections of the pool to Postgres, by state', 'state', () => ({
      idle: deps.pool.idleCount,
      busy: deps.pool.totalCount - deps.pool.idleCount,
    }));
    this.#gauge(
      'ts_postgres_waiting',
      'Requests that wait for a connection to Postgres',
      null,
      () => deps.pool.waitingCount,
    );
  }

  /** Names of what is wrong, for `/health`. */
  ailments(): string[] {
    const figures = this.#deps.money.latest;
    return [
      ...(this.#passAgeS() > PASS_AGE_MAX_S ? ['settlement stands still'] : []),
      ...(figures !== null && (figures.accountsMicros !== 0n || (figures.entries?.totalMicros ?? 0n) !== 0n)
        ? ['the ledger does not sum to zero']
        : []),
      ...(figures !== null && (figures.entries?.booksOffMicros ?? 0n) !== 0n ? ['the books are off'] : []),
    ];
  }

  /** For `/status`. */
  status(): object {
    const { counts } = this.#deps.settlement;
    return {
      settlement: {
        passes: counts.passes,
        metersBooked: counts.metersBooked,
        bytesBooked: counts.bytesBooked.toString(),
        failures: counts.failures,
        lastPassAgeSeconds: this.#passAgeS(),
      },
    };
  }

  #passAgeS(): number {
    const { clock, settlement } = this.#deps;
    const sinceMs = Math.max(settlement.counts.lastPassAtMs, this.#startedAtMs);
    return Math.max(0, clock.nowMs() - sinceMs) / 1_000;
  }

  #settlement(): void {
    const { settlement } = this.#deps;
    const count = (name: string, help: string, read: (counts: SettlementCounts) => number | bigint) =>
      this.#counter(name, help, null, () => Number(read(settlement.counts)));
    count('ts_settlement_passes_total', 'Rounds of settlement that ended well', (c) => c.passes);
    count('ts_settlement_meters_booked_total', 'Times a meter was booked', (c) => c.metersBooked);
    count('ts_settlement_bytes_booked_total', 'Bytes booked, both directions', (c) => c.bytesBooked);
    count('ts_settlement_charged_micros_total', 'Micro-dollars charged to buyers', (c) => c.chargedMicros);
    count('ts_settlement_earned_micros_total', 'Micro-dollars credited to providers', (c) => c.earnedMicros);
    count('ts_settlement_failures_total', 'Rounds of settlement that failed', (c) => c.failures);
    this.#counter(
      'ts_settlement_set_aside_total',
      'Reports that could not be booked, each time one was tried',
      'reason',
      () => settlement.counts.setAside,
    );
    this.#gauge(
      'ts_settlement_last_pass_age_seconds',
      'Time since settlement last ended a round well',
      null,
      () => this.#passAgeS(),
    );
  }

  #wallets(): void {
    const { wallets } = this.#deps;
    const count = (name: string, help: string, read: (counts: WalletKeeperCounts) => number) =>
      this.#counter(name, help, null, () => read(wallets.counts));
    count(
      'ts_wallet_answers_total',
      'Questions of gateways for their wallets that were answered',
      (c) => c.answers,
    );
    count('ts_wallet_holds_closed_total', 'Holds given back to their owners', (c) => c.closed);
    count('ts_wallet_keeper_failures_total', 'Rounds of answering wallets that failed', (c) => c.failures);
  }

  #jobs(): void {
    const { counts } = this.#deps.jobs;
    // Prometheus has a label `job` of its own.
    this.#counter('ts_jobs_succeeded_total', 'Runs of jobs that ended well', 'task', () => counts.succeeded);
    this.#counter('ts_jobs_failed_total', 'Runs of jobs that failed', 'task', () => counts.failed);
  }

  #bot(): void {
    const { bot, telegramQueue } = this.#deps;
    this.#counter(
      'ts_bot_updates_total',
      'Updates from Telegram that were handled, tries that failed, and updates given up',
      'result',
      () => bot?.worker.counts ?? { handled: 0, postponed: 0, given_up: 0 },
    );
    this.#counter(
      'ts_telegram_messages_total',
      'Messages for Telegram that have ended, by what became of them',
      'delivery',
      () => telegramQueue?.counts ?? noDeliveries(),
    );
    this.#gauge(
      'ts_telegram_messages_waiting',
      'Messages for Telegram that this process has not sent yet',
      null,
      () => telegramQueue?.length ?? 0,
    );
  }

  /** What Postgres says; nothing is exposed while it does not answer. */
  #record(): void {
    const { record } = this.#deps;
    const gauges = (
      name: string,
      help: string,
      label: string,
      read: (f: RecordFigures) => Record<string, number>,
    ) =>
      this.#gauge(name, help, label, async () => {
        const figures = await record.read();
        return figures === null ? {} : read(figures);
      });
    const ofQueues = (f: RecordFigures, of: 'due' | 'oldestS') =>
      Object.fromEntries(Object.entries(f.queues).map(([queue, figure]) => [queue, figure[of]]));
    gauges('ts_queue_due', 'Entries that are due and not worked off, by queue', 'queue', (f) =>
      ofQueues(f, 'due'),
    );
    gauges('ts_queue_oldest_seconds', 'Time the oldest entry has been due, by queue', 'queue', (f) =>
      ofQueues(f, 'oldestS'),
    );
    gauges('ts_sessions', 'Traffic sessions under way, by state', 'state', (f) => f.sessions);
    gauges(
      'ts_devices_registered',
      'Devices that are registered, by the country they were last seen in',
      'country',
      (f) => f.devices,
    );
    gauges('ts_alerts_raised', 'What admins are warned of now, by kind', 'kind', (f) => f.alerts);
    const ofAbuse = (f: RecordFigures, of: 'open' | 'oldestS') =>
      Object.fromEntries(Object.entries(f.abuse).map(([what, figure]) => [what, figure[of]]));
    gauges(
      'ts_abuse_open',
      'Findings of abuse and reports that nobody has decided on or answered',
      'what',
      (f) => ofAbuse(f, 'open'),
    );
    gauges('ts_abuse_oldest_seconds', 'Time the oldest of them has waited', 'what', (f) =>
      ofAbuse(f, 'oldestS'),
    );
    gauges(
      'ts_job_last_success_age_seconds',
      'Time since a job last ended well, on any control plane',
      'task',
      (f) => f.jobSuccessAgeS,
    );
    this.#gauge(
      'ts_backup_last_success_timestamp_seconds',
      'When the last backup ended well, however it was made; NaN: there is none',
      null,
      async () => (await record.read())?.backups.lastAtS ?? Number.NaN,
    );
    this.#gauge(
      'ts_backup_last_restore_test_timestamp_seconds',
      'When a backup was last restored and proven by a test; before the first test, when the first backup was made; NaN: there is none',
      null,
      async () => (await record.read())?.backups.provenAtS ?? Number.NaN,
    );
    this.#counter(
      'ts_record_figures_failures_total',
      'Readings of these figures that failed',
      null,
      () => record.failures,
    );
  }

  #usage(): void {
    const { counts } = this.#deps.usage;
    const count = (name: string, help: string, read: () => number) => this.#counter(name, help, null, read);
    count('ts_usage_batches_booked_total', 'Batches of usage by destination booked', () => counts.batches);
    count(
      'ts_usage_duplicates_total',
      'Batches of usage that had been booked before',
      () => counts.duplicates,
    );
    count('ts_usage_entries_booked_total', 'Entries of usage booked', () => counts.entries);
    this.#counter(
      'ts_usage_set_aside_total',
      'Entries of usage that could not be booked and are left out',
      'reason',
      () => counts.setAside,
    );
    count('ts_usage_booking_failures_total', 'Bookings of usage that failed', () => counts.failures);
  }

  #money(): void {
    const { money } = this.#deps;
    const gauge = (name: string, help: string, read: (f: MoneyFigures) => bigint | number | null) =>
      this.#gauge(name, help, null, async () => {
        const figures = await money.read();
        const value = figures === null ? null : read(figures);
        // Not known is not zero: zero is what the alerts hope for.
        return value === null ? Number.NaN : Number(value);
      });
    const gauges = (
      name: string,
      help: string,
      label: string,
      read: (f: MoneyFigures) => Record<string, bigint | number | null>,
    ) =>
      this.#gauge(name, help, label, async () => {
        const figures = await money.read();
        return Object.fromEntries(
          Object.entries(figures === null ? {} : read(figures)).flatMap(([key, value]) =>
            value === null ? [] : [[key, Number(value)]],
          ),
        );
      });
    gauge(
      'ts_books_off_micros',
      'Charges less earnings, referral bonuses and platform revenue of all traffic: zero',
      (f) => f.entries?.booksOffMicros ?? null,
    );
    gauges(
      'ts_ledger_sum_micros',
      'Sum of the ledger, over its entries and over its accounts: zero',
      'of',
      (f) => ({
        entries: f.entries?.totalMicros ?? null,
        accounts: f.accountsMicros,
      }),
    );
    gauge(
      'ts_wallet_held_micros',
      "Micro-dollars of buyers' balances set aside for running traffic",
      (f) => f.heldMicros,
    );
    gauge(
      'ts_wallet_overheld_buyers',
      'Buyers of whom more is held than they have: none',
      (f) => f.overheldBuyers,
    );
    gauge('ts_meters_open', 'Meters that are neither final nor written off', (f) => f.openMeters);
    gauge(
      'ts_meters_open_idle_seconds',
      'Time since the last booking of the open meter that was booked longest ago',
      (f) => f.openMeterAgeS,
    );
    gauges(
      'ts_reconciliation_flags_open',
      'Differences found and not resolved, by kind',
      'kind',
      (f) => f.flags,
    );
    gauges('ts_payouts', 'Payouts, by state', 'state', (f) =>
      Object.fromEntries(Object.entries(f.payouts).map(([state, { count }]) => [state, count])),
    );
    gauges('ts_payouts_micros', 'Micro-dollars of payouts, by state', 'state', (f) =>
      Object.fromEntries(Object.entries(f.payouts).map(([state, { micros }]) => [state, micros])),
    );
    this.#gauge('ts_money_figures_age_seconds', 'Age of the figures of money', null, () => money.ageS);
    this.#counter(
      'ts_money_figures_failures_total',
      'Readings of the figures of money that failed',
      null,
      () => money.failures,
    );
  }

  /** With a label, `read` gives its values; those it leaves out are not exposed. */
  #gauge(
    name: string,
    help: string,
    label: string | null,
    read: () => number | Record<string, number> | Promise<number | Record<string, number>>,
  ): void {
    new Gauge({
      name,
      help,
      labelNames: label === null ? [] : [label],
      registers: [this.registry],
      async collect() {
        const value = await read();
        if (typeof value === 'number') return this.set(value);
        this.reset();
        for (const [key, one] of Object.entries(value)) this.set({ [label ?? '']: key }, one);
      },
    });
  }

  #counter(
    name: string,
    help: string,
    label: string | null,
    read: () => number | Readonly<Record<string, number>>,
  ): void {
    new Counter({
      name,
      help,
      labelNames: label === null ? [] : [label],
      registers: [this.registry],
      collect() {
        const value = read();
        this.reset();
        if (typeof value === 'number') return this.inc(value);
        for (const [key, one] of Object.entries(value)) this.inc({ [label ?? '']: key }, one);
      },
    });
  }
}
