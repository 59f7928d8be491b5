import type { ProxyErrorCode, ProxyFailure } from '../errors.js';
import { type BuyerRefusals, REFUSED_SAMPLES_MAX } from '../live/usage.js';
import type { Clock } from '../runtime/clock.js';
import { Sketch } from '../runtime/sketch.js';
import type { UsageSettings } from './limits.js';

const HOUR_MS = 3_600_000;
/** Of a detail, as much as `X-TS-Error` says of it. */
const DETAIL_MAX = 64;

/** Codes that say something of the destination: who scans collects them of many. */
const OF_DESTINATIONS: ReadonlySet<ProxyErrorCode> = new Set([
  'DNS_FAIL',
  'REFUSED',
  'UNREACHABLE',
  'CONNECT_TIMEOUT',
  'TARGET_BLOCKED',
  'PORT_BLOCKED',
  'IP_PROHIBITED',
]);
/** Longest host that is told, characters. */
const HOST_MAX = 253;

/** What a refused connection was for; null: it had not said so yet. */
export type RefusedTarget = { host: string; port: number } | null;

interface Entry extends Omit<BuyerRefusals, 'targets' | 'samples'> {
  targets: Sketch | null;
  samples: string[];
}

/**
 * Counts why connections of known buyers were refused, by buyer, code and hour, until it is taken for delivery. A
 * refusal costs a look-up in a map. Without room for another buyer or code what is refused is counted as untold alone.
 * Of how many different destinations were refused a sketch is kept, 256 bytes an entry, and the first few.
 */
export class RefusalBook {
  readonly #clock: Clock;
  readonly #entriesMax: number;
  readonly #entries = new Map<string, Entry>();
  #untold = 0;

  constructor(clock: Clock, { usageRefusalEntriesMax }: Pick<UsageSettings, 'usageRefusalEntriesMax'>) {
    this.#clock = clock;
    this.#entriesMax = usageRefusalEntriesMax;
  }

  /** Entries held. */
  get size(): number {
    return this.#entries.size;
  }
  /** Refusals there was no room for, since start. */
  get untold(): number {
    return this.#untold;
  }

  refused(buyerId: string, { code, detail }: ProxyFailure, target: RefusedTarget = null): void {
    const nowMs = this.#clock.nowMs();
    const hourMs = nowMs - (nowMs % HOUR_MS);
    const key = `${buyerId} ${code} ${hourMs}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= this.#entriesMax) {
        this.#untold++;
        return;
      }
      entry = { buyerId, code, refusals: 0, lastAtMs: nowMs, lastDetail: null, targets: null, samples: [] };
      this.#entries.set(key, entry);
    }
    entry.refusals++;
    entry.lastAtMs = nowMs;
    if (detail !== undefined) entry.lastDetail = printable(detail);
    if (target !== null && OF_DESTINATIONS.has(code)) aim(entry, target);
  }

  /** Takes up to `max` entries out, the oldest first. */
  take(max: number): BuyerRefusals[] {
    const taken: BuyerRefusals[] = [];
    for (const [key, entry] of this.#entries) {
      if (taken.length >= max) break;
      const { targets, samples, ...counts } = entry;
      taken.push(targets === null ? counts : { ...counts, targets: targets.toText(), samples });
      this.#entries.delete(key);
    }
    return taken;
  }
}

function aim(entry: Entry, { host, port }: { host: string; port: number }): void {
  // The host is as the client sent it where the policy refused to read it.
  const name = `${host.slice(0, HOST_MAX).replace(/[^\x21-\x7e]/g, '?')}:${port}`;
  entry.targets ??= new Sketch();
  entry.targets.add(name);
  if (entry.samples.length < REFUSED_SAMPLES_MAX && !entry.samples.includes(name)) entry.samples.push(name);
}

/** A detail may hold what the client sent. */
function printable(detail: string): string {
  return detail.slice(0, DETAIL_MAX).replace(/[^A-Za-z0-9_. -]/g, '?');
}
