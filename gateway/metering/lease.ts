import { bytesWithin, chargeCeil, chargeFloor } from './charge.js';
import type { Wallet } from './wallet.js';

/** What takes leases: a meter binding. */
export interface LeaseHolder {
  /** Bytes counted since it was opened, over all its prices. */
  readonly countedBytes: number;
  /** Nothing beyond so many counted bytes may be counted without asking its leases again. */
  lowerLimit(limitBytes: number): void;
  /** Its wallet will not let it go on; for whoever asks why. */
  refuse(why: WalletRefusal): void;
}

/** Why a wallet lets nothing more through. */
export type WalletRefusal = 'NO_BALANCE' | 'QUOTA_REACHED';

/**
 * The piece of a wallet that one binding may count away without asking: bytes, up to `limitBytes` in the binding's own
 * count. It belongs to one meter at a time (`roll`). What it keeps of the wallet is never below what settlement will
 * book of that meter.
 */
export class Lease {
  readonly wallet: Wallet;
  readonly holder: LeaseHolder;
  /** Units set aside in the wallet for this meter: rounded up while it counts. */
  units = 0;
  /** In the binding's count; what is between the meter's start and here is paid for by `units`. */
  limitBytes: number;
  /** The binding's count when the wallet last looked whether it is in use. */
  seenBytes: number;
  /** Micro-dollars per 10^9 bytes; null: units are bytes. */
  #price: bigint | null;
  /** The binding's count when the meter began. */
  #baseBytes: number;

  /** @internal Made by `Wallet.lease`. */
  constructor(wallet: Wallet, holder: LeaseHolder, price: bigint | null) {
    this.wallet = wallet;
    this.holder = holder;
    this.#price = price;
    this.#baseBytes = this.limitBytes = this.seenBytes = holder.countedBytes;
  }

  get price(): bigint | null {
    return this.#price;
  }

  /** Units that have to be set aside for the binding to count up to here. */
  unitsTo(countBytes: number): number {
    const bytes = countBytes - this.#baseBytes;
    return this.#price === null ? bytes : chargeCeil(bytes, this.#price);
  }

  /** How far the binding could count with so many units for this meter. */
  bytesWith(units: number): number {
    const bytes = this.#price === null ? units : bytesWithin(units, this.#price);
    return Math.min(Number.MAX_SAFE_INTEGER, this.#baseBytes + bytes);
  }

  /** What settlement books in the end if nothing more is counted by this meter. */
  get unitsBooked(): number {
    const bytes = this.holder.countedBytes - this.#baseBytes;
    return this.#price === null ? bytes : chargeFloor(bytes, this.#price);
  }

  /** @internal The meter is over; the next one begins here, at another price. */
  rebase(price: bigint | null): void {
    this.#price = price;
    this.#baseBytes = this.limitBytes = this.holder.countedBytes;
    this.units = 0;
  }
}
