import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import { formatMicros, parseMicros } from '../ledger/money.js';

/** What admins change without a restart. The first values come from the configuration. */
export interface BusinessSettings {
  /** Terms that must be accepted before sharing. */
  termsVersion: string;
  /** Oldest app version that may share, x.y.z. */
  minClientVersion: string;
  /** Newest app version, x.y.z. */
  appLatest: string;
  /** Size of the package offered for a sharing device, bytes. */
  offerBytes: number;
  /** What becomes of a package that a buyer pulled and did not use in its time. */
  stalePackagesBecome: 'available' | 'revoked';
  /** Price of a buyer without one of their own, micro-dollars per GB. */
  buyerPriceMicrosPerGb: bigint;
  /** How long earnings stay pending, seconds. */
  holdTimeS: number;
  /** The inviter's part of an invited provider's earnings, percent. */
  referralPercent: number;
  /** Smallest payout, micro-dollars. */
  withdrawMicrosMin: bigint;
  /** What one provider may withdraw in a UTC day, micro-dollars. */
  withdrawDayMicrosMax: bigint;
  /** Networks payouts may go over. */
  withdrawNetworks: readonly string[];
  /** Payouts up to this amount are released by themselves, micro-dollars; 0: none. Raised by two admins. */
  payoutAutoApproveMicrosMax: bigint;
  /** Payouts above this amount take two admins, micro-dollars. Raised by two admins. */
  payoutTwoAdminMicrosMin: bigint;
  /** Smallest top-up, micro-dollars. */
  topupMicrosMin: bigint;
  /** Largest top-up, micro-dollars. */
  topupMicrosMax: bigint;
  /** What a Telegram Star is worth in a top-up, micro-dollars; 0: none are taken. */
  starPriceMicros: bigint;
  /** Bytes a buyer may try once; 0: no trial. */
  trialBytes: number;
  /** Sub-users one buyer may have, closed ones not counted; above it 409. */
  subUsersMax: number;
  /** Difference in percent above which reports and meters of a session are flagged. */
  reconciliationPercent: number;
  /** Differences of fewer bytes are never flagged: counts are taken at different moments. */
  reconciliationBytesMin: number;
  /** UTC days that usage by destination host is kept; older rows are deleted. */
  destinationRetentionDays: number;
}

/** How each setting is kept in table `settings` (JSON) and told in the API. */
const codecs: {
  [K in keyof BusinessSettings]: {
    key: string;
    toJson(value: BusinessSettings[K]): unknown;
    fromJson(value: unknown): BusinessSettings[K] | undefined;
  };
} = {
  termsVersion: { key: 'terms_version', toJson: (v) => v, fromJson: textOf },
  minClientVersion: { key: 'min_client_version', toJson: (v) => v, fromJson: textOf },
  appLatest: { key: 'app_latest', toJson: (v) => v, fromJson: textOf },
  offerBytes: { key: 'offer_bytes', toJson: (v) => v, fromJson: integerOf },
  stalePackagesBecome: {
    key: 'stale_packages_become',
    toJson: (v) => v,
    fromJson: (v) => (v === 'available' || v === 'revoked' ? v : undefined),
  },
  holdTimeS: { key: 'hold_time_s', toJson: (v) => v, fromJson: integerOf },
  referralPercent: { key: 'referral_percent', toJson: (v) => v, fromJson: integerOf },
  buyerPriceMicrosPerGb: { key: 'buyer_price_per_gb', toJson: formatMicros, fromJson: microsOf },
  withdrawMicrosMin: { key: 'withdraw_min', toJson: formatMicros, fromJson: microsOf },
  withdrawDayMicrosMax: { key: 'withdraw_daily_max', toJson: formatMicros, fromJson: microsOf },
  withdrawNetworks: { key: 'withdraw_networks', toJson: (v) => v, fromJson: textsOf },
  payoutAutoApproveMicrosMax: { key: 'payout_auto_approve_max', toJson: formatMicros, fromJson: microsOf },
  payoutTwoAdminMicrosMin: { key: 'payout_two_admin_min', toJson: formatMicros, fromJson: microsOf },
  topupMicrosMin: { key: 'topup_min', toJson: formatMicros, fromJson: microsOf },
  topupMicrosMax: { key: 'topup_max', toJson: formatMicros, fromJson: microsOf },
  starPriceMicros: { key: 'star_price', toJson: formatMicros, fromJson: microsOf },
  trialBytes: { key: 'trial_bytes', toJson: (v) => v, fromJson: integerOf },
  subUsersMax: { key: 'sub_users_max', toJson: (v) => v, fromJson: integerOf },
  reconciliationPercent: { key: 'reconciliation_percent', toJson: (v) => v, fromJson: integerOf },
  reconciliationBytesMin: { key: 'reconciliation_bytes_min', toJson: (v) => v, fromJson: integerOf },
  destinationRetentionDays: { key: 'destination_retention_days', toJson: (v) => v, fromJson: integerOf },
};

function microsOf(value: unknown): bigint | undefined {
  return typeof value === 'string' ? (parseMicros(value) ?? undefined) : undefined;
}

function textsOf(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function integerOf(value: unknown): number | undefined {
  return Number.isSafeInteger(value) ? (value as number) : undefined;
}

/** The settings as the API names them. */
export function settingsJson(settings: Partial<BusinessSettings>): Record<string, unknown> {
  const json: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(settings)) {
    const codec = codecs[name as keyof BusinessSettings];
    json[codec.key] = codec.toJson(value as never);
  }
  return json;
}

/** The other way; unknown keys are the schema's business, unreadable values are left out. */
export function settingsFromJson(json: Readonly<Record<string, unknown>>): Partial<BusinessSettings> {
  const settings: Record<string, unknown> = {};
  for (const [name, codec] of Object.entries(codecs)) {
    const value = json[codec.key] === undefined ? undefined : codec.fromJson(json[codec.key]);
    if (value !== undefined) settings[name] = value;
  }
  return settings as Partial<BusinessSettings>;
}

/**
 * The business settings: what an admin set, else the configuration. `read` asks Postgres; `current` is what was
 * last read, for callers that cannot wait (at most a refresh interval old).
 */
export class SettingsStore {
  readonly #pool: pg.Pool;
  readonly #defaults: BusinessSettings;
  #current: BusinessSettings;
  #timer: NodeJS.Timeout | null = null;

  constructor(pool: pg.Pool, defaults: BusinessSettings) {
    this.#pool = pool;
    this.#defaults = defaults;
    this.#current = defaults;
  }

  current(): BusinessSettings {
    return this.#current;
  }

  async read(client: Queryable = this.#pool): Promise<BusinessSettings> {
    const { rows } = await client.query<{ key: string; value: unknown }>(
      'SELECT key, value FROM settings WHERE key = ANY ($1)',
      [Object.values(codecs).map((codec) => codec.key)],
    );
    this.#current = {
      ...this.#defaults,
      ...settingsFromJson(Object.fromEntries(rows.map((row) => [row.key, row.value]))),
    };
    return this.#current;
  }

  /** Writes what is given, in the caller's transaction. Call `read` after the commit. */
  async write(client: Queryable, changes: Partial<BusinessSettings>, adminId: string): Promise<void> {
    for (const [key, value] of Object.entries(settingsJson(changes)))
      await writeSetting(client, key, value, adminId);
  }

  /** Refreshes `current` again and again; failures leave it as it is. */
  start(intervalMs: number): void {
    this.#timer = setInterval(() => {
      this.read().catch(() => {}); // Postgres may be away for a minute; readiness tells
    }, intervalMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}

async function writeSetting(client: Queryable, key: string, value: unknown, adminId: string): Promise<void> {
  await client.query(
    `INSERT INTO settings (key, value, updated_by) VALUES ($1, $2, $3)
     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_by = EXCLUDED.updated_by, updated_at = now()`,
    [key, JSON.stringify(value), adminId],
  );
}
