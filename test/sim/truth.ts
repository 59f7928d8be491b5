import { chargeMicros } from '../../control-plane/ledger/money.js';
import { type QuotaPeriod, runOf, type WalletKind } from '../../gateway/live/records.js';
import type { Meter } from '../../gateway/metering/meter.js';
import { holdKey } from './database.js';
import { Table } from './table.js';

/** What one run of a gateway has truly used of one wallet: micro-dollars of a buyer, bytes of the others. */
export interface TrueUse {
  /** Of its hold. */
  holdKey: string;
  used: bigint;
}

/** What really went through one meter. */
export interface TrueMeter {
  gatewayId: string;
  key: string;
  buyerId: string;
  /** Micro-dollars per 10^9 bytes. */
  buyerPrice: bigint;
  run: string;
  /** What its bytes cost, as it must be booked. */
  chargedMicros: bigint;
  /** The buyer's, and those of the package, the sub-user and quotas if it has them. */
  uses: TrueUse[];
  up: number;
  down: number;
  /** Of that, what a loss of the host cannot take any more: as of the latest sync. */
  syncedUp: number;
  syncedDown: number;
  /** What must be booked at least: less than up and down only after a loss of the host. */
  leastUp: number;
  leastDown: number;
  /** Its host was lost: its journal may know less than Redis or Postgres, or nothing. */
  hostLost: boolean;
  /** The mark that Postgres has. */
  bookedUp: bigint;
  bookedDown: bigint;
  final: boolean;
}

/** What the world knows and no part of the project does: every byte that was counted and went on. */
export class Truth {
  /** By gateway id and meter key. */
  readonly meters = new Table<TrueMeter>();
  /** By hold. */
  readonly #uses = new Map<string, TrueUse>();

  /** `quotas`: which periods bound an owner's bytes. */
  constructor(private readonly quotas: (ownerId: string) => readonly QuotaPeriod[]) {}

  of(gatewayId: string, meter: Meter): TrueMeter {
    let found = this.meters.get(gatewayId, meter.key);
    if (found === undefined) {
      const run = runOf(meter.identity.epoch);
      found = {
        gatewayId,
        key: meter.key,
        buyerId: meter.identity.buyerId,
        buyerPrice: BigInt(meter.identity.buyerPriceMicrosPerGb),
        run,
        chargedMicros: 0n,
        uses: this.#usesOf(gatewayId, meter, run),
        up: 0,
        down: 0,
        syncedUp: 0,
        syncedDown: 0,
        leastUp: 0,
        leastDown: 0,
        hostLost: false,
        bookedUp: 0n,
        bookedDown: 0n,
        final: false,
      };
      this.meters.set(gatewayId, meter.key, found);
    }
    return found;
  }

  #usesOf(gatewayId: string, { identity }: Meter, run: string): TrueUse[] {
    const uses = [this.#use('buyer', identity.buyerId, gatewayId, run)];
    if (identity.packageId !== null) uses.push(this.#use('package', identity.allocationId, gatewayId, run));
    if (identity.subUserId !== null) uses.push(this.#use('sub_user', identity.subUserId, gatewayId, run));
    for (const ownerId of [identity.buyerId, ...(identity.subUserId === null ? [] : [identity.subUserId])])
      for (const kind of this.quotas(ownerId)) uses.push(this.#use(kind, ownerId, gatewayId, run));
    return uses;
  }
  #use(kind: WalletKind, ownerId: string, gatewayId: string, run: string): TrueUse {
    const key = holdKey({ kind, ownerId, gatewayId, run });
    let use = this.#uses.get(key);
    if (use === undefined) {
      use = { holdKey: key, used: 0n };
      this.#uses.set(key, use);
    }
    return use;
  }

  /** Bytes went through the meter. */
  went(meter: TrueMeter, up: boolean, bytes: number): void {
    if (up) {
      meter.up += bytes;
      meter.leastUp += bytes;
    } else {
      meter.down += bytes;
      meter.leastDown += bytes;
    }
    const before = meter.chargedMicros;
    meter.chargedMicros = chargeMicros(BigInt(meter.up + meter.down), meter.buyerPrice);
    meter.uses.forEach((use, i) => {
      use.used += i === 0 ? meter.chargedMicros - before : BigInt(bytes);
    });
  }

  /** The meter's gateway has put everything so far on its disk. */
  synced(gatewayId: string): void {
    for (const m of this.meters.of(gatewayId)) {
      m.syncedUp = m.leastUp;
      m.syncedDown = m.leastDown;
    }
  }

  /** Whether a meter of the run may have lost bytes with its host. */
  lostWithHost(gatewayId: string, run: string): boolean {
    for (const m of this.meters.of(gatewayId)) if (m.run === run && m.hostLost) return true;
    return false;
  }

  /** Its host is gone with what was not synced. */
  hostLost(gatewayId: string): void {
    for (const m of this.meters.of(gatewayId)) {
      m.leastUp = m.syncedUp;
      m.leastDown = m.syncedDown;
      m.hostLost = true;
    }
  }
}
