import { addressGroup } from '../runtime/addresses.js';
import type { Clock } from '../runtime/clock.js';

/** Failed logins after which the next ones wait. "Address" is an IPv4 address or a /64 of IPv6. */
export interface LoginBackoffSettings {
  /** Failures of one address on one account; with so many, each further try waits. At least 1. */
  pairFailuresMax: number;
  /** Failures of one address on all accounts; with so many, its tries on accounts it never opened wait. */
  addressFailuresMax: number;
  /** Failures on one account from anywhere; with so many, each address has one try on it instead of several. */
  accountFailuresMax: number;
  /** The first wait, ms; it doubles with each further failure. */
  delayMs: number;
  /** The longest wait, ms. */
  delayMsMax: number;
  /** Without a failure for so long the earlier ones are forgotten, ms. */
  forgetAfterMs: number;
  /** An address that opened an account is known to belong there for so long, ms. */
  knownForMs: number;
  /** Entries of each table; above it the oldest is forgotten. */
  entriesMax: number;
}

export const loginBackoffDefaults: LoginBackoffSettings = {
  pairFailuresMax: 10,
  addressFailuresMax: 50,
  accountFailuresMax: 200,
  delayMs: 1_000,
  delayMsMax: 300_000,
  forgetAfterMs: 900_000,
  knownForMs: 86_400_000,
  entriesMax: 50_000,
};

interface Failures {
  count: number;
  lastAtMs: number;
  /** No try before. */
  untilMs: number;
}

/**
 * Slows guessing down without helping anybody to lock a buyer out:
 *
 * | failures counted by | what they do | what they do not |
 * |---|---|---|
 * | address and account | the pair's next tries wait, longer each time | touch the account from other addresses |
 * | address | its tries on accounts it has not opened wait | touch those that it has |
 * | account | every address has one try instead of several before it waits | refuse that one try |
 *
 * So a right login from an address without failures of its own always gets in, whatever others do to the account. One
 * try at a time is let through when a wait is over. Costs a few map look-ups a login and holds no more than
 * `entriesMax` entries in each table.
 */
export class LoginBackoff {
  readonly #settings: LoginBackoffSettings;
  readonly #pairs = new Map<string, Failures>();
  readonly #addresses = new Map<string, Failures>();
  readonly #accounts = new Map<string, Failures>();
  /** Address and account that fit: when last. */
  readonly #known = new Map<string, number>();
  #refusedTotal = 0;

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    settings: Partial<LoginBackoffSettings> = {},
  ) {
    this.#settings = { ...loginBackoffDefaults, ...settings };
  }

  /** Tries refused since the start. */
  get refusedTotal(): number {
    return this.#refusedTotal;
  }

  /**
   * A login is about to be checked; returns how long it must wait instead, ms, or 0. With 0, tell `failed` or
   * `succeeded` how it went; a try of which neither is told (the live state was away) changes nothing but that the
   * next one waits as long as the last did.
   */
  waitMs(address: string, account: string): number {
    const nowMs = this.clock.monotonicMs();
    const group = addressGroup(address);
    const pairKey = `${group} ${account}`;
    const known = this.#isKnown(pairKey, nowMs);
    const pair = this.#read(this.#pairs, pairKey, nowMs);
    const from = known ? undefined : this.#read(this.#addresses, group, nowMs);
    const waitMs = Math.max(pair?.untilMs ?? 0, from?.untilMs ?? 0) - nowMs;
    if (waitMs > 0) {
      this.#refusedTotal += 1;
      return waitMs;
    }
    // Whoever comes while this one is checked waits: not everybody at once when a wait is over.
    if (pair) this.#arm(pair, this.#pairFailuresMax(account, known, nowMs), nowMs);
    if (from) this.#arm(from, this.#settings.addressFailuresMax, nowMs);
    return 0;
  }

  /** The login was wrong. */
  failed(address: string, account: string): void {
    const nowMs = this.clock.monotonicMs();
    const group = addressGroup(address);
    const pairKey = `${group} ${account}`;
    this.#count(this.#accounts, account, Number.POSITIVE_INFINITY, nowMs);
    const pairFailuresMax = this.#pairFailuresMax(account, this.#isKnown(pairKey, nowMs), nowMs);
    this.#count(this.#pairs, pairKey, pairFailuresMax, nowMs);
    this.#count(this.#addresses, group, this.#settings.addressFailuresMax, nowMs);
  }

  /** The login was right. */
  succeeded(address: string, account: string): void {
    const nowMs = this.clock.monotonicMs();
    const group = addressGroup(address);
    const pairKey = `${group} ${account}`;
    this.#pairs.delete(pairKey);
    // Its own failures stay: with one account of one's own the others' would be free to guess. It only waits no more.
    const from = this.#addresses.get(group);
    if (from && !this.#isKnown(pairKey, nowMs)) from.untilMs = nowMs;
    const knownAtMs = this.#known.get(pairKey);
    if (knownAtMs !== undefined && nowMs - knownAtMs < this.#settings.knownForMs / 4) return;
    this.#keep(this.#known, pairKey, nowMs);
  }

  #isKnown(pairKey: string, nowMs: number): boolean {
    const knownAtMs = this.#known.get(pairKey);
    return knownAtMs !== undefined && nowMs - knownAtMs <= this.#settings.knownForMs;
  }

  #pairFailuresMax(account: string, known: boolean, nowMs: number): number {
    const { pairFailuresMax, accountFailuresMax } = this.#settings;
    if (known) return pairFailuresMax;
    const everywhere = this.#read(this.#accounts, account, nowMs)?.count ?? 0;
    return everywhere >= accountFailuresMax ? 1 : pairFailuresMax;
  }

  #read(table: Map<string, Failures>, key: string, nowMs: number): Failures | undefined {
    const failures = table.get(key);
    if (failures && nowMs - failures.lastAtMs > this.#settings.forgetAfterMs) {
      table.delete(key);
      return undefined;
    }
    return failures;
  }

  #count(table: Map<string, Failures>, key: string, failuresMax: number, nowMs: number): void {
    const failures = this.#read(table, key, nowMs) ?? { count: 0, lastAtMs: 0, untilMs: 0 };
    failures.count += 1;
    failures.lastAtMs = nowMs;
    this.#arm(failures, failuresMax, nowMs);
    this.#keep(table, key, failures);
  }

  #arm(failures: Failures, failuresMax: number, nowMs: number): void {
    const excess = failures.count - failuresMax;
    if (excess < 0) return;
    const { delayMs, delayMsMax } = this.#settings;
    failures.untilMs = nowMs + Math.min(delayMsMax, delayMs * 2 ** Math.min(excess, 30));
  }

  /** The order of the map is that of use. */
  #keep<T>(table: Map<string, T>, key: string, value: T): void {
    table.delete(key);
    table.set(key, value);
    for (const oldest of table.keys()) {
      if (table.size <= this.#settings.entriesMax) break;
      table.delete(oldest);
    }
  }
}
