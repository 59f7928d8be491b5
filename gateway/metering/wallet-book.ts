import { runOf, type WalletOwner, walletField } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { Wallet, type WalletHost } from './wallet.js';
import type { WalletAsking, WalletChannel } from './wallet-channel.js';
import { WALLET_DEFAULTS, type WalletSettings } from './wallet-settings.js';

/** What the book of wallets needs from outside. */
export interface WalletBookOptions {
  /** The epoch of this process, or its run. */
  epoch: string;
  channel: WalletChannel;
  clock: Clock;
  log: Log;
  /**
   * Runs (`runOf`) that have meters here which Postgres has not committed as FINAL (`MeterRegistry.runs`); the wallets
   * of all others are given back.
   */
  unsettledRuns: () => ReadonlySet<string>;
  settings?: Partial<WalletSettings>;
}

/** How often wallets of earlier runs are looked for while there are some. */
const OTHERS_INTERVAL_MS = 1_000;
/** … and while there seem to be none. */
const OTHERS_RARELY_MS = 30_000;
/** Wallets told or read in one message. */
const BATCH = 500;

/**
 * The wallets of this run. It does nothing by itself: whoever drives it calls `tick` again and again, `pauseMs` after
 * the last one at the latest, sooner when `onHungry` says so (`WalletLoop` does).
 */
export class WalletBook implements WalletHost {
  readonly clock: Clock;
  readonly settings: Readonly<WalletSettings>;
  readonly run: string;
  /** Something wants to be asked for now. */
  onHungry: () => void = () => {};
  readonly #o: WalletBookOptions;
  readonly #wallets = new Map<string, Wallet>();
  /** The same by owner: a name would have to be made for each look. */
  readonly #ofKind = new Map<WalletOwner['kind'], Map<string, Wallet>>();
  #hungry = true;
  #pauseMs: number;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #othersAtMs = Number.NEGATIVE_INFINITY;
  #othersSeen = true;
  #failuresInARow = 0;
  #failures = 0;
  #finishing = false;
  #ticking: Promise<boolean> | null = null;

  constructor(options: WalletBookOptions) {
    this.#o = options;
    this.clock = options.clock;
    this.run = runOf(options.epoch);
    this.settings = Object.freeze({ ...WALLET_DEFAULTS, ...options.settings });
    this.#pauseMs = this.settings.walletPollMs;
  }

  /** The wallet of an owner: the same one for the whole run. */
  wallet(owner: WalletOwner): Wallet {
    const { kind, ownerId } = owner;
    let ofKind = this.#ofKind.get(kind);
    if (ofKind === undefined) {
      ofKind = new Map();
      this.#ofKind.set(kind, ofKind);
    }
    let wallet = ofKind.get(ownerId);
    if (wallet === undefined) {
      const field = walletField(this.run, owner);
      wallet = new Wallet({ kind, ownerId }, field, this);
      ofKind.set(ownerId, wallet);
      this.#wallets.set(field, wallet);
    }
    return wallet;
  }

  all(): IterableIterator<Wallet> {
    return this.#wallets.values();
  }
  /** Wallets of this run, idle ones included. */
  get size(): number {
    return this.#wallets.size;
  }
  /** Asks that wait for an answer. */
  get pendingCount(): number {
    return this.#count((wallet) => (wallet.pending ? 1 : 0));
  }
  /** Streams that wait for a wallet. */
  get waiterCount(): number {
    return this.#count((wallet) => wallet.waiterCount);
  }
  /** Streams cut since start because nothing came in time. */
  get cutCount(): number {
    return this.#count((wallet) => wallet.cutCount);
  }
  /** Whether some wallet could not be filled as asked. */
  get anyShort(): boolean {
    for (const wallet of this.#wallets.values()) if (wallet.state !== 'open') return true;
    return false;
  }
  /** Units left in the wallets of a kind. */
  left(kind: WalletOwner['kind']): number {
    return this.#count((wallet) => (wallet.owner.kind === kind ? wallet.left : 0));
  }
  /** Ticks since start that did not reach the live state. */
  get failures(): number {
    return this.#failures;
  }

  #count(of: (wallet: Wallet) => number): number {
    let sum = 0;
    for (const wallet of this.#wallets.values()) sum += of(wallet);
    return sum;
  }

  /** @internal */
  hungry(_wallet: Wallet): void {
    if (this.#hungry) return;
    this.#hungry = true;
    this.#pauseMs = this.settings.walletPollMs;
    this.onHungry();
  }

  /** The owner's money or limit may have grown: what was exhausted asks again. */
  askAgain(owner: WalletOwner): void {
    this.#wallets.get(walletField(this.run, owner))?.askAgain();
  }

  /** The live state may have been emptied or rolled back: everything is told and read again. */
  resync(): void {
    for (const wallet of this.#wallets.values()) {
      wallet.repeat();
      wallet.askAgain();
    }
    this.#othersSeen = true;
    this.#readAtMs = this.#othersAtMs = Number.NEGATIVE_INFINITY;
    this.#hungry = true;
    this.onHungry();
  }

  /** The longest pause until the next tick, ms. */
  get pauseMs(): number {
    return this.#hungry ? this.settings.walletPollMs : this.#pauseMs;
  }

  /** One round: tell, read, serve. Resolves to whether the live state took part; never rejects. One at a time. */
  tick(): Promise<boolean> {
    this.#ticking ??= this.#tick().finally(() => {
      this.#ticking = null;
    });
    return this.#ticking;
  }

  async #tick(): Promise<boolean> {
    this.#hungry = false;
    let ok = true;
    try {
      // First, and again last: time passes also while the live state is away.
      this.#serve();
      await this.#tell();
      await this.#read();
      await this.#lookAfterOthers();
      this.#failuresInARow = 0;
    } catch (error) {
      ok = false;
      this.#failures++;
      if (this.#failuresInARow++ === 0)
        this.#o.log.warn({ reason: (error as Error).message }, 'wallets_not_reached');
    }
    this.#serve();
    const pending = this.#count((wallet) => (wallet.pending || wallet.awaited ? 1 : 0)) > 0;
    const { walletPollMs, walletPollMsMax } = this.settings;
    this.#pauseMs = pending && ok ? Math.min(this.#pauseMs * 2, walletPollMsMax) : walletPollMsMax;
    if (this.#hungry) this.#pauseMs = walletPollMs;
    return ok;
  }

  #serve(): void {
    for (const wallet of this.#wallets.values()) if (wallet.awaited) wallet.serve();
  }

  async #tell(): Promise<void> {
    const asks: WalletAsking[] = [];
    const of: Wallet[] = [];
    for (const wallet of this.#wallets.values()) {
      const ask = wallet.due();
      if (ask === null) continue;
      asks.push(ask);
      of.push(wallet);
    }
    for (let i = 0; i < asks.length; i += BATCH) {
      const some = of.slice(i, i + BATCH);
      for (const wallet of some) wallet.sent();
      try {
        await this.#o.channel.ask(asks.slice(i, i + BATCH));
      } catch (error) {
        for (const wallet of of.slice(i)) wallet.repeat();
        throw error;
      }
    }
  }

  async #read(): Promise<void> {
    const nowMs = this.clock.monotonicMs();
    const everything = nowMs - this.#readAtMs >= this.settings.walletRefreshMs;
    const wanted = [...this.#wallets.values()].filter(
      (wallet) => wallet.pending || wallet.awaited || (everything && wallet.live),
    );
    for (let i = 0; i < wanted.length; i += BATCH) {
      const some = wanted.slice(i, i + BATCH);
      const readAtMs = this.clock.monotonicMs();
      const answers = await this.#o.channel.read(some.map((wallet) => wallet.field));
      some.forEach((wallet, n) => {
        // An ask that was sent a moment ago is missing for as long as it takes to answer it.
        const answer = answers[n] ?? null;
        if (answer !== null || (everything && !wallet.pending)) wallet.heard(answer, readAtMs);
      });
    }
    if (everything) this.#readAtMs = nowMs;
  }

  /** Earlier runs of this gateway: what they held is given back once nothing of them is left to book. */
  async #lookAfterOthers(): Promise<void> {
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.#othersAtMs < (this.#othersSeen ? OTHERS_INTERVAL_MS : OTHERS_RARELY_MS)) return;
    this.#othersAtMs = nowMs;
    const shown = await this.#o.channel.readAll();
    const unsettled = this.#o.unsettledRuns();
    const others = [...shown.keys()].filter((field) => !field.startsWith(`${this.run}.`));
    this.#othersSeen = others.length > 0;
    const over = others.filter((field) => !unsettled.has(field.slice(0, field.indexOf('.'))));
    for (let i = 0; i < over.length; i += BATCH)
      await this.#o.channel.ask(
        over.slice(i, i + BATCH).map((field) => ({
          field,
          wantGranted: 0,
          renounced: 0,
          withdrawn: 0,
          finished: true,
          ring: true,
        })),
      );
  }

  /**
   * The process ends: nobody is served any more, and everything goes back; at once and for good when each meter of
   * this run is settled, else with the next start. One attempt; says whether the live state took it.
   */
  async finish(): Promise<boolean> {
    this.#finishing = true;
    await this.#ticking;
    const settled = !this.#o.unsettledRuns().has(this.run);
    for (const wallet of this.#wallets.values()) {
      wallet.dismiss();
      wallet.renounceAll();
      if (settled && wallet.want > 0) wallet.finish();
    }
    try {
      await this.#tell();
      return true;
    } catch {
      return false;
    }
  }

  /** Whether `finish` was called. */
  get over(): boolean {
    return this.#finishing;
  }
}

/** Drives a book with timers. */
export class WalletLoop {
  readonly #book: WalletBook;
  #timer: NodeJS.Timeout | null = null;
  #ticking: Promise<unknown> | null = null;
  #again = false;
  #started = false;

  constructor(book: WalletBook) {
    this.#book = book;
  }

  start(): void {
    this.#started = true;
    this.#book.onHungry = () => this.#now();
    this.#now();
  }

  /** Ends ticking and resolves when the tick under way is over; what is asked for then stays unanswered. */
  async stop(): Promise<void> {
    this.#started = false;
    this.#book.onHungry = () => {};
    if (this.#timer) clearTimeout(this.#timer);
    await this.#ticking;
  }

  #now(): void {
    if (!this.#started) return;
    if (this.#ticking !== null) {
      this.#again = true;
      return;
    }
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#ticking = this.#round();
  }

  async #round(): Promise<void> {
    this.#again = false;
    // What became hungry in one turn of the event loop is asked for in one message.
    await new Promise<void>((resolve) => setImmediate(resolve));
    await this.#book.tick();
    this.#ticking = null;
    if (!this.#started) return;
    const pauseMs = this.#again ? this.#book.settings.walletPollMs : this.#book.pauseMs;
    this.#timer = setTimeout(() => this.#now(), pauseMs).unref();
  }
}
