import { setTimeout as delay } from 'node:timers/promises';
import type { RouteWish } from '../allocation/candidates.js';
import type { LiveRedis } from '../live/connection.js';
import { PRESENCE_TTL_MS, SUMMARY_KEPT_MS } from '../live/keys.js';
import {
  type DeviceCounts,
  deleteSummaries,
  type GatewaySummary,
  readSummaries,
  writeSummary,
} from '../live/summaries.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import { EU_EEA_COUNTRIES } from '../runtime/origin/countries.js';
import type { Tunnel } from '../tunnels/tunnel.js';

/** How often summaries are read, and the own one is written when it has changed, ms. */
const INTERVAL_MS = 1_000;
/** Between two readings for requests that nobody known can serve, ms. */
const LOOK_AGAIN_MS = 100;

interface Seen {
  summary: GatewaySummary;
  /** When it was first seen to be as it is, monotonic ms. */
  atMs: number;
}

export interface PeerDirectoryDeps {
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  gatewayId: string;
  /** The rest of this gateway's summary, but for its beat. */
  describe: () => Omit<GatewaySummary, 'gatewayId' | 'beat'>;
  /** Workers of this gateway are reached without a link. */
  isSibling: (gatewayId: string) => boolean;
  /** No sign of life for some seconds: nothing new is asked of it, links to it stay. */
  isSilent: (gatewayId: string) => boolean;
  /** After each reading. */
  onRead: () => void;
}

/** What other gateways have, as they tell it; and tells them what this one has. */
export class PeerDirectory {
  readonly #seen = new Map<string, Seen>();
  #timer: NodeJS.Timeout | null = null;
  #beat = 0;
  #written = '';
  #writtenAtMs = Number.NEGATIVE_INFINITY;
  /** As they were written last. */
  #toldDevices: DeviceCounts = {};
  #readAtMs = Number.NEGATIVE_INFINITY;
  #working: Promise<void> | null = null;
  /** What is under way began too early for somebody. */
  #onceMore = false;
  /** A reading that has not begun. */
  #nextLook: Promise<void> | null = null;
  #failing = false;

  constructor(private readonly deps: PeerDirectoryDeps) {}

  async start(): Promise<void> {
    this.#timer ??= setInterval(() => void this.refresh(), INTERVAL_MS);
    await this.refresh();
  }

  /** From now on nobody is told of this gateway; never rejects. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    const { redis, gatewayId } = this.deps;
    await deleteSummaries(redis, [gatewayId]).catch(() => {});
  }

  /** Writes what has changed and reads what others wrote; never rejects. While Redis is away, what is known stays. */
  refresh(): Promise<void> {
    this.#working ??= this.#refresh().finally(() => {
      this.#working = null;
      if (this.#onceMore) void this.refresh();
    });
    return this.#working;
  }

  /**
   * A device has come, or shares again. Others are told at once when they know of none of its kind here: it may be the only
   * one there is, and have come from one of them, whose buyers look for it.
   */
  deviceShares({ country, networkType, status }: Pick<Tunnel, 'country' | 'networkType' | 'status'>): void {
    const [, sharing = 0] = this.#toldDevices[country]?.[networkType] ?? [];
    if (this.#timer === null || sharing > 0 || status !== 'sharing') return;
    if (this.#working === null) void this.refresh();
    else this.#onceMore = true;
  }

  /**
   * Reads what others have written by now: before a request is refused that nobody known could serve. One reading for all who
   * ask, LOOK_AGAIN_MS after the last at the soonest. Resolves to false when it could not be read; never rejects.
   */
  async lookAgain(): Promise<boolean> {
    if (this.#failing) return false;
    this.#nextLook ??= this.#look();
    await this.#nextLook;
    return !this.#failing;
  }

  async #look(): Promise<void> {
    await delay(Math.max(0, this.#readAtMs + LOOK_AGAIN_MS - this.deps.clock.monotonicMs()));
    await this.#working; // it may have read before somebody asked
    this.#nextLook = null;
    await this.refresh();
  }

  async #refresh(): Promise<void> {
    this.#onceMore = false;
    try {
      await this.#write();
      await this.#read();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.deps.log.warn({ reason: (error as Error).message }, 'gateways_not_read');
      this.#failing = true;
    }
  }

  /** Writes the own summary now, whether it has changed or not. */
  rewrite(): void {
    this.#written = '';
    void this.refresh();
  }

  /** The other gateway's summary, while it shows signs of life; null: it is not there, or takes no links. */
  get(gatewayId: string): GatewaySummary | null {
    const seen = this.#seen.get(gatewayId);
    return seen !== undefined && this.#isAlive(seen) ? seen.summary : null;
  }

  /** Whether it is there and shows that it lives. */
  canBeAsked(gatewayId: string): boolean {
    return this.get(gatewayId) !== null && !this.deps.isSilent(gatewayId);
  }

  /** Whether another gateway is there that does not drain. */
  get hasServing(): boolean {
    return [...this.#seen.values()].some((seen) => !seen.summary.draining && this.#isAlive(seen));
  }

  /**
   * Gateways that may have a device for the wish, best first: those with free ones in a random order, the likelier first
   * the more there are, then those whose devices may be in this buyer's hands already. Draining ones come last: their devices
   * are about to move, but until they have nobody else has them.
   */
  candidates(
    { country, net, fallback }: Pick<RouteWish, 'country' | 'net' | 'fallback'>,
    exclude: ReadonlySet<string>,
  ): string[] {
    const found: Array<{ gatewayId: string; key: number }> = [];
    for (const [gatewayId, seen] of this.#seen) {
      const { summary } = seen;
      if (exclude.has(gatewayId) || !this.#isAlive(seen) || this.deps.isSilent(gatewayId)) continue;
      const [free, sharing] = count(summary.devices, fallback === 'any' ? null : country, net);
      if (sharing === 0) continue;
      // Drawn as by lot with so many tickets (Efraimidis and Spirakis); all with free devices before all without.
      const lot = Math.random() ** (1 / (free || sharing));
      found.push({ gatewayId, key: lot + (free > 0 ? 1 : 0) - (summary.draining ? 2 : 0) });
    }
    return found.sort((a, b) => b.key - a.key).map(({ gatewayId }) => gatewayId);
  }

  #isAlive({ atMs }: Seen): boolean {
    return this.deps.clock.monotonicMs() - atMs < PRESENCE_TTL_MS;
  }

  async #write(): Promise<void> {
    const { redis, clock, gatewayId, describe } = this.deps;
    const summary = { gatewayId, ...describe() };
    const text = JSON.stringify(summary);
    const nowMs = clock.monotonicMs();
    if (text === this.#written && nowMs - this.#writtenAtMs < PRESENCE_TTL_MS / 3) return;
    await writeSummary(redis, { ...summary, beat: this.#beat++ });
    this.#written = text;
    this.#writtenAtMs = nowMs;
    this.#toldDevices = summary.devices;
  }

  async #read(): Promise<void> {
    const { redis, clock, gatewayId: own, isSibling, onRead } = this.deps;
    this.#readAtMs = clock.monotonicMs();
    const summaries = await readSummaries(redis);
    const nowMs = clock.monotonicMs();
    const there = new Set<string>();
    const dead: string[] = [];
    let isOwnThere = false;
    for (const summary of summaries) {
      const { gatewayId } = summary;
      isOwnThere ||= gatewayId === own;
      if (gatewayId === own || isSibling(gatewayId)) continue;
      there.add(gatewayId);
      const before = this.#seen.get(gatewayId);
      if (before?.summary.beat !== summary.beat || !samePlace(before.summary, summary))
        this.#seen.set(gatewayId, { summary, atMs: nowMs });
      else if (nowMs - before.atMs > SUMMARY_KEPT_MS) dead.push(gatewayId);
    }
    // Who leaves says that it drains before it takes its summary away. What else is missing, Redis has lost: it is written again.
    for (const [gatewayId, seen] of this.#seen)
      if (!there.has(gatewayId) && (seen.summary.draining || !this.#isAlive(seen)))
        this.#seen.delete(gatewayId);
    if (!isOwnThere) this.#written = '';
    await deleteSummaries(redis, dead);
    onRead();
  }
}

function samePlace(a: GatewaySummary, b: GatewaySummary): boolean {
  return a.host === b.host && a.port === b.port;
}

function count(
  devices: DeviceCounts,
  country: string | null,
  net: 'wifi' | 'mobile' | 'any',
): [free: number, sharing: number] {
  let free = 0;
  let sharing = 0;
  for (const [code, byNetwork] of Object.entries(devices)) {
    if (country === 'EU' ? !EU_EEA_COUNTRIES.has(code) : country !== null && code !== country) continue;
    for (const [network, [freeThere, sharingThere]] of Object.entries(byNetwork)) {
      if (net !== 'any' && network !== net) continue;
      free += freeThere;
      sharing += sharingThere;
    }
  }
  return [free, sharing];
}
