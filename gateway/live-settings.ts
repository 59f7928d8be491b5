import {
  compileDestinationPolicy,
  type DestinationPolicy,
  type DevAllow,
} from './buyers/destination-policy.js';
import type { LiveRedis } from './live/connection.js';
import type { LiveSettings } from './live/records.js';
import { readLiveSettings, readProviderPrice } from './live/store.js';
import type { Log } from './runtime/logging.js';

/**
 * Prices and settings of the data path as this gateway knows them: read at start, at each change and after each
 * resync. While Redis is away the last ones stay in force.
 */
export class LiveSettingsCache {
  #settings: LiveSettings | null = null;
  #providerPriceMicrosPerGb: string | null = null;
  #policy: DestinationPolicy;

  constructor(private readonly deps: { redis: LiveRedis; log: Log; devAllow: DevAllow }) {
    this.#policy = compileDestinationPolicy(null, deps.devAllow);
  }

  /** Destination lists compiled for use. */
  get policy(): DestinationPolicy {
    return this.#policy;
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
    try {
      const [settings, price] = await Promise.all([
        readLiveSettings(this.deps.redis),
        readProviderPrice(this.deps.redis),
      ]);
      if (price) this.#providerPriceMicrosPerGb = price.microsPerGb;
      if (!settings || settings.version === this.#settings?.version) return;
      this.#settings = settings;
      this.#policy = compileDestinationPolicy(settings, this.deps.devAllow);
    } catch (error) {
      this.deps.log.warn({ error: (error as Error).message }, 'live_settings_not_read');
    }
  }
}
