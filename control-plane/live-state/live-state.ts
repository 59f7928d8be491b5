import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { publishCommand } from '../../gateway/live/commands.js';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type {
  AccountSnapshot,
  GatewayCommand,
  LiveSettings,
  ProviderPrice,
} from '../../gateway/live/records.js';
import {
  beginRebuild,
  deleteAccount,
  isAccountWritten,
  markReady,
  readLiveSettings,
  readReady,
  writeAccount,
  writeLiveSettings,
  writeProviderPrice,
} from '../../gateway/live/store.js';
import type { Log } from '../../gateway/runtime/logging.js';

/** Which buyers: some, or the next ones in the order of their ids. */
export type BuyerSelection = { buyerIds: readonly string[] } | { afterId: string; limit: number };

export interface LiveStateDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  log: Log;
  /** What gateways must know of these buyers, from Postgres, in the order of their ids. */
  snapshots: (selection: BuyerSelection) => Promise<AccountSnapshot[]>;
  /** Accounts of these buyers that gateways must not know any more; those still in Redis are removed. */
  goneAccounts?: (selection: BuyerSelection) => Promise<readonly string[]>;
  /** The provider price in force now, from Postgres. */
  providerPrice: () => Promise<ProviderPrice>;
  /** The data path's settings in force now, from Postgres. */
  liveSettings: () => Promise<LiveSettings>;
  /** Further parts of a rebuild, of other domains (pulled packages). */
  rebuilders?: ReadonlyArray<() => Promise<void>>;
  /** How often the marker is looked at and what failed is tried again. Default 1 s. */
  tickMs?: number;
}

const TICK_MS = 1_000;
/** Buyers read and written at a time in a rebuild. */
const BUYERS_PER_STEP = 500;
/** Ticks between two looks for changes that were committed but never published (a crash in between). */
const SWEEP_TICKS = 10;
/** How far back such a look goes. */
const SWEEP_BACK_S = 120;
/** Commands kept while Redis is away; beyond that the oldest are dropped: a returning Redis is rebuilt anyway. */
const COMMANDS_WAITING_MAX = 10_000;
/** As it comes back from JSON, which has no `undefined`. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const NIL_UUID = '00000000-0000-0000-0000-000000000000';

/**
 * Keeps Redis saying what Postgres has committed. Call the `…Changed` methods **after** the commit: they read from
 * Postgres what holds now and write that, so their order does not matter. They do not reject: what could not be
 * written is tried again every second until it is, and a Redis that came back empty is rebuilt.
 *
 * Two control planes may publish the same thing at once and in the wrong order, so everything published is looked
 * at once more a second later.
 */
export class LiveState {
  readonly #deps: LiveStateDeps;
  readonly #accounts = new Set<string>();
  #price = false;
  #settings = false;
  #commands: GatewayCommand[] = [];
  #confirmAccounts = new Set<string>();
  #flushing: Promise<void> | null = null;
  #nextFlush: Promise<void> | null = null;
  #lastPrice: string | null = null;
  #timer: NodeJS.Timeout | null = null;
  #ticking: Promise<void> = Promise.resolve();
  #stopped = false;
  #ticks = 0;
  #failing = false;
  /** The servers that took writes at the last rebuild. */
  #rebuiltOn: string | null = null;

  constructor(deps: LiveStateDeps) {
    this.#deps = deps;
  }

  /** Brings everything up to date, then watches. Resolves after the first attempt, whether Redis was there or not. */
  async start(): Promise<void> {
    await this.rebuild().then(
      () => {},
      (error) => this.#failed(error),
    );
    const tick = () => {
      if (this.#stopped) return;
      this.#ticking = this.#tick()
        .catch((error) => this.#failed(error))
        .finally(() => {
          if (!this.#stopped) this.#timer = setTimeout(tick, this.#deps.tickMs ?? TICK_MS);
        });
    };
    this.#timer = setTimeout(tick, this.#deps.tickMs ?? TICK_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#ticking;
    await Promise.allSettled([this.#flushing, this.#nextFlush]);
  }

  /** Something of these buyers' snapshots changed: status, tokens, limits, price. */
  accountsChanged(buyerIds: readonly string[]): Promise<void> {
    for (const id of buyerIds) this.#accounts.add(id);
    return this.#flush();
  }

  /** `accountsChanged` for a command, which ends before anything is tried again: rejects when Redis or Postgres does not answer. */
  tellAccounts(buyerIds: readonly string[]): Promise<void> {
    return this.#publishAccounts([...buyerIds], 'always');
  }

  /** The provider price in force may have changed. */
  priceChanged(): Promise<void> {
    this.#price = true;
    return this.#flush();
  }

  /** The data path's settings changed. */
  settingsChanged(): Promise<void> {
    this.#settings = true;
    return this.#flush();
  }

  /** The default buyer price changed: every snapshot may have. */
  allAccountsChanged(): Promise<void> {
    return this.#writeAllAccounts().then(
      () => {},
      (error) => this.#failed(error),
    );
  }

  /** Tells every gateway. */
  command(command: GatewayCommand): Promise<void> {
    this.#commands.push(command);
    if (this.#commands.length > COMMANDS_WAITING_MAX) this.#commands.shift();
    return this.#flush();
  }

  /**
   * Writes everything anew and marks the live state complete. Rejects when Postgres or Redis fails in between, or
   * when Redis was emptied meanwhile; the next tick tries again.
   */
  async rebuild(): Promise<void> {
    const { redis, log, rebuilders = [] } = this.#deps;
    const { primaries } = redis;
    const rebuild = await beginRebuild(redis);
    await this.#writePrice();
    await this.#writeSettings();
    const accounts = await this.#writeAllAccounts();
    for (const writePart of rebuilders) await writePart();
    if ((await readReady(redis)) === null) {
      if (!(await markReady(redis, rebuild))) throw new Error('the live state was emptied during a rebuild');
      log.info({ accounts }, 'live_state_rebuilt');
    }
    this.#rebuiltOn = primaries;
  }

  async #tick(): Promise<void> {
    const { pool, redis } = this.#deps;
    this.#ticks++;
    // A failover loses what the replica had not got yet, and leaves the marker.
    if ((await readReady(redis)) === null || redis.primaries !== this.#rebuiltOn) await this.rebuild();
    // A day's price comes into force at midnight without anyone's doing.
    if (this.#lastPrice !== JSON.stringify(await this.#deps.providerPrice())) this.#price = true;
    const accounts = this.#confirmAccounts;
    this.#confirmAccounts = new Set();
    if (this.#ticks % SWEEP_TICKS === 0) {
      const { rows } = await pool.query<{ id: string }>(
        'SELECT id FROM buyers WHERE updated_at > now() - make_interval(secs => $1)',
        [SWEEP_BACK_S],
      );
      for (const row of rows) accounts.add(row.id);
      const written = await readLiveSettings(redis);
      if (!isDeepStrictEqual(written, plain(await this.#deps.liveSettings()))) this.#settings = true;
    }
    await this.#publishAccounts([...accounts], 'when_different');
    await this.#flush();
    this.#failing = false;
  }

  #failed(error: unknown): void {
    // Once an outage, not once a second.
    if (!this.#failing) this.#deps.log.warn({ err: error }, 'live_state_not_current');
    this.#failing = true;
  }

  /** One at a time, so that a later read is never overtaken by an earlier one; callers meanwhile share the next. */
  #flush(): Promise<void> {
    if (this.#flushing === null) {
      this.#flushing = this.#flushOnce().finally(() => {
        this.#flushing = null;
      });
      return this.#flushing;
    }
    this.#nextFlush ??= this.#flushing.then(() => {
      this.#nextFlush = null;
      return this.#flush();
    });
    return this.#nextFlush;
  }

  async #flushOnce(): Promise<void> {
    const accounts = [...this.#accounts];
    const commands = this.#commands;
    this.#accounts.clear();
    this.#commands = [];
    const [price, settings] = [this.#price, this.#settings];
    this.#price = this.#settings = false;
    try {
      await this.#publishAccounts(accounts, 'always');
      if (price && (await this.#writePrice())) commands.push({ kind: 'price_changed' });
      if (settings) {
        await this.#writeSettings();
        commands.push({ kind: 'settings_changed' });
      }
      for (const id of accounts) this.#confirmAccounts.add(id);
      while (commands[0]) {
        await publishCommand(this.#deps.redis, commands[0]);
        commands.shift();
      }
    } catch (error) {
      for (const id of accounts) this.#accounts.add(id);
      this.#price ||= price;
      this.#settings ||= settings;
      this.#commands = [...commands, ...this.#commands].slice(-COMMANDS_WAITING_MAX);
      this.#failed(error);
    }
  }

  /** `when_different`: leaves gateways alone whose snapshot is right already. */
  async #publishAccounts(buyerIds: string[], when: 'always' | 'when_different'): Promise<void> {
    for (let i = 0; i < buyerIds.length; i += BUYERS_PER_STEP) {
      const selection = { buyerIds: buyerIds.slice(i, i + BUYERS_PER_STEP) };
      await this.#writeSnapshots(await this.#deps.snapshots(selection), when);
      await this.#removeGone(selection);
    }
  }

  async #writeSnapshots(
    snapshots: readonly AccountSnapshot[],
    when: 'always' | 'when_different',
  ): Promise<void> {
    const { redis } = this.#deps;
    await Promise.all(
      snapshots.map(async (snapshot) => {
        if (when === 'when_different' && (await isAccountWritten(redis, snapshot))) return;
        await writeAccount(redis, snapshot);
        await publishCommand(redis, { kind: 'account_changed', account: snapshot.account });
      }),
    );
  }

  async #removeGone(selection: BuyerSelection): Promise<void> {
    const { redis } = this.#deps;
    for (const account of (await this.#deps.goneAccounts?.(selection)) ?? []) {
      if (!(await deleteAccount(redis, account))) continue;
      await publishCommand(redis, { kind: 'account_changed', account });
    }
  }

  async #writeAllAccounts(): Promise<number> {
    let afterId = NIL_UUID;
    let count = 0;
    for (;;) {
      const selection = { afterId, limit: BUYERS_PER_STEP };
      const step = await this.#deps.snapshots(selection);
      const last = step.at(-1);
      if (last === undefined) return count;
      await this.#writeSnapshots(step, 'when_different');
      await this.#removeGone(selection);
      count += step.length;
      afterId = last.buyerId;
    }
  }

  /**
   * Writes until what is written is what Postgres has: of two control planes that write at once, the one that writes
   * last has looked after it wrote.
   */
  async #writeSettings(): Promise<void> {
    const { redis, liveSettings } = this.#deps;
    let settings = await liveSettings();
    for (;;) {
      await writeLiveSettings(redis, settings);
      const now = await liveSettings();
      if (isDeepStrictEqual(now, settings)) return;
      settings = now;
    }
  }

  /** Says whether it is another price than the one written before. */
  async #writePrice(): Promise<boolean> {
    const price = await this.#deps.providerPrice();
    await writeProviderPrice(this.#deps.redis, price);
    const changed = this.#lastPrice !== JSON.stringify(price);
    this.#lastPrice = JSON.stringify(price);
    return changed;
  }
}
