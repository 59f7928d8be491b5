import { embeddedIpv4, parseHost } from '../address.js';
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
}

export const NO_OWNER_LIMITS: OwnerLimits = {
  capBytesDay: null,
  capBytesMonth: null,
  streamsMax: null,
  hours: null,
  blockHosts: [],
};

/** Why a stream is refused by the owner's rules. */
export type OwnerRefusal = 'CAP_REACHED' | 'PAUSED' | 'BLOCKED';

/** The owner's limits and the counters they are held against. One per agent, over all its tunnels. */
export class OwnerRules {
  /** Counted here, saved by the agent. */
  readonly usage: Usage;
  /** Payload bytes of this process, buyer → destination. */
  bytesUp = 0;
  /** Payload bytes of this process, destination → buyer. */
  bytesDown = 0;
  /** Streams being dialled or relayed now. */
  streamsOpen = 0;
  readonly #limits: OwnerLimits;
  readonly #blockedNames: ReadonlySet<string>;
  readonly #blockedAddresses: ReadonlySet<string>;
  #pausedByOwner = false;
  #outsideHours = false;

  constructor(limits: OwnerLimits, usage: Usage, now: Date) {
    this.#limits = limits;
    this.usage = usage;
    const names = new Set<string>();
    const addresses = new Set<string>();
    for (const entry of limits.blockHosts) {
      const parsed = parseHost(entry.replace(/^\*?\./, ''));
      if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6')
        addresses.add(embeddedIpv4(parsed.address) ?? parsed.address);
      else if (parsed.kind !== 'invalid') names.add(parsed.name);
    }
    this.#blockedNames = names;
    this.#blockedAddresses = addresses;
    this.tick(now);
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
    this.#outsideHours = this.#limits.hours !== null && !isWithin(this.#limits.hours, now);
  }

  /** The owner's own switch. */
  setPaused(paused: boolean): void {
    this.#pausedByOwner = paused;
  }

  /** Paused by the owner or by the hours. */
  get paused(): boolean {
    return this.#pausedByOwner || this.#outsideHours;
  }

  /** Bytes until the nearer cap, 0 at it; null without caps. */
  get capBytesLeft(): number | null {
    const { capBytesDay, capBytesMonth } = this.#limits;
    if (capBytesDay === null && capBytesMonth === null) return null;
    const day = capBytesDay === null ? Number.POSITIVE_INFINITY : capBytesDay - this.usage.dayBytes;
    const month = capBytesMonth === null ? Number.POSITIVE_INFINITY : capBytesMonth - this.usage.monthBytes;
    return Math.max(0, Math.min(day, month));
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
