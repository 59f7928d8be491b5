import type { DestinationPolicy } from './buyers/destination-policy.js';
import type { AccountEntry, BuyerDirectory } from './buyers/directory.js';
import type { AccountLimits } from './buyers/limits.js';
import { connectionRefusal } from './buyers/standing.js';
import { walletOwners } from './buyers/wallet-owners.js';
import type { WalletOwner } from './live/records.js';
import type { WalletBook } from './metering/wallet-book.js';
import type { BandwidthLimits } from './relay/bandwidth.js';
import type { Relay } from './relay/relay.js';
import type { Clock } from './runtime/clock.js';
import type { Log } from './runtime/logging.js';

export interface AccessWatchDeps {
  directory: BuyerDirectory;
  limits: AccountLimits;
  bandwidth: BandwidthLimits;
  wallets: WalletBook;
  relay: Relay;
  policy: () => DestinationPolicy;
  clock: Clock;
  log: Log;
}

/** How often credentials of open streams are looked at for having expired, ms. */
const EXPIRY_CHECK_INTERVAL_MS = 250;

/**
 * Judges open streams again when something about their account has changed, and cuts those that would not be let in
 * any more. New limits of bandwidth and bytes hold for open streams at once.
 */
export class AccessWatch {
  readonly #deps: AccessWatchDeps;
  #timer: NodeJS.Timeout | null = null;

  constructor(deps: AccessWatchDeps) {
    this.#deps = deps;
  }

  /** Looks for expired credentials from now on. */
  start(): void {
    this.#timer = setInterval(() => this.#cutExpired(), EXPIRY_CHECK_INTERVAL_MS).unref();
  }
  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Command `account_changed`. Never rejects. */
  async accountChanged(account: string): Promise<void> {
    const { directory, limits, wallets } = this.#deps;
    directory.accountChanged(account);
    if (limits.streams(account) > 0 || wallets.anyShort) await this.#review(account);
  }

  /** Anything may have changed: a resync, or the lists of destinations that nobody may reach. Never rejects. */
  async everythingChanged(): Promise<void> {
    await Promise.all(this.#deps.relay.accounts().map((account) => this.#review(account)));
  }

  async #review(account: string): Promise<void> {
    const { directory, wallets, relay } = this.#deps;
    const entry = await directory.lookup(account);
    if (entry === 'unavailable') return;
    if (entry !== null) for (const owner of walletOwnersEver(entry)) wallets.askAgain(owner);
    // Connections that were let in by what was read before this are open after the next turn: none slips through.
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (entry === null) relay.cutOfAccount(account, () => true);
    else this.#judge(entry);
  }

  #judge(entry: AccountEntry): void {
    const { limits, bandwidth, wallets, relay, policy, clock, log } = this.#deps;
    const { account, buyerId } = entry.snapshot;
    bandwidth.setRates(buyerId, account, limits.bandwidthRates(entry.snapshot));
    const bounds = walletOwners(entry.snapshot).map((owner) => wallets.wallet(owner));
    relay.bindAccount(account, bounds);
    const lists = policy();
    const nowMs = clock.nowMs();
    const cut = relay.cutOfAccount(
      account,
      ({ subject }) => connectionRefusal(entry, subject, lists, nowMs) !== null,
    );
    if (cut > 0) log.info({ account, streams: cut }, 'streams_cut_access_ended');
  }

  #cutExpired(): void {
    const { directory, relay, clock } = this.#deps;
    const nowMs = clock.nowMs();
    for (const account of relay.accounts()) {
      const entry = directory.cached(account);
      // Dropped from memory, where only so many accounts are kept: read it once more.
      if (entry === undefined) void this.#review(account);
      else if (entry.credentials.some(({ expiresAtMs }) => expiresAtMs !== null && expiresAtMs <= nowMs))
        this.#judge(entry);
    }
  }
}

/** What bounds the account or has until now: a limit that was lifted is one that may have been reached. */
function walletOwnersEver({ snapshot }: AccountEntry): WalletOwner[] {
  const ids = [snapshot.buyerId, ...(snapshot.subUser ? [snapshot.subUser.id] : [])];
  const kinds = ['buyer', 'sub_user', 'day', 'month'] as const;
  return ids.flatMap((ownerId) => kinds.map((kind) => ({ kind, ownerId })));
}
