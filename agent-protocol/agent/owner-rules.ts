import { embeddedIpv4, parseHost } from '../address.js';
import { BandwidthLimit } from './bandwidth.js';
import type { MachineState } from './machine.js';
import type { Usage } from './usage.js';

/** Part of a day in minutes since local midnight, from (inclusive) to (exclusive); may pass midnight. */
export interface DayHours {
  readonly fromMinute: number;
  readonly toMinute: number;
}

/** What the owner of the device allows. The agent keeps these itself, whatever a gateway asks. */
export interface OwnerLimits {
  /** Payload bytes, up and down together, per local calendar day; null: no limit. At it: CAP_REACHED until midnight. */
  readonly capBytesDay: number | null;
  /** The same per local calendar month. */
  readonly capBytesMonth: number | null;
  /** Streams at once; null: what the gateway's WELCOME says. At it: CAP_REACHED for the new one. */
  readonly streamsMax: number | null;
  /** When sharing is allowed; null: always. Outside: PAUSED, open streams are reset. */
  readonly hours: DayHours | null;
  /** Names (with everything below them) and addresses that nobody may reach: BLOCKED. */
  readonly blockHosts: readonly string[];
  /** Payload bytes a second, up and down together; null: no limit. At it: streams are slowed down, in turn. */
  readonly bandwidthBytesPerSecond: number | null;
  /** Only over Wi-Fi or a cable, never over mobile data or what is not known: PAUSED there. */
  readonly wifiOnly: boolean;
  /** Only while the machine is on mains, so far as that is known: PAUSED otherwise. */
  readonly chargingOnly: boolean;
}

/** What the owner set for all of their devices (API: `rules` of starts and reports). */
export interface AccountRules {
  /** Until the nearer cap of the account is used up, over all its devices; null: no cap. */
  readonly capBytesLeft: number | null;
  readonly hours: DayHours | null;
  readonly blockHosts: readonly string[];
  readonly wifiOnly: boolean;
  readonly chargingOnly: boolean;
}

export const NO_OWNER_LIMITS: OwnerLimits = {
  capBytesDay: null,
  capBytesMonth: null,
  streamsMax: null,
  hours: null,
  blockHosts: [],
  bandwidthBytesPerSecond: null,
  wifiOnly: false,
  chargingOnly: false,
};

/** Why sharing is paused. */
export type PausedBy = 'owner' | 'hours' | 'wifi_only' | 'charging_only';

/** Why a stream is refused by the owner's rules. */
export type OwnerRefusal = 'CAP_REACHED' | 'PAUSED' | 'BLOCKED';

/**
 * The owner's limits and the counters they are held against. One per agent, over all its tunnels. Limits of this machine
 * and those of the account hold side by side: the tighter one decides.
 */
export class OwnerRules {
  /** Counted here, saved by the agent. */
  readonly usage: Usage;
  /** Payload bytes of this process, buyer → destination. */
  bytesUp = 0;
  /** Payload bytes of this process, destination → buyer. */
  bytesDown = 0;
  /** Streams being dialled or relayed now. */
  streamsOpen = 0;
  readonly bandwidth = new BandwidthLimit();
  #limits: OwnerLimits = NO_OWNER_LIMITS;
  #account: AccountRules | null = null;
  #machine: MachineState = { network: 'unknown', charging: null };
  #blockedNames: ReadonlySet<string> = new Set();
  #blockedAddresses: ReadonlySet<string> = new Set();
  #pausedByOwner = false;
  #pausedUntil: Date | null = null;
  #outsideHours = false;
  /** What the account's caps still allow: told by the server, less what was counted since. */
  #accountBytesLeft: number | null = null;

  constructor(limits: OwnerLimits, usage: Usage, now: Date) {
    this.usage = usage;
    this.setLimits(limits, now);
    this.tick(now);
  }

  get limits(): OwnerLimits {
    return this.#limits;
  }

  /** Null: the server has told none yet. */
  get account(): AccountRules | null {
    return this.#account;
  }

  /** The owner changed them on this machine. */
  setLimits(limits: OwnerLimits, now: Date): void {
    this.#limits = limits;
    this.bandwidth.setRate(limits.bandwidthBytesPerSecond);
    this.#changed(now);
  }

  /** The server told those of the account. */
  setAccount(account: AccountRules, now: Date): void {
    this.#account = account;
    this.#accountBytesLeft = account.capBytesLeft;
    this.#changed(now);
  }

  /** Where the machine is, as far as is known. */
  setMachine(machine: MachineState): void {
    this.#machine = machine;
  }

  #changed(now: Date): void {
    const names = new Set<string>();
    const addresses = new Set<string>();
    for (const entry of [...this.#limits.blockHosts, ...(this.#account?.blockHosts ?? [])]) {
      const parsed = parseHost(entry.replace(/^\*?\./, ''));
      if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6')
        addresses.add(embeddedIpv4(parsed.address) ?? parsed.address);
      else if (parsed.kind !== 'invalid') names.add(parsed.name);
    }
    this.#blockedNames = names;
    this.#blockedAddresses = addresses;
    this.#lookAtHours(now);
  }

  /** Call every second or so: starts a new day or month, opens and closes the hours. */
  tick(now: Date): void {
    const month = `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, '0')}`;
    const day = `${month}-${String(now.getDate()).padStart(2, '0')}`;
    if (this.usage.day !== day) {
      this.usage.day = day;
      this.usage.dayBytes = 0;
    }
    if (this.usage.month !== month) {
      this.usage.month = month;
      this.usage.monthBytes = 0;
    }
    this.#lookAtHours(now);
    if (this.#pausedUntil !== null && now >= this.#pausedUntil) this.setPaused(false);
  }

  #lookAtHours(now: Date): void {
    const outside = (hours: DayHours | null | undefined) => hours != null && !isWithin(hours, now);
    this.#outsideHours = outside(this.#limits.hours) || outside(this.#account?.hours);
  }

  /** The owner's own switch; `until`: when it goes back by itself. */
  setPaused(paused: boolean, until: Date | null = null): void {
    this.#pausedByOwner = paused;
    this.#pausedUntil = paused ? until : null;
  }

  /** When the owner's pause ends by itself; null: it does not, or there is none. */
  get pausedUntil(): Date | null {
    return this.#pausedUntil;
  }

  /** Why nothing may be relayed although no cap is used up; null: it may. */
  get pausedBy(): PausedBy | null {
    if (this.#pausedByOwner) return 'owner';
    if (this.#outsideHours) return 'hours';
    const { network, charging } = this.#machine;
    const wifiOnly = this.#limits.wifiOnly || this.#account?.wifiOnly === true;
    if (wifiOnly && network !== 'wifi' && network !== 'ethernet') return 'wifi_only';
    const chargingOnly = this.#limits.chargingOnly || this.#account?.chargingOnly === true;
    return chargingOnly && charging === false ? 'charging_only' : null;
  }

  get paused(): boolean {
    return this.pausedBy !== null;
  }

  /** Bytes until the nearest cap, 0 at it; null without caps. */
  get capBytesLeft(): number | null {
    const { capBytesDay, capBytesMonth } = this.#limits;
    const left = [
      capBytesDay === null ? null : capBytesDay - this.usage.dayBytes,
      capBytesMonth === null ? null : capBytesMonth - this.usage.monthBytes,
      this.#accountBytesLeft,
    ].filter((bytes) => bytes !== null);
    return left.length === 0 ? null : Math.max(0, Math.min(...left));
  }

  /** Whether nothing may be relayed now. */
  get closed(): 'CAP_REACHED' | 'PAUSED' | null {
    if (this.paused) return 'PAUSED';
    return this.capBytesLeft === 0 ? 'CAP_REACHED' : null;
  }

  /** Why a new stream to the host (as asked for; null: an association) is refused, or null. */
  refusal(host: string | null): OwnerRefusal | null {
    if (this.closed !== null) return this.closed;
    if (this.#limits.streamsMax !== null && this.streamsOpen >= this.#limits.streamsMax) return 'CAP_REACHED';
    return host !== null && this.isBlockedHost(host) ? 'BLOCKED' : null;
  }

  /** Whether the owner blocks an address that a name led to, or the IPv4 address inside it. */
  isBlockedAddress(address: string): boolean {
    if (this.#blockedAddresses.size === 0) return false;
    const parsed = parseHost(address);
    if (parsed.kind !== 'ipv4' && parsed.kind !== 'ipv6') return false;
    if (this.#blockedAddresses.has(parsed.address)) return true;
    const embedded = embeddedIpv4(parsed.address);
    return embedded !== null && this.#blockedAddresses.has(embedded);
  }

  /** Counts bytes on their way up before they go on. False: the cap does not allow them, and nothing was counted. */
  countUp(bytes: number): boolean {
    if (!this.#count(bytes)) return false;
    this.bytesUp += bytes;
    this.usage.sessionBytesUp += bytes;
    return true;
  }

  /** The same for bytes on their way down. */
  countDown(bytes: number): boolean {
    if (!this.#count(bytes)) return false;
    this.bytesDown += bytes;
    this.usage.sessionBytesDown += bytes;
    return true;
  }

  /** Starts the session's counters again, unless it is the session they already belong to. */
  beginSession(sessionId: string): void {
    if (this.usage.sessionId === sessionId) return;
    this.usage.sessionId = sessionId;
    this.usage.sessionBytesUp = 0;
    this.usage.sessionBytesDown = 0;
  }

  #count(bytes: number): boolean {
    const { usage } = this;
    const { capBytesDay, capBytesMonth } = this.#limits;
    // What is left of a cap and too small for the next piece is given up: from here on the cap counts as reached
    if (capBytesDay !== null && usage.dayBytes + bytes > capBytesDay) {
      usage.dayBytes = Math.max(usage.dayBytes, capBytesDay);
      return false;
    }
    if (capBytesMonth !== null && usage.monthBytes + bytes > capBytesMonth) {
      usage.monthBytes = Math.max(usage.monthBytes, capBytesMonth);
      return false;
    }
    if (this.#accountBytesLeft !== null) {
      if (bytes > this.#accountBytesLeft) {
        this.#accountBytesLeft = 0;
        return false;
      }
      this.#accountBytesLeft -= bytes;
    }
    usage.dayBytes += bytes;
    usage.monthBytes += bytes;
    return true;
  }

  /** Whether the owner blocks the host (as asked for): its address, its name or a name above it. */
  isBlockedHost(host: string): boolean {
    const parsed = parseHost(host);
    if (parsed.kind === 'invalid') return false; // the dialler refuses it
    if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6') return this.isBlockedAddress(parsed.address);
    if (this.#blockedNames.size === 0) return false;
    for (let name = parsed.name; ; name = name.slice(name.indexOf('.') + 1)) {
      if (this.#blockedNames.has(name)) return true;
      if (!name.includes('.')) return false;
    }
  }
}

function isWithin(hours: DayHours, now: Date): boolean {
  const minute = now.getHours() * 60 + now.getMinutes();
  const { fromMinute, toMinute } = hours;
  if (fromMinute === toMinute) return true;
  if (fromMinute < toMinute) return minute >= fromMinute && minute < toMinute;
  return minute >= fromMinute || minute < toMinute;
}
