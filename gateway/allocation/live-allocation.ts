import type { Claim } from '../live/claims.js';
import { CLAIM_TTL_MS } from '../live/claims.js';
import type { ClaimRecord, GatewayRun, PackageRoute } from '../live/records.js';
import { exitKey } from './candidates.js';

/**
 * Why an allocation ended.
 * `idle`: unused for its idle time. `expired`: a pulled package's time is over. `used_up`: its bytes are.
 * `ended`: by command. `device_gone`: the traffic session stopped, or the device came back with another session or
 * address. `claim_lost`: another allocation holds the exit. `reclaimed`: idle, and somebody else needed the device.
 * `shutdown`: this gateway stops.
 */
export type AllocationEnd =
  | 'idle'
  | 'expired'
  | 'used_up'
  | 'ended'
  | 'device_gone'
  | 'claim_lost'
  | 'reclaimed'
  | 'shutdown';

export interface AllocationFacts {
  allocationId: string;
  buyerId: string;
  account: string;
  providerId: string;
  exitIp: string;
  /** The one device that serves it; null: a pulled package, served by any device of its exit. */
  device: { deviceId: string; sessionId: string } | null;
  packageId: string | null;
  sizeBytes: number;
  /** Wall clock. */
  assignedAtMs: number;
  /** Wall clock; null: lives as long as it is used. */
  expiresAtMs: number | null;
}

/** A package in a buyer's hands, as this gateway serves it. */
export class LiveAllocation implements Readonly<AllocationFacts> {
  readonly allocationId: string;
  readonly buyerId: string;
  readonly account: string;
  readonly providerId: string;
  readonly exitIp: string;
  readonly exit: string;
  readonly device: { readonly deviceId: string; readonly sessionId: string } | null;
  readonly packageId: string | null;
  readonly sizeBytes: number;
  readonly assignedAtMs: number;
  #expiresAtMs: number | null;

  /** Payload bytes, both directions. The relay adds to it; it may pass `sizeBytes` by what was under way. */
  bytesUsed = 0;
  /** Connections that hold it: streams, and dials under way. */
  streams = 0;
  /** Monotonic ms of the last time a stream began or ended. */
  usedAtMs: number;
  /** Idle time after which it ends, ms: the longest asked for by a session bound to it. */
  idleMs: number;
  /** Named proxy sessions bound to it. */
  readonly sessions = new Set<string>();
  /** When the tunnel of its device was opened, ms by Redis's clock; null: not known, or a pulled package. */
  sinceMs: number | null = null;
  /** It came with its device from another gateway, where it served named sessions: it is kept for them. */
  isKept = false;
  /** Its device has moved: it takes no new streams and ends with its last one. */
  isLeaving = false;
  /** Somebody who has no exit waits for it: it takes no new streams and ends once none is left. */
  isWanted = false;
  /** null while it lives. */
  endedBy: AllocationEnd | null = null;

  constructor(facts: AllocationFacts, idleMs: number, monotonicMs: number) {
    this.allocationId = facts.allocationId;
    this.buyerId = facts.buyerId;
    this.account = facts.account;
    this.providerId = facts.providerId;
    this.exitIp = facts.exitIp;
    this.exit = exitKey(facts);
    this.device = facts.device;
    this.packageId = facts.packageId;
    this.sizeBytes = facts.sizeBytes;
    this.assignedAtMs = facts.assignedAtMs;
    this.#expiresAtMs = facts.expiresAtMs;
    this.idleMs = idleMs;
    this.usedAtMs = monotonicMs;
  }

  /** Wall clock; null: lives as long as it is used. A pulled package's grows while it is used (`follow`). */
  get expiresAtMs(): number | null {
    return this.#expiresAtMs;
  }

  /** The route of the pulled package as it is now: the control plane gives a package in use more time. */
  follow({ expiresAtMs, bytesUsed }: Pick<PackageRoute, 'expiresAtMs' | 'bytesUsed'>): void {
    if (this.#expiresAtMs !== null) this.#expiresAtMs = Math.max(this.#expiresAtMs, expiresAtMs);
    this.bytesUsed = Math.max(this.bytesUsed, bytesUsed ?? 0);
  }

  /** Zero or less: used up. */
  get remainingBytes(): number {
    return this.sizeBytes - this.bytesUsed;
  }

  /** Its hold on the exit, to be taken or renewed. A pulled package keeps its exit until it expires. */
  claim(nowMs: number, gateway: GatewayRun): Claim {
    return {
      providerId: this.providerId,
      exitIp: this.exitIp,
      ttlMs: Math.max(CLAIM_TTL_MS, (this.expiresAtMs ?? 0) - nowMs),
      record: {
        allocationId: this.allocationId,
        buyerId: this.buyerId,
        account: this.account,
        sessionId: this.device?.sessionId ?? null,
        packageId: this.packageId,
        sizeBytes: this.sizeBytes,
        assignedAtMs: this.assignedAtMs,
        gateway,
        ...(this.#tunnel && { device: this.#tunnel }),
        ...((this.sessions.size > 0 || this.isKept) && { sessionIdleMs: this.idleMs }),
      },
    };
  }

  /** Whether the claim is of what the same device served by an earlier tunnel, at whichever gateway. */
  comesAfter(claim: ClaimRecord): boolean {
    return isEarlier(claim.device, this.#tunnel) && claim.packageId === null;
  }

  /** Whether the claim is of what the same device serves by a later tunnel. */
  comesBefore(claim: ClaimRecord): boolean {
    return isEarlier(this.#tunnel, claim.device) && claim.packageId === null;
  }

  get #tunnel(): ClaimRecord['device'] {
    const { device, sinceMs } = this;
    return device === null || sinceMs === null ? undefined : { deviceId: device.deviceId, sinceMs };
  }
}

function isEarlier(one: ClaimRecord['device'], other: ClaimRecord['device']): boolean {
  return one !== undefined && one.deviceId === other?.deviceId && one.sinceMs < other.sinceMs;
}
