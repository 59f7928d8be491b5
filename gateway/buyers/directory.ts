import type { LiveRedis } from '../live/connection.js';
import type { AccountSnapshot, PackageRoute } from '../live/records.js';
import { readAccount, readPackageRoute, readPasswordless, readReady } from '../live/store.js';
import type { StreamAccess } from '../relay/splice.js';
import { AddressSet } from '../runtime/addresses.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { type Soon, soon } from '../runtime/soon.js';
import { AddressAccounts } from './address-accounts.js';
import { compileDestinationRules, type DestinationRules } from './destination-policy.js';

/** A snapshot made ready for use: hashes as bytes, address lists compiled. Immutable; a refresh makes a new one. */
export interface AccountEntry {
  readonly snapshot: AccountSnapshot;
  readonly credentials: ReadonlyArray<{
    readonly tokenId: string;
    readonly sha256: Buffer;
    readonly expiresAtMs: number | null;
    /** null: from anywhere. */
    readonly allowedIps: AddressSet | null;
  }>;
  readonly passwordlessIps: AddressSet;
  /** Each of them must hold the client's address: the buyer's list, a sub-user's. */
  readonly allowedIps: readonly AddressSet[];
  /** Each of them must allow the destination: the buyer's, a sub-user's. */
  readonly rules: readonly DestinationRules[];
  readonly priceMicrosPerGb: bigint;
}

/** What the stages behind authentication know of the buyer of one connection. */
export interface BuyerAccess {
  readonly account: string;
  readonly buyerId: string;
  readonly priceMicrosPerGb: bigint;
  readonly subUser: AccountSnapshot['subUser'];
  readonly limits: AccountSnapshot['limits'];
  readonly rules: AccountEntry['rules'];
  /** What opened the door. */
  readonly access: StreamAccess;
  /** The pulled package that the username names, checked to be this buyer's; null: it names none. */
  readonly packageRoute: PackageRoute | null;
}

export interface BuyerDirectorySettings {
  /** Age at which an entry is read again in the background while it goes on serving, ms. */
  refreshAfterMs: number;
  /** While Redis is away or being rebuilt, entries serve up to this age, ms; then `unavailable`. */
  staleMaxMs: number;
  /** Accounts kept; the one used longest ago goes first. */
  accountsMax: number;
  /** An unknown account is taken for unknown this long without asking again, ms. */
  unknownKeptMs: number;
  /** Unknown accounts remembered; bounds what a guesser can make the gateway hold. */
  unknownMax: number;
}

export const buyerDirectoryDefaults: BuyerDirectorySettings = {
  refreshAfterMs: 1_000,
  staleMaxMs: 60_000,
  accountsMax: 10_000,
  unknownKeptMs: 1_000,
  unknownMax: 10_000,
};

/** In which what is used again is not made the latest used again, ms. */
const MOVED_AFTER_MS = 1_000;

interface Slot<T> {
  value: T;
  /** Monotonic ms of the read that gave it. */
  readAtMs: number;
  /** Monotonic ms of when it was made the latest used. */
  movedAtMs: number;
  /** Read before something changed: ask again before using it, but fall back on it while Redis is away. */
  suspect: boolean;
}

/** `unknown` only when the live state is complete; otherwise nobody can tell, and it is `away`. */
type Fetched<T> = { state: 'found'; value: T } | { state: 'unknown' } | { state: 'away' };

/**
 * Keyed values of the live state in memory. | event | what happens |
 * fresh: served · older than refreshAfterMs: served, read again in the background · suspect: read first, served
 * only while Redis is away · older than staleMaxMs and Redis away: unavailable. One read at a time a key.
 */
class LiveCache<T> {
  readonly #slots = new Map<string, Slot<T>>();
  readonly #unknown = new Map<string, number>();
  readonly #reads = new Map<string, Promise<T | null | 'unavailable'>>();

  constructor(
    private readonly fetch: (key: string) => Promise<Fetched<T>>,
    private readonly settings: BuyerDirectorySettings,
    private readonly clock: Clock,
  ) {}

  peek(key: string): T | undefined {
    return this.#slots.get(key)?.value;
  }

  get(key: string): Soon<T | null | 'unavailable'> {
    const nowMs = this.clock.monotonicMs();
    const slot = this.#slots.get(key);
    if (slot) {
      const ageMs = nowMs - slot.readAtMs;
      if (slot.suspect || ageMs > this.settings.staleMaxMs) return this.#read(key);
      if (ageMs > this.settings.refreshAfterMs) void this.#read(key);
      // The map's order is the order of use, to a second: each move leaves a hole in the map, and it is made anew for those.
      if (nowMs - slot.movedAtMs > MOVED_AFTER_MS) {
        slot.movedAtMs = nowMs;
        this.#slots.delete(key);
        this.#slots.set(key, slot);
      }
      return slot.value;
    }
    const unknownSinceMs = this.#unknown.get(key);
    if (unknownSinceMs !== undefined && nowMs - unknownSinceMs <= this.settings.unknownKeptMs) return null;
    return this.#read(key);
  }

  /** The value changed: the next use asks again, whatever a read that is under way brings. */
  forget(key: string): void {
    this.#slots.delete(key);
    this.#unknown.delete(key);
    this.#reads.delete(key);
  }

  /** Anything may have changed. */
  suspectAll(): void {
    for (const slot of this.#slots.values()) slot.suspect = true;
    this.#unknown.clear();
    this.#reads.clear();
  }

  #read(key: string): Promise<T | null | 'unavailable'> {
    const running = this.#reads.get(key);
    if (running) return running;
    const startedMs = this.clock.monotonicMs();
    const read = this.fetch(key)
      .catch((): Fetched<T> => ({ state: 'away' }))
      .then((fetched) => {
        // Superseded by forget() or suspectAll(): good for those who waited for it, not for keeping.
        const current = this.#reads.get(key) === read;
        if (current) this.#reads.delete(key);
        if (fetched.state === 'away') {
          const slot = this.#slots.get(key);
          const usable = slot && this.clock.monotonicMs() - slot.readAtMs <= this.settings.staleMaxMs;
          return usable ? slot.value : 'unavailable';
        }
        if (current) this.#keep(key, fetched.state === 'found' ? fetched.value : null, startedMs);
        return fetched.state === 'found' ? fetched.value : null;
      });
    this.#reads.set(key, read);
    return read;
  }

  #keep(key: string, value: T | null, readAtMs: number): void {
    this.#slots.delete(key);
    this.#unknown.delete(key);
    if (value === null) {
      this.#unknown.set(key, readAtMs);
      dropOldest(this.#unknown, this.settings.unknownMax);
    } else {
      this.#slots.set(key, { value, readAtMs, movedAtMs: readAtMs, suspect: false });
      dropOldest(this.#slots, this.settings.accountsMax);
    }
  }
}

function dropOldest(map: Map<string, unknown>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) return;
    map.delete(key);
  }
}

/**
 * Accounts and pulled packages as this gateway knows them. A lookup costs no round trip while the account
 * is in use; a change reaches it through the command `account_changed` (`accountChanged`), at the latest with the
 * first use after `refreshAfterMs`.
 */
export class BuyerDirectory {
  readonly #accounts: LiveCache<AccountEntry>;
  readonly #packages: LiveCache<PackageRoute>;
  /** One entry. */
  readonly #addresses: LiveCache<AddressAccounts>;

  constructor(
    private readonly deps: { redis: LiveRedis; clock: Clock; log: Log },
    settings: Partial<BuyerDirectorySettings> = {},
  ) {
    const all = { ...buyerDirectoryDefaults, ...settings };
    this.#accounts = new LiveCache((account) => this.#fetchAccount(account), all, deps.clock);
    this.#packages = new LiveCache((packageId) => this.#fetchPackage(packageId), all, deps.clock);
    this.#addresses = new LiveCache(() => this.#fetchAddresses(), all, deps.clock);
  }

  /**
   * The account; null: there is none; `unavailable`: Redis is away or not rebuilt yet, so nobody can tell (the
   * buyer should try again). At once when it is in memory. Never rejects.
   */
  lookup(account: string): Soon<AccountEntry | null | 'unavailable'> {
    return this.#accounts.get(account);
  }

  /** What is in memory, however old; undefined: nothing. For checks on streams that are open already. */
  cached(account: string): AccountEntry | undefined {
    return this.#accounts.peek(account);
  }

  /** The pulled package, as `lookup`. */
  lookupPackage(packageId: string): Soon<PackageRoute | null | 'unavailable'> {
    return this.#packages.get(packageId);
  }

  /**
   * The account that a client at the address means when it names none: the one that allowlists it. Null: none does, or
   * several, so nobody can tell whose traffic it is. `unavailable`, and when it is told, as in `lookup`. Never rejects.
   */
  accountAt(clientAddress: string): Soon<string | null | 'unavailable'> {
    return soon(this.#addresses.get(''), (accounts) =>
      accounts instanceof AddressAccounts ? accounts.find(clientAddress) : accounts,
    );
  }

  /** Command `account_changed`. */
  accountChanged(account: string): void {
    this.#accounts.forget(account);
    this.#addresses.forget('');
  }

  /** Commands may have been missed, or Redis was rebuilt (`CommandReader.onResync`). */
  resync(): void {
    this.#accounts.suspectAll();
    this.#packages.suspectAll();
    this.#addresses.suspectAll();
  }

  async #fetchAccount(account: string): Promise<Fetched<AccountEntry>> {
    const { redis } = this.deps;
    const known = this.#accounts.peek(account);
    const snapshot = await readAccount(redis, account);
    if (snapshot === null) return this.#absent();
    return { state: 'found', value: compile(snapshot, known) };
  }

  async #fetchPackage(packageId: string): Promise<Fetched<PackageRoute>> {
    const route = await readPackageRoute(this.deps.redis, packageId);
    return route ? { state: 'found', value: route } : this.#absent();
  }

  async #fetchAddresses(): Promise<Fetched<AddressAccounts>> {
    const cidrs = await readPasswordless(this.deps.redis);
    // Without any the answer is the same, but only a live state that is complete can give it.
    if (cidrs.size === 0 && (await readReady(this.deps.redis)) === null) return { state: 'away' };
    return { state: 'found', value: new AddressAccounts(cidrs) };
  }

  async #absent(): Promise<Fetched<never>> {
    return (await readReady(this.deps.redis)) === null ? { state: 'away' } : { state: 'unknown' };
  }
}

/** Address lists are compiled once for each version of the snapshot. */
function compile(snapshot: AccountSnapshot, known: AccountEntry | undefined): AccountEntry {
  if (known && JSON.stringify(known.snapshot) === JSON.stringify(snapshot)) return known;
  const restrictions = [snapshot.limits, snapshot.subUser?.limits ?? {}];
  return {
    snapshot,
    allowedIps: restrictions.flatMap(({ allowedIps = [] }) =>
      allowedIps.length > 0 ? [new AddressSet(allowedIps)] : [],
    ),
    rules: restrictions.flatMap((each) => compileDestinationRules(each) ?? []),
    priceMicrosPerGb: BigInt(snapshot.priceMicrosPerGb),
    passwordlessIps: new AddressSet(snapshot.passwordlessIps),
    credentials: snapshot.credentials.map((credential) => ({
      tokenId: credential.tokenId,
      sha256: Buffer.from(credential.sha256Hex, 'hex'),
      expiresAtMs: credential.expiresAtMs,
      allowedIps: credential.allowedIps.length > 0 ? new AddressSet(credential.allowedIps) : null,
    })),
  };
}
