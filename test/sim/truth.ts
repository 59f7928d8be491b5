import type { Meter } from '../../gateway/metering/meter.js';

/** What really went through one meter. */
export interface TrueMeter {
  gatewayId: string;
  key: string;
  buyerId: string;
  /** Micro-dollars per 10^9 bytes. */
  buyerPrice: bigint;
  run: string;
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
  /** By gateway id + meter key. */
  readonly meters = new Map<string, TrueMeter>();

  of(gatewayId: string, meter: Meter, run: string): TrueMeter {
    const key = `${gatewayId}|${meter.key}`;
    let found = this.meters.get(key);
    if (found === undefined) {
      found = {
        gatewayId,
        key: meter.key,
        buyerId: meter.identity.buyerId,
        buyerPrice: BigInt(meter.identity.buyerPriceMicrosPerGb),
        run,
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
      this.meters.set(key, found);
    }
    return found;
  }

  /** The meter's gateway has put everything so far on its disk. */
  synced(gatewayId: string): void {
    for (const m of this.meters.values())
      if (m.gatewayId === gatewayId) {
        m.syncedUp = m.leastUp;
        m.syncedDown = m.leastDown;
      }
  }

  /** Its host is gone with what was not synced. */
  hostLost(gatewayId: string): void {
    for (const m of this.meters.values())
      if (m.gatewayId === gatewayId) {
        m.leastUp = m.syncedUp;
        m.leastDown = m.syncedDown;
        m.hostLost = true;
      }
  }
}
