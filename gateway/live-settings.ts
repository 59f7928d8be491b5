import {
  compileDestinationPolicy,
  type DestinationPolicy,
  type DevAllow,
} from './buyers/destination-policy.js';
import type { LiveRedis } from './live/connection.js';
import type { LiveSettings } from './live/records.js';
import { readLiveSettings, readLiveSettingsMarker, readProviderPrice } from './live/store.js';
import type { Log } from './runtime/logging.js';
import { NO_ORIGIN_POLICY, OriginPolicy } from './runtime/origin/origin-policy.js';

export interface LiveSettingsDeps {
  redis: LiveRedis;
  log: Log;
  devAllow: DevAllow;
  /** The settings are others now: what was let in by the old ones has to be judged anew. */
  onChange: () => void;
}

/**
 * Prices and settings of the data path as this gateway knows them: read at start, at each change and after each
 * resync. While Redis is away the last ones stay in force.
 */
export class LiveSettingsCache {
  #settings: LiveSettings | null = null;
  /** Of the settings that are held; null: read them at the next occasion. */
  #marker: string | null = null;
  #providerPriceMicrosPerGb: string | null = null;
  #policy: DestinationPolicy;
  #originPolicy = NO_ORIGIN_POLICY;
  /** The last reading failed, and the log says so. */
  #failing = false;

  constructor(private readonly deps: LiveSettingsDeps) {
    this.#policy = compileDestinationPolicy(null, deps.devAllow);
  }

  /** Destination lists compiled for use. */
  get policy(): DestinationPolicy {
    return this.#policy;
  }
  /** What admins say of where devices may share from, compiled for use. */
  get originPolicy(): OriginPolicy {
    return this.#originPolicy;
  }
  /** The provider's price in force; null until the live state told it once. */
  get providerPriceMicrosPerGb(): string | null {
    return this.#providerPriceMicrosPerGb;
  }
  /** Versions told to devices. */
  get versions(): { policyVersion: string; termsVersion: string } {
    return {
      policyVersion: String(this.#settings?.policyVersion ?? 0),
      termsVersion: this.#settings?.termsVersion ?? '',
    };
  }

  /** Reads both again; what is missing or unreachable keeps its last value. Never rejects. */
  async refresh(): Promise<void> {
    const { log } = this.deps;
    try {
      await this.#read();
      if (this.#failing) log.info({}, 'live_settings_read_again');
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) log.warn({ error: (error as Error).message }, 'live_settings_not_read');
      this.#failing = true;
    }
  }

  async #read(): Promise<void> {
    const { redis, devAllow, onChange } = this.deps;
    const [marker, price] = await Promise.all([readLiveSettingsMarker(redis), readProviderPrice(redis)]);
    if (price) this.#providerPriceMicrosPerGb = price.microsPerGb;
    if (marker !== null && marker === this.#marker) return;
    const settings = await readLiveSettings(redis);
    if (!settings) return;
    this.#marker = marker;
    this.#settings = settings;
    this.#policy = compileDestinationPolicy(settings, devAllow);
    this.#originPolicy =
      settings.origins === undefined ? NO_ORIGIN_POLICY : new OriginPolicy(settings.origins);
    onChange();
  }
}
