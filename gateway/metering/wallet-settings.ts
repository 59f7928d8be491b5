/** Settings of wallets and leases: unit in the name, what happens at each limit beside it. */
export interface WalletSettings {
  /** A stream waits this long for its wallet to be filled, ms; then it is cut. */
  walletWaitMs: number;
  /**
   * A wallet that the live state has not confirmed for this long, ms on the monotonic clock, is not used: streams
   * wait, new ones are refused. What it held stays held.
   */
  walletTermMs: number;
  /** A new connection waits this long for the first answer about a wallet, ms; then it is refused. */
  walletAdmitMs: number;
  /** That nothing is left is believed this long, ms; then the next new connection asks once more. */
  walletRecheckMs: number;
  /** Wallets in use are read again this often, ms. */
  walletRefreshMs: number;
  /** An ask without an answer is sent again after this long, ms, with a ring. */
  walletRetryMs: number;
  /** What was asked and renounced is sent again this often, ms, so that an emptied or rolled back Redis fills again. */
  walletResendMs: number;
  /**
   * A wallet of which nothing was used for this long, ms, is given back. Well below `walletWaitMs`: streams of another
   * gateway may wait for it.
   */
  walletIdleMs: number;
  /** While an answer is awaited it is looked for this often at first, ms, then ever less often … */
  walletPollMs: number;
  /** … down to this, ms. */
  walletPollMsMax: number;
  /** The least a wallet in use is filled up to, bytes (for money: what they cost). */
  walletFillBytesMin: number;
  /** A fast wallet is filled for this long at its rate, ms. */
  walletFillMs: number;
  /** The most one lease takes out of the wallet at a time beyond what is needed now, bytes. */
  leaseBytesMax: number;
}

/** The defaults of every wallet setting. */
export const WALLET_DEFAULTS: Readonly<WalletSettings> = Object.freeze({
  walletWaitMs: 10_000,
  walletTermMs: 120_000,
  walletAdmitMs: 3_000,
  walletRecheckMs: 5_000,
  walletRefreshMs: 2_000,
  walletRetryMs: 1_000,
  walletResendMs: 30_000,
  walletIdleMs: 5_000,
  walletPollMs: 10,
  walletPollMsMax: 250,
  walletFillBytesMin: 64 * 2 ** 20,
  walletFillMs: 4_000,
  leaseBytesMax: 16 * 2 ** 20,
});
